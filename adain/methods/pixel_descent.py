"""Gradient descent on the pixels of one image, which `Gatys` runs at each size."""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adain.methods.progress import Progress

log = logging.getLogger(__name__)

OptimizerName = Literal["lbfgs", "adam", "sgd"]

LossFn = Callable[[Tensor], Tensor]
"""Returns the weighted content, style, and total variation loss (3,) of an image (1, 3, H, W)."""

STALL_WINDOW = 10  # steps over which the decrease of the loss is measured

COARSE_TOLERANCE = 0.05  # at coarse sizes, a smaller relative decrease of the loss is not worth more steps

WARMUP_TOLERANCE = 0.003  # in bfloat16, a smaller relative decrease of the loss is not worth more steps

FIRST_STEP = 0.01
"""Mean change per pixel in the first step of L-BFGS. PyTorch's first step changes all pixels by 1 in total, which is
lost in the rounding of half precision."""

NEGLIGIBLE_LOSS = 1e-6  # a lower loss counts as an improvement, even if the start is as good


@dataclass(frozen=True)
class DescentOptions:
    """Options of a descent. `adain.methods.gatys.Gatys` documents them."""

    optimizer: OptimizerName
    lr: float | None
    history: int
    momentum: float
    steps: int
    tolerance: float
    precondition: float


def _lbfgs(offset: Tensor, options: DescentOptions) -> torch.optim.Optimizer:
    """Return an L-BFGS that does one step, with one evaluation, at a time."""
    lr = 1.0 if options.lr is None else options.lr
    return torch.optim.LBFGS(
        [offset], lr, max_iter=1, history_size=options.history, tolerance_grad=0, tolerance_change=0
    )


def _adam(offset: Tensor, options: DescentOptions) -> torch.optim.Optimizer:
    lr = 0.02 if options.lr is None else options.lr
    return torch.optim.Adam([offset], lr)


def _sgd(offset: Tensor, options: DescentOptions) -> torch.optim.Optimizer:
    lr = 1e-3 if options.lr is None else options.lr
    return torch.optim.SGD([offset], lr, options.momentum)


OPTIMIZERS: dict[OptimizerName, Callable[[Tensor, DescentOptions], torch.optim.Optimizer]] = {
    "lbfgs": _lbfgs,
    "adam": _adam,
    "sgd": _sgd,
}
"""Optimizers of the offset from the start image, by name."""


class Descent:
    """Minimizes the loss of one image at one size.

    The optimizer works on an offset. The image is the start plus the offset, weighted by `frequency_weights`. With
    `bf16_warmup`, steps run in bfloat16 until the loss stalls. Float32 follows at the final size only.

    Args:
        start: Image to start from (1, 3, H, W).
        loss_fn: The loss to minimize.
        options: Options of the descent.
        bf16_warmup: Whether to start in bfloat16.
        final_size: Whether this is the last and largest size.
        callback: Called after each step.
    """

    def __init__(
        self,
        start: Tensor,
        loss_fn: LossFn,
        options: DescentOptions,
        bf16_warmup: bool,
        final_size: bool,
        callback: Callable[[Progress], None] | None,
    ):
        self.start = start
        self.loss_fn = loss_fn
        self.options = options
        self.in_bf16 = bf16_warmup
        self.final_size = final_size
        self.callback = callback

        self.offset = torch.zeros_like(start).requires_grad_()
        self.weights = frequency_weights(start, options.precondition)
        self.optimizer = OPTIMIZERS[options.optimizer](self.offset, options)
        self.lr = self.optimizer.param_groups[0]["lr"]

        # The latest evaluation.
        self.image = start
        self.losses = start.new_zeros(4)  # total, content, style, total variation

        # The best image so far. L-BFGS may overshoot and come back.
        self.best_image = start
        self.best_loss = math.inf
        self.loss_history: list[float] = []  # the lowest loss after each step in the current precision
        self.first_total: float | None = None
        self.improved = False

    def run(self) -> tuple[Tensor, bool]:
        """Run all steps and return the best image, and whether any step improved on the start.

        Raises:
            ValueError: The loss of the start is not finite.
        """
        for step in range(1, self.options.steps + 1):
            self._set_learning_rate(step)
            self.optimizer.step(self._evaluate)  # type: ignore[arg-type]
            total, content, style, tv = self.losses.tolist()
            if not math.isfinite(total):
                self._report_divergence(step)
                break
            self._record(total)
            if self.callback:
                side = min(self.start.shape[2:])
                self.callback(Progress(step, self.options.steps, side, total, content, style, tv, self.best_image))
            if self._has_stalled():
                if not (self.in_bf16 and self.final_size):
                    break
                self._continue_in_float32()
        return self.best_image, self.improved

    def _set_learning_rate(self, step: int) -> None:
        lr = self.lr
        if step == 1 and isinstance(self.optimizer, torch.optim.LBFGS):
            lr = lr * FIRST_STEP * self.offset.numel()
        self.optimizer.param_groups[0]["lr"] = lr

    def _evaluate(self) -> Tensor:
        """Compute the losses and the gradient of the current image, and return the total loss."""
        self.optimizer.zero_grad()
        change = torch.fft.irfft2(torch.fft.rfft2(self.offset) * self.weights, s=self.start.shape[2:])
        image = self.start + change
        with torch.autocast(image.device.type, torch.bfloat16, enabled=self.in_bf16):
            losses = self.loss_fn(image)
        losses.sum().backward()
        self.image = image.detach()
        self.losses = torch.cat([losses.sum()[None], losses]).detach()
        return self.losses[0]

    def _report_divergence(self, step: int) -> None:
        """Log that the loss is not finite. Raise ValueError if no earlier image can be returned."""
        if self.best_image is self.start:
            raise ValueError(f"the loss is not finite at step {step}; lower the weights")
        log.warning("the loss is not finite at step %d; the best image before it is returned; lower lr", step)

    def _record(self, total: float) -> None:
        if self.first_total is None:
            self.first_total = total
        if total < self.first_total or total < NEGLIGIBLE_LOSS:
            self.improved = True
        if total < self.best_loss:
            self.best_loss = total
            self.best_image = self.image
        self.loss_history.append(self.best_loss)

    def _has_stalled(self) -> bool:
        """Return whether the latest steps decreased the loss by less than the tolerance."""
        tolerance = self._tolerance()
        if not tolerance or len(self.loss_history) <= STALL_WINDOW:
            return False
        before = self.loss_history[-1 - STALL_WINDOW]
        return before - self.best_loss < tolerance * before

    def _tolerance(self) -> float:
        if not self.final_size:
            return COARSE_TOLERANCE
        if self.in_bf16:
            return WARMUP_TOLERANCE
        return self.options.tolerance

    def _continue_in_float32(self) -> None:
        """Switch to float32, whose losses are not comparable to those in bfloat16."""
        self.in_bf16 = False
        self.best_loss = math.inf
        self.loss_history = []
        self.first_total = None


def frequency_weights(image: Tensor, exponent: float) -> Tensor:
    """Return 1 / frequency^exponent with a mean square of 1, (H, W / 2 + 1), in the order of `torch.fft.rfft2`.

    Images have most of their energy at low frequencies, and so do the steps that improve them. For L-BFGS, the weights
    act like a better initial estimate of the inverse Hessian.

    Args:
        image: Image (1, 3, H, W), which determines size, type, and device.
        exponent: 0 weights all frequencies equally.
    """
    height, width = image.shape[2:]
    rows = torch.fft.fftfreq(height)[:, None]
    columns = torch.fft.rfftfreq(width)
    frequency = torch.hypot(rows, columns).clamp(min=1 / max(height, width))
    weights = frequency**-exponent
    return (weights / weights.square().mean().sqrt()).to(image)
