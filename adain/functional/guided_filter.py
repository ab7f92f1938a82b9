"""The guided filter: smoothing that preserves the edges of a guide image."""

from torch import Tensor

from adain.functional.statistics import at_least_float32, box_mean


def guided_filter(image: Tensor, guide: Tensor, radius: int, eps: float = 1e-3) -> Tensor:
    """Smooth `image` so that it is linear in `guide` within each window (He et al. 2013, eq. 8).

    Edges and straight lines of the guide remain, and texture that `image` adds beside them is removed. A pixel of the
    result depends on pixels at most 2 `radius` away.

    Args:
        image: image to smooth (B, 3, H, W).
        guide: guide image (B, 3, H, W). The mean of its channels is used.
        radius: windows have 2 `radius` + 1 pixels per side.
        eps: added to the variance of the guide. Larger values smooth more.

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
