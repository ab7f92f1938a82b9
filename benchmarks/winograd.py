"""Winograd's algorithm beside PyTorch's convolution, layer by layer: `python -m benchmarks.winograd`.

The table behind `adain.functional.winograd.MEASURED`. Ratios are PyTorch's time over Winograd's, reflection padding
included: of the output; of the output and the gradient to the input; and of these and the gradient to the kernel.
"""

import argparse
import os
from collections.abc import Callable

import torch
from torch import Tensor

from adain.functional import winograd
from adain.models.layers import Conv2d
from adain.utils import memory
from adain.utils.rounding import ceil_div
from benchmarks.timing import machine, take_turns

SHAPES = [
    # batch, input and output channels, side in pixels: VGG-19 at 512 px, then at 128 px as in training
    (1, 64, 64, 512),
    (1, 64, 128, 256),
    (1, 128, 128, 256),
    (1, 128, 256, 128),
    (1, 256, 256, 128),
    (1, 256, 512, 64),
    (1, 512, 512, 64),
    (4, 64, 64, 128),
    (4, 64, 128, 64),
    (4, 128, 128, 64),
    (4, 128, 256, 32),
    (4, 256, 256, 32),
    (4, 256, 512, 16),
    (1, 256, 256, 16),
]


def ratio(call: Callable[[], object], rounds: int) -> float:
    """How many times as fast the call is with Winograd's algorithm."""

    def switched(value: str) -> Callable[[], object]:
        def run() -> None:
            os.environ["ADAIN_WINOGRAD"] = value
            call()

        return run

    times = take_turns({"on": switched("1"), "off": switched("0")}, rounds)
    return times["on"].ratio(times["off"])


def measure(layer: Conv2d, x: Tensor, rounds: int) -> list[float]:
    """The ratios of the forward pass, with the gradient to the input, and with that to the kernel."""
    layer.requires_grad_(False).to(memory_format=torch.channels_last)
    weighting = torch.ones_like(layer(x))
    ratios = [ratio(lambda: layer(x), rounds)]
    x = x.clone().requires_grad_()
    ratios.append(ratio(lambda: layer(x).backward(weighting), rounds))
    layer.requires_grad_()
    ratios.append(ratio(lambda: layer(x).backward(weighting), rounds))
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    memory.keep_freed()
    # Whatever the table says: everything is measured.
    winograd.MEASURED = {torch.backends.cpu.get_cpu_capability(): (winograd.Limits(channels=1, tiles=1),)}
    print(machine())
    print("| batch | channels | side | tiles | forward | with input gradient | with kernel gradient |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for batch, inputs, outputs, side in SHAPES:
        layer = Conv2d(inputs, outputs, 3, padding=1, padding_mode="reflect")
        x = torch.rand(batch, inputs, side, side).to(memory_format=torch.channels_last)
        found = " | ".join(f"{value:.2f}" for value in measure(layer, x, options.rounds))
        tiles = batch * ceil_div(side, winograd.TILE) ** 2
        print(f"| {batch} | {inputs} to {outputs} | {side} | {tiles} | {found} |", flush=True)


if __name__ == "__main__":
    main()
