"""The guided filter: smoothing that keeps the edges of a guide."""

from torch import Tensor

from adain.functional.statistics import at_least_float32, box_mean


def guided_filter(picture: Tensor, guide: Tensor, radius: int, eps: float = 1e-3) -> Tensor:
    """`picture` smoothed to be linear in `guide` within each window of 2 `radius` + 1 pixels (He et al. 2013, eq. 8).

    Both (B, 3, H, W); the guide is the mean of its channels. Its edges stay, and so do straight lines; what is
    painted beside them goes. A pixel depends on those at most 2 `radius` away.
    """
    guide = at_least_float32(guide).mean(1, keepdim=True)
    x = at_least_float32(picture)
    guide_mean, x_mean = box_mean(guide, radius), box_mean(x, radius)
    variance = box_mean(guide.square(), radius) - guide_mean.square()
    slope = (box_mean(guide * x, radius) - guide_mean * x_mean) / (variance + eps)
    return (box_mean(slope, radius) * guide + box_mean(x_mean - slope * guide_mean, radius)).to(picture.dtype)
