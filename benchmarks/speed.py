"""Training and stylizing beside plain implementations: `make bench`, or `python -m benchmarks.speed`.

All take turns in one run on one machine; ratios are medians over the rounds. Before anything is timed, all must agree.
The baselines also run in the way that PyTorch's own tuning guide advises: channels last, and autocast where the
hardware computes bf16. Compare like with like: a row names its type, and the style is encoded on both sides or cached
on both.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import adain
from adain.functional.losses import PerceptualLoss
from adain.imaging import reader
from adain.methods import AdaIN
from adain.methods.weights import load
from adain.utils import memory
from adain.utils.precision import Precision, fast_half
from benchmarks.textbook import Naoto, Textbook
from benchmarks.timing import Times, machine, take_turns

ROOT = Path(__file__).parents[1]
EXAMPLES = (ROOT / "examples/content/astronaut.png", ROOT / "examples/style/wave.jpg")


def example_pair(side: int, device: str) -> list[Tensor]:
    """A photo and a painting, each (1, 3, side, side). On noise, half precision would differ more."""
    return [reader.load_image(path, side)[..., :side, :side].to(device) for path in EXAMPLES]


def tuned(device: str) -> tuple[str, Callable[[], Any]]:
    """The name of the type, and the context, in which a careful user runs the textbook."""
    if fast_half(torch.device(device)) == "bf16":
        return "bf16", lambda: torch.autocast(device.partition(":")[0], torch.bfloat16)
    return "fp32", nullcontext


def table(title: str, times: dict[str, Times], baseline: str) -> None:
    """Print the rows; the ratio is that of the baseline's time to theirs."""
    print(f"\n| {title} | seconds | from, to | speedup over {baseline} |\n| --- | --- | --- | --- |")
    for name, seconds in times.items():
        print(
            f"| {name} | {seconds.median:.3f} | {seconds.spread} | {seconds.ratio(times[baseline]):.2f} |", flush=True
        )


def stylizing(device: str, rounds: int, side: int, precisions: list[Precision]) -> None:
    """Tensors in, tensors out, with the style encoded each time, and with a cached style, on all sides."""
    like = load("adain")
    plain = Textbook().to(device).fill(like.encoder, like.decoder)
    others: dict[str, tuple[Textbook, Callable]] = {"textbook fp32": (plain, nullcontext)}
    name, context = tuned(device)
    channels_last = Textbook().to(device, memory_format=torch.channels_last).fill(like.encoder, like.decoder)
    others[f"textbook {name}, channels last"] = channels_last, context
    others["naoto0804's way, fp32"] = Naoto().to(device).fill(like.encoder, like.decoder), nullcontext
    content, style = example_pair(side, device)
    encoded, cached = dict[str, Callable](), dict[str, Callable]()
    for precision in precisions:
        ready = adain.prepare(load("adain"), device, precision)
        code = adain.encode_style(ready, style)
        label = f"adain {str(ready.dtype).removeprefix('torch.')}"
        encoded[label] = lambda ready=ready: adain.stylize(content, style, ready)
        cached[label] = lambda ready=ready, code=code: adain.stylize(content, code, ready)
    for label, (net, context) in others.items():
        given = net.encode_style(style)
        encoded[label] = lambda n=net, c=context: guarded(lambda: n.stylize(content, style), c)
        cached[label] = lambda n=net, c=context, g=given: guarded(lambda: n.decode(content, g), c)
    expected = encoded["textbook fp32"]()
    for label, call in {**encoded, **cached}.items():
        difference = (call() - expected).abs().mean().item() * 255
        assert difference < 1, f"{label} must compute the same, but differs by {difference:.2f}/255 on average"
    calls = {**encoded, **{f"{label}, style cached": call for label, call in cached.items()}}
    times = take_turns(calls, rounds, device)
    again, given = times["textbook fp32"], times["textbook fp32, style cached"]
    print(
        f"\n| stylizing, {side} px | seconds | style cached | faster | both cached | cached, textbook encodes again |"
    )
    print("| --- | --- | --- | --- | --- | --- |")
    for label in encoded:
        one, two = times[label], times[f"{label}, style cached"]
        seconds = " | ".join(f"{each.median:.3f} ({each.spread})" for each in (one, two))
        print(f"| {label} | {seconds} | {one.ratio(again):.2f} | {two.ratio(given):.2f} | {two.ratio(again):.2f} |")


@torch.no_grad()
def guarded(call: Callable[[], Tensor], context: Callable[[], Any]) -> Tensor:
    """Without gradients, in the context."""
    with context():
        return call()


def training(device: str, rounds: int, crop: int, batch: int) -> None:
    """One step of the project's LightningModule, at the default precision and in float32, beside the textbook's."""
    from adain.training.module import StyleTransfer  # Lightning, which stylizing does not load

    task = StyleTransfer(AdaIN(), PerceptualLoss()).to(device)
    plain = Textbook().to(device).fill(task.method.encoder, task.method.decoder)
    last = Textbook().to(device, memory_format=torch.channels_last).fill(task.method.encoder, task.method.decoder)
    content, style = (torch.rand(batch, 3, crop, crop, device=device) for _ in range(2))

    def step(loss: Callable[[], Tensor], net: nn.Module, context: Callable[[], Any]) -> Callable[[], Tensor]:
        optimizer = torch.optim.Adam(net.parameters(), 1e-4)

        def call() -> Tensor:
            with context():
                value = loss()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            return value.detach()

        return call

    name, context = tuned(device)

    def ours() -> Tensor:
        return task.loss.total(task({"content": content, "style": style})[1])

    calls = {"adain float32": step(ours, task.method, nullcontext)}
    if name == "bf16":
        calls = {"adain bf16": step(ours, task.method, context), **calls}
    calls["textbook fp32"] = step(lambda: plain(content, style), plain.decoder, nullcontext)
    calls[f"textbook {name}, channels last"] = step(lambda: last(content, style), last.decoder, context)
    expected = plain(content, style).detach()
    torch.testing.assert_close(ours().detach(), expected, rtol=0.03, atol=0)
    table(f"training step, {batch} x {crop} px", take_turns(calls, rounds, device), "textbook fp32")


def small(device: str, rounds: int, side: int) -> None:
    """adain-lite beside adain, both at the default precision."""
    content, style = example_pair(side, device)
    calls = dict[str, Callable]()
    for name in ("adain-lite", "adain"):
        ready = adain.prepare(name, device)
        code = adain.encode_style(ready, style)
        calls[name] = lambda ready=ready: adain.stylize(content, style, ready)
        calls[f"{name}, style cached"] = lambda ready=ready, code=code: adain.stylize(content, code, ready)
    table(f"methods, {side} px", take_turns(calls, rounds, device), "adain")


def start_up(rounds: int) -> None:
    """Whole processes: the help and one small picture, beside importing torch and torchvision."""
    pictures = ["--content", "examples/content/chelsea.png", "--style", "examples/style/starry_night.jpg"]
    stylize = ["infer.py", *pictures, "--size", "256", "--style-size", "256", "--quiet", "--output", "out/bench.png"]

    def process(*arguments: str) -> Callable:
        return lambda: subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)

    imports = "import torch, torchvision"
    calls = {"infer.py --help": process("infer.py", "--help"), "infer.py, 256 px": process(*stylize)}
    table("start", take_turns({**calls, imports: process("-c", imports)}, rounds), imports)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--precision", nargs="+", default=["auto", "fp32"], help="of ours; the same type counts once")
    parser.add_argument("--sizes", nargs="*", type=int, default=[256, 512, 1024], help="to stylize at")
    parser.add_argument("--crops", nargs="*", type=int, default=[128, 256], help="to train at")
    parser.add_argument("--batch", type=int, default=4)
    options = parser.parse_args()
    torch.manual_seed(0)
    memory.keep_freed()  # as the command line does, for all sides
    print(machine(options.device))
    if options.sizes:
        start_up(options.rounds)
    for side in options.sizes:
        stylizing(options.device, options.rounds, side, options.precision)
    if options.sizes:
        small(options.device, options.rounds, 512)
    for crop in options.crops:
        training(options.device, options.rounds, crop, options.batch)
