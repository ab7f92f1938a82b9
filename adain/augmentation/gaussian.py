"""A normal distribution fitted to style codes, from which new styles are drawn."""

from dataclasses import dataclass

import torch
from torch import Tensor

EXPLAINED = 0.99
"""Share of the variance of the codes that the principal components must explain."""


@dataclass(frozen=True)
class Gaussian:
    """A normal distribution of vectors along their principal components, limited to the range of the fitted vectors."""

    mean: Tensor
    """(D,)"""
    components: Tensor
    """(K, D): orthogonal directions, each with the length of one standard deviation, the longest first."""
    low: Tensor
    """(D,): the lowest value of each dimension. It keeps standard deviations in codes positive."""
    high: Tensor
    """(D,): the highest value of each dimension."""

    def draw(self, count: int) -> Tensor:
        """Draw vectors (count, D) with torch's global generator."""
        coordinates = torch.randn(count, len(self.components), dtype=torch.float32)
        drawn = self.mean.float() + coordinates @ self.components.float()
        return drawn.clamp(self.low.float(), self.high.float())


def fit(vectors: Tensor, explained: float = EXPLAINED) -> Gaussian:
    """Fit a normal distribution to vectors (N, D), with as many components as explain that share of the variance."""
    vectors = vectors.float()
    mean = vectors.mean(0)
    _, lengths, directions = torch.linalg.svd(vectors - mean, full_matrices=False)
    variances = lengths**2
    shares = variances.cumsum(0) / variances.sum().clamp(min=torch.finfo(torch.float32).tiny)
    count = int((shares < explained).sum()) + 1
    deviations = lengths[:count, None] / max(1, len(vectors) - 1) ** 0.5
    return Gaussian(mean, deviations * directions[:count], vectors.amin(0), vectors.amax(0))
