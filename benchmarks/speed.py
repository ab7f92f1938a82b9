"""Training and stylising beside the textbook: `make bench`, or `python -m benchmarks.speed [--device cuda]`.

Both take turns in one run on one machine; the ratio is of medians. Before anything is timed, both must agree.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import adain
from adain.losses import PerceptualLoss
from adain.methods import AdaIN
from adain.weights import load
from benchmarks.textbook import Textbook


def both_times(ours: Callable, theirs: Callable, rounds: int, device: str) -> tuple[float, float]:
    """Median seconds of each, after one round to warm up, in turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds + 1):
        for call, seconds in zip((ours, theirs), times, strict=True):
            start = time.perf_counter()
            call()
            if device != "cpu":
                torch.cuda.synchronize()
            if i:
                seconds.append(time.perf_counter() - start)
    return statistics.median(times[0]), statistics.median(times[1])


def median(call: Callable, rounds: int = 15) -> float:
    """Seconds, after one call to warm up."""
    seconds = []
    for i in range(rounds + 1):
        start = time.perf_counter()
        call()
        if i:
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def training(device: str, rounds: int, crop: int, batch: int) -> None:
    """One step of the project's LightningModule in mixed precision, beside one of the textbook."""
    from adain.task import StyleTransfer  # Lightning, which stylising does not load

    task = StyleTransfer(AdaIN(), PerceptualLoss()).to(device)
    plain = Textbook().to(device).fill(task.method.encoder, task.method.decoder)
    content, style = (torch.rand(batch, 3, crop, crop, device=device) for _ in range(2))

    def step(loss: Callable[[], torch.Tensor], net: torch.nn.Module) -> Callable[[], torch.Tensor]:
        optimizer = torch.optim.Adam(net.parameters(), 1e-4)

        def call() -> torch.Tensor:
            value = loss()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            return value.detach()

        return call

    def mixed() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16):
            return task.loss.total(task({"content": content, "style": style})[1])

    ours, theirs = step(mixed, task.method), step(lambda: plain(content, style), plain.decoder)
    torch.testing.assert_close(ours(), theirs(), rtol=0.03, atol=0)
    a, b = both_times(ours, theirs, rounds, device)
    row(f"training, {batch} x {crop} px, bf16 | float32", a / batch, b / batch)


def stylising(device: str, rounds: int, side: int) -> None:
    """Tensors in, tensors out, at the default precision: encoding both pictures, and with the style's code kept."""
    ready = adain.prepare(load("adain"), device)
    plain = Textbook().to(device).fill(ready.encoder, ready.decoder)
    content, style = (torch.rand(1, 3, side, side, device=device) for _ in range(2))
    code = adain.encode_style(ready, style)

    @torch.no_grad()
    def theirs() -> torch.Tensor:
        return plain.stylize(content, style)

    difference = (adain.stylize(content, style, ready) - theirs().clamp(0, 1)).abs().mean()
    assert difference < 1 / 255, f"both must paint the same, but differ by {difference * 255:.2f}/255 on average"
    for name, given in (("", style), (", style kept", code)):
        row(
            f"stylising, {side} px{name}",
            *both_times(lambda g=given: adain.stylize(content, g, ready), theirs, rounds, device),
        )


def small(device: str, rounds: int, side: int) -> None:
    """adain-lite beside adain, both at the default precision."""
    content, style = (torch.rand(1, 3, side, side, device=device) for _ in range(2))
    ready = [adain.prepare(name, device) for name in ("adain-lite", "adain")]
    codes = [adain.encode_style(method, style) for method in ready]
    for name, given in (("", [style, style]), (", style kept", codes)):
        calls = [lambda m=m, g=g: adain.stylize(content, g, m) for m, g in zip(ready, given, strict=True)]
        row(f"adain-lite | adain, {side} px{name}", *both_times(*calls, rounds, device))


def start_up(rounds: int) -> None:
    """Whole processes: the help and one small picture, beside importing torch and torchvision."""
    root = Path(__file__).parents[1]
    pictures = ["--content", "examples/content/chelsea.png", "--style", "examples/style/starry_night.jpg"]
    paint = ["infer.py", *pictures, "--size", "256", "--style-size", "256", "--quiet", "--output", "out/bench.png"]

    def process(*arguments: str) -> Callable:
        return lambda: subprocess.run([sys.executable, *arguments], cwd=root, check=True, stdout=subprocess.DEVNULL)

    imports = process("-c", "import torch, torchvision")
    for name, command in (("infer.py --help", ["infer.py", "--help"]), ("infer.py, 256 px", paint)):
        row(f"{name} | import torch, torchvision", *both_times(process(*command), imports, rounds, "cpu"))


def row(name: str, ours: float, theirs: float) -> None:
    print(f"{name:46} {ours:9.4f} {theirs:9.4f} {theirs / ours:7.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    name = torch.cuda.get_device_name() if options.device != "cpu" else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, {options.device}, {name}, {platform.machine()}")
    print(f"{'seconds a picture, or a start':46} {'ours':>9} {'theirs':>9} {'ratio':>7}")
    start_up(options.rounds)
    for side in (256, 512, 1024):
        stylising(options.device, options.rounds, side)
    small(options.device, options.rounds, 512)
    for crop in (128, 256):
        training(options.device, options.rounds, crop, batch=8)
