"""Gatys beside the textbook: `python -m benchmarks.optimization [--size 512] [--steps 500] [--pairs 3] [--repeats 2]`.

The textbook is plain modules, float32, NCHW, torch's own L-BFGS, from the content, at one size. It runs its steps, and
its time is that at which it reached its lowest loss. Then ours runs, coarse to fine from the content and from the
feed-forward result, until it has reached the same loss. One run, one machine, several pairs of the examples.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import adain
from adain.imaging import listing
from adain.imaging.reader import load_image
from adain.methods.gatys import Gatys
from adain.methods.progress import Progress, Stop
from adain.utils import memory
from benchmarks.textbook import PARTS, convolutions, layers
from benchmarks.timing import machine

EXAMPLES = Path(__file__).parents[1] / "examples"


class Textbook(nn.Module):
    """Gatys written plainly, in the normalized form."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Sequential(*layers(part)) for part in (*PARTS, [512, 512], [512, 512, 512, "pool", 512])
        )
        self.register_buffer("mean", torch.tensor([0.48502, 0.45796, 0.40760]).view(1, 3, 1, 1))
        self.requires_grad_(False)

    def features(self, x: Tensor) -> list[Tensor]:
        x, found = x - self.mean, []
        for part in self.parts:
            x = part(x)
            found.append(x)
        return found

    @staticmethod
    def gram(x: Tensor) -> Tensor:
        flat = x[0].flatten(1)
        return flat @ flat.T / flat.numel()

    def loss(self, x: Tensor, content: Tensor, grams: list[Tensor]) -> Tensor:
        *style, relu4_2, relu5_1 = self.features(x)
        found = [self.gram(f) for f in (*style, relu5_1)]
        return F.mse_loss(relu4_2, content) + 5 * sum((a - b).square().sum() for a, b in zip(found, grams, strict=True))

    def evaluate_loss(self, content: Tensor, style: Tensor) -> Callable[[Tensor], Tensor]:
        target = self.features(content)[4]
        grams = [self.gram(f) for i, f in enumerate(self.features(style)) if i != 4]
        return lambda x: self.loss(x, target, grams)

    def run(self, content: Tensor, style: Tensor, steps: int) -> tuple[float, float]:
        """The lowest loss, and the seconds after which it was reached."""
        evaluate_loss, start = self.evaluate_loss(content, style), time.perf_counter()
        x, losses = content.clone().requires_grad_(), []
        optimizer = torch.optim.LBFGS([x], max_iter=steps, max_eval=steps, tolerance_grad=0, tolerance_change=0)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss = evaluate_loss(x)
            loss.backward()
            losses.append((loss.item(), time.perf_counter() - start))
            return loss

        optimizer.step(closure)
        return min(losses)


def ours(
    evaluate_loss: Callable[[Tensor], float], content: Tensor, style: Tensor, target: float, steps: int, init: str
) -> float:
    """The lowest loss by the textbook's own float32; it stops where that is the target.

    As in the textbook, values are not clamped to [0, 1]; the result of `adain.stylize` is, and has a higher loss.
    """
    best = content

    def callback(progress: Progress) -> None:
        nonlocal best
        best = progress.picture
        full_size = progress.size == min(content.shape[2:])
        # The total is in the precision of the steps, so the textbook judges as well.
        if full_size and progress.total <= target and evaluate_loss(best) <= target:
            raise Stop(best)

    adain.stylize(content, style, adain.prepare(Gatys(steps=steps, init=init, callback=callback)))
    return evaluate_loss(best)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    memory.keep_freed()
    contents, styles = (listing.files(EXAMPLES / side) for side in ("content", "style"))
    pairs = list(itertools.islice(zip(itertools.cycle(contents), itertools.cycle(styles), strict=False), options.pairs))
    print(f"{machine()}; {options.size} px, {options.steps} steps")
    book = Textbook()
    for a, b in zip(convolutions(book), convolutions(Gatys().backbone), strict=True):
        a.weight.data.copy_(b.weight)
        a.bias.data.copy_(b.bias)
    print("| pair | start | textbook loss | adain loss | textbook seconds | adain seconds | speedup |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    ratios: dict[str, list[float]] = {"content": [], "adain": []}
    for content_path, style_path in pairs * options.repeats:
        content = load_image(content_path, options.size)[..., : options.size, : options.size].contiguous()
        style = load_image(style_path, options.size)
        target, theirs = book.run(content, style, options.steps)
        evaluate_loss = book.evaluate_loss(content, style)
        for init, found in ratios.items():
            start = time.perf_counter()
            reached = ours(
                lambda x, evaluate_loss=evaluate_loss: evaluate_loss(x).item(),
                content,
                style,
                target,
                options.steps,
                init,
            )
            seconds = time.perf_counter() - start
            found.append(theirs / seconds if reached <= target else 0.0)
            name = f"{content_path.stem}, {style_path.stem} | {init} | {target:.3f} | {reached:.3f}"
            ratio = f"{found[-1]:.2f}" if found[-1] else "loss not reached"
            print(f"| {name} | {theirs:.1f} | {seconds:.1f} | {ratio} |", flush=True)
    for init, found in ratios.items():
        print(f"from {init}: median {statistics.median(found):.2f}, from {min(found):.2f} to {max(found):.2f}")


if __name__ == "__main__":
    main()
