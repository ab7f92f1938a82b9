"""Covariances of features and powers of symmetric matrices, for whitening and coloring."""

from typing import Any

import torch
from torch import Tensor

from adain.functional.statistics import at_least_float32

TIE = 1e-6
"""Relative difference below which two eigenvalues count as equal, so that the derivative of the power is used."""


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
        mean: Their mean (B, C, 1), in float64.
        covariance: Their covariance (B, C, C), in float64.
        style_mean: The mean to give them (B, C, 1).
        style_root: The square root of the covariance to give them (B, C, C).
    """
    matrix = style_root.to(mean) @ symmetric_power(covariance, -0.5)
    shift = style_mean.to(mean) - matrix @ mean
    wide = at_least_float32(features)
    return (matrix.to(wide) @ wide.flatten(2) + shift.to(wide)).view(features.shape)


def symmetric_power(matrix: Tensor, exponent: float, tolerance: float = 1e-5) -> Tensor:
    """Return V diag(w^exponent) V^T of a positive semidefinite matrix V diag(w) V^T.

    Images with few pixels, and dead channels, have directions without variation. Noise in these directions must not be
    amplified, so their eigenvalues count as 0, and the powers of these are 0, also for a negative exponent.

    Args:
        matrix: Symmetric matrices (B, C, C) without negative eigenvalues.
        exponent: The power, which may be negative.
        tolerance: Eigenvalues below this fraction of the largest one count as 0.

    Returns:
        Symmetric matrices (B, C, C).
    """
    return _SymmetricPower.apply(matrix, exponent, tolerance)[0]


def _power(matrix: Tensor, exponent: float, tolerance: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return `symmetric_power`; the eigenvalues, 0 for those below the tolerance; their powers; the eigenvectors."""
    values, vectors = torch.linalg.eigh(matrix)
    floor = tolerance * values[..., -1:].clamp(min=torch.finfo(torch.float32).tiny)
    is_zero = values <= floor
    powers = torch.where(is_zero, 0.0, torch.where(is_zero, floor, values) ** exponent)
    return vectors * powers[..., None, :] @ vectors.mT, values.masked_fill(is_zero, 0), powers, vectors


class _SymmetricPower(torch.autograd.Function):
    """`_power` with the gradient of Daleckii & Krein (1965).

    In the basis of the eigenvectors, the gradient is multiplied by the difference quotients of the power.
    Autograd would differentiate the eigenvectors, which gives NaN where eigenvalues are equal, such as those of dead
    channels. Second derivatives are autograd's.
    """

    @staticmethod
    def forward(matrix: Tensor, exponent: float, tolerance: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return _power(matrix, exponent, tolerance)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: tuple[Tensor, ...]) -> None:
        matrix, ctx.exponent, ctx.tolerance = inputs
        ctx.save_for_backward(matrix, *output[1:])
        ctx.mark_non_differentiable(*output[1:])

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor, None, None]:
        matrix, values, powers, vectors = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient will be differentiated
            power = _power(matrix, ctx.exponent, ctx.tolerance)[0]
            return torch.autograd.grad(power, matrix, gradient, create_graph=True)[0], None, None
        differences = values[..., :, None] - values[..., None, :]
        sums = values[..., :, None] + values[..., None, :]
        tied = differences.abs() <= TIE * sums
        derivatives = torch.where(sums > 0, ctx.exponent * (sums / 2) ** (ctx.exponent - 1), 0.0)
        slopes = (powers[..., :, None] - powers[..., None, :]) / torch.where(tied, 1.0, differences)
        slopes = torch.where(tied, derivatives, slopes)
        inner = vectors.mT @ (gradient + gradient.mT) @ vectors / 2
        return vectors @ (slopes * inner) @ vectors.mT, None, None
