"""Keeping the content's fine luminance detail in a stylized image, so that faces stay recognizable."""

import torch
from torch import Tensor

from adain.functional import statistics
from adain.functional.statistics import box_mean
from adain.imaging import resampling
from adain.imaging.photo import to_float
from adain.imaging.resampling import Upsampler
from adain.inference import full_size
from adain.inference.strips import map_strips

SHARE = 1 / 8
"""Radius of the filter that separates detail, as a share of the shorter side."""

EPS = 0.1
"""Variance of the luminance at which the filter keeps half of an edge out of the detail."""


def keep_detail(
    stylized: Tensor,
    content: Tensor,
    amount: float,
    weight: Tensor | None = None,
    share: float = SHARE,
    eps: float = EPS,
    strip: int = resampling.STRIP,
) -> Tensor:
    """Replace the fraction `amount` of the stylized luminance detail by the content's. Colors do not change.

    Detail is the luminance minus its edge-preserving base, a self-guided filter (He et al. 2013, section 3.4), whose
    coefficients are computed at a small size (He & Sun 2015). At amount 1 the result has the content's detail over the
    stylized base. Where `stylized` equals `content` as far as the filter reaches, the result is `content` exactly.

    Args:
        stylized: (B, 3, H, W) in [0, 1], or of `torch.uint8` or `torch.uint16`; the result is alike.
        content: The same shape.
        amount: From 0 (`stylized` itself) to 1.
        weight: (1, 1, H, W), uint8: what `amount` is scaled by at each pixel, 255 for 1.
        share: Radius of the filter over the shorter side.
        eps: Regularization of the filter, a variance of luminance.
        strip: Rows that are computed at a time.
    """
    height, width = stylized.shape[2:]
    shape = full_size.work_shape(min(full_size.DEFAULT_SIZE, height, width), (height, width))
    radius = max(1, round(share * min(shape)))
    with torch.inference_mode():
        content_filter = _coefficients(_small_luminance(content, shape), radius, eps)
        stylized_filter = _coefficients(_small_luminance(stylized, shape), radius, eps)
    upsampler = Upsampler(shape, (height, width), stylized.device)

    def replace_detail(rows: slice) -> Tensor:
        stylized_rows = to_float(stylized[:, :, rows])
        content_detail = _detail(to_float(content[:, :, rows]), upsampler.rows(content_filter, rows, "bilinear"))
        stylized_detail = _detail(stylized_rows, upsampler.rows(stylized_filter, rows, "bilinear"))
        difference = amount * (content_detail - stylized_detail)
        if weight is not None:
            difference = difference * (weight[:, :, rows].to(difference) / 255)
        return stylized_rows + difference

    return map_strips(replace_detail, stylized, strip)


def _detail(image: Tensor, coefficients: Tensor) -> Tensor:
    """Return the luminance of the image minus its edge-preserving base, slope x luminance + offset: (B, 1, h, w)."""
    slope, offset = coefficients.chunk(2, dim=1)
    luminance = statistics.luminance(image)
    return luminance - (slope * luminance + offset)


def _small_luminance(image: Tensor, shape: tuple[int, int]) -> Tensor:
    return statistics.luminance(resampling.downsample(image, shape))


def _coefficients(luminance: Tensor, radius: int, eps: float) -> Tensor:
    """Return slope and offset of the self-guided filter, whose base is slope x luminance + offset: (B, 2, h, w)."""
    mean = box_mean(luminance, radius)
    variance = (box_mean(luminance.square(), radius) - mean.square()).clamp(min=0)
    slope = variance / (variance + eps)
    return torch.cat([box_mean(slope, radius), box_mean(mean - slope * mean, radius)], dim=1)
