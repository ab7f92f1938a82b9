"""Guided upsampling: a small image is brought to full size with the edges of a full-size guide.

After the guided filter (He, Sun & Tang 2013, section 3.5 for RGB guides) and its fast version (He & Sun 2015).
"""

from dataclasses import dataclass

from torch import Tensor

from adain.functional.guided_filter import fit_linear
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
        radius: Of the windows, in pixels.
        eps: Weight of the ridge penalty on the slopes.

    Returns:
        The image and the slopes, averaged over all windows that cover a pixel.
    """
    return Layer(image, fit_linear(image, guide, radius, eps).slopes)


def upsample(layer: Layer, detail: Tensor, upsampler: Upsampler, rows: slice) -> Tensor:
    """Return some rows of the layer's image at full size: the enlarged image, plus slopes . detail.

    Unlike the fast guided filter, this preserves what is not linear in the guide, such as brush strokes: downsampling
    the result gives the small image again.

    Args:
        layer: What `fit` returned.
        detail: (B, 3, number of rows, W): those rows of the full-size guide, minus the small guide enlarged.
        upsampler: From the small size to the full size.
        rows: The rows of the full-size image.
    """
    return add_linear_(upsampler.rows(layer.image, rows, "bicubic"), layer.slopes, detail, upsampler, rows)


def add_linear_(result: Tensor, slopes: Tensor, guide: Tensor, upsampler: Upsampler, rows: slice) -> Tensor:
    """Add slopes . guide to `result` in place, and return it.

    Args:
        result: (B, C, number of rows, W): some rows at full size.
        slopes: (B, C, 3, h, w), at the small size.
        guide: (B, 3, number of rows, W): the same rows of the guide, or of its detail.
        upsampler: From the small size to the full size.
        rows: The rows of the full-size image.
    """
    for channel in range(3):
        slope = upsampler.rows(slopes[:, :, channel], rows, "bilinear")
        result.addcmul_(slope, guide[:, channel : channel + 1])
    return result
