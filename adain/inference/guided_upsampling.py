"""Guided upsampling: a small image is brought to full size with the edges of a full-size guide.

After the guided filter (He, Sun & Tang 2013, section 3.5 for RGB guides) and its fast version (He & Sun 2015).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from adain.functional.statistics import box_mean
from adain.imaging.resampling import Upsampler

RADIUS = 2
"""Pixels of the small image around each pixel to which a linear function of the guide is fitted."""

EPS = 1e-3
"""Added to the variances of the guide: where it varies less, its detail is not amplified."""


@dataclass(frozen=True)
class Layer:
    """A small image and how it depends on its guide, both at the small size."""

    image: Tensor
    """(B, C, h, w)."""
    slopes: Tensor
    """(B, C, 3, h, w): by how much each channel changes with each channel of the guide."""


def fit(image: Tensor, guide: Tensor, radius: int = RADIUS, eps: float = EPS) -> Layer:
    """Fit image = slopes . guide + offset in each window of 2 `radius` + 1 pixels (He et al. 2013, eq. 19).

    Args:
        image: (B, C, h, w).
        guide: (B, 3, h, w), RGB in [0, 1].
        radius: of the windows, in pixels.
        eps: weight of the ridge penalty on the slopes.

    Returns:
        The image and the slopes, averaged over all windows that cover a pixel.
    """
    image_mean, guide_mean = box_mean(image, radius), box_mean(guide, radius)
    products = image[:, :, None] * guide[:, None]
    covariance = box_mean(products.flatten(1, 2), radius).unflatten(1, products.shape[1:3])
    covariance = covariance - image_mean[:, :, None] * guide_mean[:, None]
    slopes = _solve(_guide_covariance(guide, guide_mean, radius, eps), covariance)
    return Layer(image, box_mean(slopes.flatten(1, 2), radius).unflatten(1, slopes.shape[1:3]))


def upsample(layer: Layer, detail: Tensor, upsampler: Upsampler, rows: slice) -> Tensor:
    """Rows of the layer's image at full size: the image, enlarged, plus slopes . detail.

    Unlike in the fast guided filter, what is not linear in the guide, such as brush strokes, is kept: downsampled, the
    result is the small image again.

    Args:
        layer: what `fit` returned.
        detail: (B, 3, number of rows, W): those rows of the full-size guide, minus the small guide enlarged.
        upsampler: from the small size to the full size.
        rows: the rows of the full-size image.
    """
    result = upsampler.rows(layer.image, rows, "bicubic")
    for channel in range(3):
        slope = upsampler.rows(layer.slopes[:, :, channel], rows, "bilinear")
        result.addcmul_(slope, detail[:, channel : channel + 1])
    return result


def _guide_covariance(guide: Tensor, mean: Tensor, radius: int, eps: float) -> Tensor:
    """(B, 3, 3, h, w): covariance of the guide's channels in each window, with `eps` added to the variances."""
    products = guide[:, :, None] * guide[:, None]
    second = box_mean(products.flatten(1, 2), radius).unflatten(1, (3, 3))
    ridge = eps * torch.eye(3, dtype=guide.dtype, device=guide.device)
    return second - mean[:, :, None] * mean[:, None] + ridge[..., None, None]


def _solve(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve matrix x = right for symmetric matrices (B, 3, 3, h, w) and right sides (B, C, 3, h, w), by cofactors."""
    a, b, c = matrix.unbind(1)
    cofactors = [torch.linalg.cross(*pair, dim=1) for pair in ((b, c), (c, a), (a, b))]
    determinant = (a * cofactors[0]).sum(1, keepdim=True)
    solution = sum(right[:, :, i, None] * cofactor[:, None] for i, cofactor in enumerate(cofactors))
    assert isinstance(solution, Tensor)
    return solution / determinant[:, None]
