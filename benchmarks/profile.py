"""Where the time goes: `python -m benchmarks.profile [--methods adain adain-lite] [--size 512] [--precision auto]`.

The share of stylizing that is convolution (matrix products included, which are Winograd's), and the products a second
beside those of one large matrix product of the same type, which is this machine's peak. Then the operators that take
longest in a training step of AdaIN, 4 pairs of 128 px, at the default precision.
"""

import argparse

import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

import adain
from adain.utils import memory
from benchmarks.timing import machine, median

CONVOLUTIONS = ("convolution", "mkldnn", "onednn", "cudnn", "bmm")
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
        dtype = ready.dtype
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


def training() -> None:
    """Print the operators of a training step, and the share of its time that each takes itself."""
    from adain.functional.losses import PerceptualLoss
    from adain.methods import AdaIN
    from adain.training.cli import AutoTrainer
    from adain.training.module import StyleTransfer
    from adain.training.muon import Muon

    task = StyleTransfer(AdaIN(upsampling="bilinear"), PerceptualLoss(reconstruction_weight=10.0))
    optimizer = Muon(task.method.parameters())
    trainer = AutoTrainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    batch = {"content": torch.rand(4, 3, 128, 128), "style": torch.rand(4, 3, 128, 128)}

    def step() -> None:
        with trainer.precision_plugin.forward_context():
            loss = task.loss.total(task(batch)[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        step()
    events = sorted(profiler.key_averages(), key=lambda event: -event.self_cpu_time_total)
    total = sum(event.self_cpu_time_total for event in events)
    print(f"\n| training step, {trainer.precision} | calls | share |\n| --- | --- | --- |")
    for event in events[:12]:
        print(f"| {event.key} | {event.count} | {event.self_cpu_time_total / total:.1%} |")


if __name__ == "__main__":
    memory.keep_freed()
    main()
    training()
