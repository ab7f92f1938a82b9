"""Adaptive instance normalization, and the blending of features and results."""

import torch
from torch import Tensor

from adain.functional.statistics import StatisticsFn, compute_statistics, mean_std


def adain(
    content: Tensor,
    style_mean: Tensor,
    style_std: Tensor,
    statistics_fn: StatisticsFn = compute_statistics,
) -> Tensor:
    """Compute AdaIN(x, y) = std(y) (x - mean(x)) / std(x) + mean(y) (Huang & Belongie 2017, eq. 8).

    A constant channel of `content` becomes the constant `style_mean`.

    >>> content = torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)  # mean 2, standard deviation 1
    >>> adain(content, torch.tensor(10.0), torch.tensor(5.0)).flatten()
    tensor([ 5.0000, 15.0000])

    Args:
        content: Features (B, C, H, W).
        style_mean: Means (B or 1, C, 1, 1).
        style_std: Standard deviations (B or 1, C, 1, 1).
        statistics_fn: Computes the mean and standard deviation of `content`.

    Returns:
        Features with the shape and type of `content`.
    """
    mean, std = statistics_fn(mean_std, content)
    scale = style_std / std
    shift = style_mean - mean * scale
    return torch.addcmul(shift, content, scale).to(content.dtype)  # one pass over the features


def blend(a: Tensor, b: Tensor, alpha: float | Tensor) -> Tensor:
    """Return (1 - alpha) a + alpha b.

    Args:
        a: Tensor (B, ...).
        b: Tensor (B, ...).
        alpha: One number, or a tensor (B,) with one number per sample.
    """
    if isinstance(alpha, Tensor):
        alpha = alpha.to(a.dtype).view(-1, *[1] * (a.dim() - 1))
    return a.lerp(b, alpha)


def add_residual(stylized: Tensor, rebuilt: Tensor, content: Tensor, weight: float | Tensor) -> Tensor:
    """Add the part of the content that the network loses: stylized + weight (content - rebuilt).

    With `weight` = 1 - alpha, the result at alpha 0 is `content` exactly, bit for bit.

    Args:
        stylized: Result of the network (B, 3, H, W).
        rebuilt: Result of the network at alpha 0 (B, 3, H, W).
        content: Content image (B, 3, H, W).
        weight: Number in [0, 1], or a tensor that broadcasts.

    Returns:
        Image (B, 3, H, W), which is not clamped.
    """
    return (stylized - rebuilt) + torch.lerp(rebuilt, content, weight)
