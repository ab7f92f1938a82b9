"""Local linear models of an image: smoothing that preserves the edges of a guide (He, Sun & Tang 2013)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from adain.functional.statistics import at_least_float32, box_mean

LEAST_WEIGHT = 1e-6
"""Lower bound on the mean weight of a window. It avoids a division by 0 where all weights are 0."""


def guided_filter(image: Tensor, guide: Tensor, radius: int, eps: float = 1e-3) -> Tensor:
    """Smooth `image` so that it is linear in `guide` within each window (He et al. 2013, eq. 8).

    Edges and straight lines of the guide remain, and texture that `image` adds beside them is removed. A pixel of the
    result depends on pixels at most 2 `radius` away.

    Args:
        image: Image to smooth (B, C, H, W).
        guide: Guide image (B, C', H, W). The mean of its channels is used.
        radius: Windows have 2 `radius` + 1 pixels per side.
        eps: Added to the variance of the guide. Larger values smooth more.

    Returns:
        Image (B, 3, H, W) of the type of `image`.
    """
    guide = at_least_float32(guide).mean(1, keepdim=True)
    x = at_least_float32(image)
    guide_mean = box_mean(guide, radius)
    x_mean = box_mean(x, radius)
    variance = box_mean(guide.square(), radius) - guide_mean.square()
    slope = (box_mean(guide * x, radius) - guide_mean * x_mean) / (variance + eps)
    offset = x_mean - slope * guide_mean
    return (box_mean(slope, radius) * guide + box_mean(offset, radius)).to(image.dtype)


@dataclass(frozen=True)
class LinearModel:
    """For each pixel, an image as a linear function of an RGB guide: the sum of slopes times guide, plus the offset."""

    slopes: Tensor
    """(B, C, 3, H, W): by how much each channel changes with each channel of the guide."""
    offset: Tensor
    """(B, C, H, W)."""

    def __call__(self, guide: Tensor) -> Tensor:
        """Return the image (B, C, H, W) that the model predicts from a guide (B, 3, H, W)."""
        return (self.slopes * guide[:, None]).sum(2) + self.offset


def fit_linear(image: Tensor, guide: Tensor, radius: int, eps: float, weight: Tensor | None = None) -> LinearModel:
    """Fit image = slopes . guide + offset in the window around each pixel (He et al. 2013, eqs. 14, 15, and 19).

    The model of a pixel is the mean of those of all windows that cover it.

    Args:
        image: Image (B, C, H, W), already multiplied by `weight`.
        guide: RGB guide (B, 3, H, W).
        radius: Windows have 2 `radius` + 1 pixels per side.
        eps: Weight of the ridge penalty on the slopes, a variance of the guide.
        weight: How much each pixel counts (B or 1, 1, H, W); by default all count the same.
    """
    if weight is None:
        weight = torch.ones_like(image[:, :1])
    total = box_mean(weight, radius).clamp(min=LEAST_WEIGHT)

    def mean(weighted: Tensor) -> Tensor:
        return box_mean(weighted, radius) / total

    image_mean = mean(image)
    guide_mean = mean(weight * guide)
    products = image[:, :, None] * guide[:, None]
    products_mean = mean(products.flatten(1, 2)).unflatten(1, products.shape[1:3])
    covariance = products_mean - image_mean[:, :, None] * guide_mean[:, None]
    guide_products = guide[:, :, None] * guide[:, None]
    guide_products_mean = mean((weight[:, None] * guide_products).flatten(1, 2)).unflatten(1, (3, 3))
    guide_covariance = guide_products_mean - guide_mean[:, :, None] * guide_mean[:, None]
    ridge = eps * torch.eye(3, dtype=guide.dtype, device=guide.device)
    slopes = _solve(guide_covariance + ridge[..., None, None], covariance)
    offset = image_mean - (slopes * guide_mean[:, None]).sum(2)

    covering = box_mean(total, radius)

    def mean_of_windows(values: Tensor) -> Tensor:
        return box_mean(values * total, radius) / covering

    slopes = mean_of_windows(slopes.flatten(1, 2)).unflatten(1, slopes.shape[1:3])
    return LinearModel(slopes, mean_of_windows(offset))


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve matrix x = right for symmetric matrices (B, 3, 3, h, w) by cofactors. `right` is (B, C, 3, h, w)."""
    a, b, c = matrix.unbind(1)
    b_cross_c = torch.linalg.cross(b, c, dim=1)
    c_cross_a = torch.linalg.cross(c, a, dim=1)
    a_cross_b = torch.linalg.cross(a, b, dim=1)
    determinant = (a * b_cross_c).sum(1, keepdim=True)
    solution = right[:, :, 0, None] * b_cross_c[:, None]
    solution = solution + right[:, :, 1, None] * c_cross_a[:, None]
    solution = solution + right[:, :, 2, None] * a_cross_b[:, None]
    return solution / determinant[:, None]
