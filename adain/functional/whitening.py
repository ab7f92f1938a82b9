"""Covariances of features and powers of symmetric matrices, for whitening and coloring."""

import torch
from torch import Tensor


def covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, C, 1) and covariance (B, C, C) of the channels over space, biased, in float64.

    Whitening divides by the roots of its smallest eigenvalues, which float32 would lose beside the largest.
    """
    flat = (features.cpu() if features.device.type == "mps" else features).flatten(2).double()
    mean = flat.mean(2, keepdim=True)
    flat = flat - mean
    return mean, flat @ flat.mT / flat.shape[2]


def symmetric_power(matrix: Tensor, exponent: float, tolerance: float = 1e-5) -> Tensor:
    """V diag(w^exponent) V^T of symmetric matrices V diag(w) V^T without negative eigenvalues, (B, C, C).

    Eigenvalues below `tolerance` times the largest count as 0, and have 0 for a power too: a picture of few pixels, or
    with dead channels, has directions in which nothing varies, and noise there must not be blown up.
    """
    values, vectors = torch.linalg.eigh(matrix)
    floor = tolerance * values[..., -1:].clamp(min=torch.finfo(torch.float32).tiny)
    powers = torch.where(values > floor, values.clamp(min=floor) ** exponent, 0.0)
    return vectors * powers[..., None, :] @ vectors.mT
