"""Adaptive instance normalization and the blending of features and results."""

import torch
from torch import Tensor

from adain.functional.statistics import StatisticsFn, compute_statistics, mean_std


def adain(
    content: Tensor,
    style_mean: Tensor,
    style_std: Tensor,
    statistics_fn: StatisticsFn = compute_statistics,
) -> Tensor:
    """AdaIN(x, y) = std(y) (x - mean(x)) / std(x) + mean(y) (Huang & Belongie 2017, eq. 8).

    `content` (B, C, H, W), `style_mean` and `style_std` (B or 1, C, 1, 1); the result has the shape and type of
    `content`. A channel of `content` that is constant comes out as the constant `style_mean`.
    """
    mean, std = statistics_fn(mean_std, content)
    scale = style_std / std
    return torch.addcmul(style_mean - mean * scale, content, scale).to(content.dtype)  # one pass over the features


def blend(a: Tensor, b: Tensor, alpha: float | Tensor) -> Tensor:
    """(1 - alpha) a + alpha b, of (B, ...); `alpha` is one number, or one for each of the batch, (B,)."""
    return a.lerp(b, alpha.to(a.dtype).view(-1, *[1] * (a.dim() - 1)) if isinstance(alpha, Tensor) else alpha)


def add_residual(stylized: Tensor, rebuilt: Tensor, content: Tensor, weight: float | Tensor) -> Tensor:
    """Add back what a network loses of the content: stylized + weight (content - rebuilt).

    `rebuilt` is the network's result at alpha 0; all three are (B, 3, H, W), and the result is not clamped. `weight` in
    [0, 1] is a number or broadcasts. With weight 1 - alpha the result at alpha 0 is `content` exactly, bit for bit.
    """
    return (stylized - rebuilt) + torch.lerp(rebuilt, content, weight)
