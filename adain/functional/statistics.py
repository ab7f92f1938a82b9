"""Statistics of feature maps: means, standard deviations, Gram matrices."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

EPS = 1e-5  # added to variances, so that dead channels divide safely

StatisticsFn = Callable[[Callable[[Tensor], Any], Tensor], Any]
"""Computes a statistic (`mean_std` or `covariance`) of features: `compute_statistics`, or a function that returns what
`adain.inference.tiling` gathered from all tiles."""


def compute_statistics(statistic: Callable[[Tensor], Any], features: Tensor) -> Any:
    """The statistic of just these features."""
    return statistic(features)


def mean_std(features: Tensor, eps: float = EPS) -> tuple[Tensor, Tensor]:
    """Per-picture, per-channel mean and standard deviation over space (Huang & Belongie 2017, eq. 5 and 6).

    `features` (B, C, H, W) of any floating type; both results (B, C, 1, 1) in float32 at least, also under autocast.
    The variance is biased and `eps` is added to it, so that dead channels divide safely.
    """
    return _MeanStd.apply(features, eps) if features.requires_grad else _statistics(features, eps)


def gram(features: Tensor) -> Tensor:
    """Gram matrices F F^T / (C H W) of (B, C, H, W): (B, C, C) in float32 at least (Johnson et al. 2016, eq. 3)."""
    with torch.autocast(features.device.type, enabled=False):
        flat = features.flatten(2)
        return _Products.apply(flat) / flat[0].numel()


class _Products(torch.autograd.Function):
    """F F^T of (B, C, N), in float32 at least.

    Its gradient (D + D^T) F is one product, in the type and the layout of F; autograd's own would be two, and a sum.
    """

    @staticmethod
    def forward(ctx: Any, flat: Tensor) -> Tensor:
        ctx.save_for_backward(flat)
        flat = at_least_float32(flat)
        return flat @ flat.mT

    @staticmethod
    def backward(ctx: Any, difference: Tensor) -> Tensor:
        (flat,) = ctx.saved_tensors
        return (flat.mT @ (difference + difference.mT).to(flat.dtype)).mT


def at_least_float32(x: Tensor) -> Tensor:
    """`x` in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _statistics(features: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    # Two plain passes: faster on a CPU than torch.var_mean, and as accurate, unlike E[x^2] - E[x]^2.
    x = at_least_float32(features)
    mean = x.mean(dim=(2, 3), keepdim=True)
    return mean, ((x - mean).square_().mean(dim=(2, 3), keepdim=True) + eps).sqrt_()


class _MeanStd(torch.autograd.Function):
    """`_statistics` with its gradient written out: autograd would take twice the passes over the features."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        mean, std = _statistics(features, eps)
        ctx.save_for_backward(features, mean, std)
        return mean, std

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mean_grad: Tensor, std_grad: Tensor) -> tuple[Tensor, None]:
        # d mean / d x = 1 / n and d std / d x = (x - mean) / (n std). The difference is taken in float32: in nearly
        # flat channels half precision would lose it, and 1 / std blow up what is left.
        features, mean, std = ctx.saved_tensors
        n = features[0, 0].numel()
        return torch.addcmul(mean_grad / n, features - mean, std_grad / (n * std)).to(features.dtype), None


def luminance(image: Tensor) -> Tensor:
    """Luminance (B, 1, H, W) of RGB (B, 3, H, W), weighted as in ITU-R BT.601, which YIQ uses."""
    weights = image.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return (image * weights).sum(1, keepdim=True)


def box_mean(values: Tensor, radius: int) -> Tensor:
    """Mean over windows of 2 `radius` + 1 pixels a side of (B, C, H, W); pixels outside of the image do not count."""
    sides = 2 * radius + 1
    values = F.avg_pool2d(values, (sides, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(values, (1, sides), 1, (0, radius), count_include_pad=False)
