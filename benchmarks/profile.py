"""Where the time goes: `python -m benchmarks.profile [--methods adain adain-lite] [--size 512] [--precision auto]`.

The share of stylising that is convolution, and the products a second beside those of one large matrix product of the
same type, which is this machine's peak.
"""

import argparse

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import adain
from benchmarks.timing import machine, median

CONVOLUTIONS = ("convolution", "mkldnn", "onednn", "cudnn")
ROUNDS = 7


def main() -> None:
    """Print a row for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["adain", "adain-lite"])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    print(f"{machine()}; {options.size} px, style cached")
    print("| method | type | seconds | convolution | GFLOP/s | of the peak |\n| --- | --- | --- | --- | --- | --- |")
    for name in options.methods:
        ready = adain.prepare(name, "cpu", options.precision)
        dtype = ready.like().dtype
        content, code = torch.rand(1, 3, options.size, options.size), adain.encode_style(ready, torch.rand(3, 256, 256))

        def stylize(content=content, code=code, ready=ready) -> object:  # type: ignore[no-untyped-def]
            return adain.stylize(content, code, ready)

        taken = median(stylize, ROUNDS)
        with FlopCounterMode(display=False) as counter:
            stylize()
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            stylize()
        events = profiler.key_averages()
        convolving = sum(e.self_cpu_time_total for e in events if any(word in e.key for word in CONVOLUTIONS))
        share = convolving / sum(event.self_cpu_time_total for event in events)
        square = torch.rand(4096, 4096).to(dtype)
        peak = 2 * 4096**3 / median(lambda square=square: square @ square, ROUNDS)
        rate = counter.get_total_flops() / taken
        cells = f"{taken:.3f} | {share:.0%} | {rate / 1e9:.0f} | {rate / peak:.0%}"
        print(f"| {name} | {str(dtype).removeprefix('torch.')} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
