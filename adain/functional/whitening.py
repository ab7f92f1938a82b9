"""Covariances of features and powers of symmetric matrices, for whitening and coloring."""

import torch
from torch import Tensor

from adain.functional.statistics import at_least_float32


def covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean (B, C, 1) and the biased covariance (B, C, C) of the channels over space.

    Both are in float64. Whitening divides by the square roots of the smallest eigenvalues, which float32 would lose
    next to the largest ones.
    """
    if features.device.type == "mps":  # has no float64
        features = features.cpu()
    flat = features.flatten(2).double()
    mean = flat.mean(2, keepdim=True)
    flat = flat - mean
    return mean, flat @ flat.mT / flat.shape[2]


def whiten_and_color(
    features: Tensor, mean: Tensor, covariance: Tensor, style_mean: Tensor, style_root: Tensor
) -> Tensor:
    """Give features another mean and covariance, by one matrix product with the channels of each pixel.

    Args:
        features: (B, C, H, W).
        mean: their mean (B, C, 1), in float64.
        covariance: their covariance (B, C, C), in float64.
        style_mean: the mean to give them (B, C, 1).
        style_root: the square root of the covariance to give them (B, C, C).
    """
    matrix = style_root.to(mean) @ symmetric_power(covariance, -0.5)
    shift = style_mean.to(mean) - matrix @ mean
    wide = at_least_float32(features)
    return (matrix.to(wide) @ wide.flatten(2) + shift.to(wide)).view(features.shape)


def symmetric_power(matrix: Tensor, exponent: float, tolerance: float = 1e-5) -> Tensor:
    """Return V diag(w^exponent) V^T of a positive semidefinite matrix V diag(w) V^T.

    Images with few pixels, and dead channels, have directions without variation. Noise in these directions must not be
    amplified, so their eigenvalues count as 0, and the powers of them are 0 as well.

    Args:
        matrix: symmetric matrices (B, C, C) without negative eigenvalues.
        exponent: the power, which may be negative.
        tolerance: eigenvalues below this fraction of the largest one count as 0.

    Returns:
        Symmetric matrices (B, C, C).
    """
    values, vectors = torch.linalg.eigh(matrix)
    floor = tolerance * values[..., -1:].clamp(min=torch.finfo(torch.float32).tiny)
    powers = torch.where(values > floor, values.clamp(min=floor) ** exponent, 0.0)
    return vectors * powers[..., None, :] @ vectors.mT
