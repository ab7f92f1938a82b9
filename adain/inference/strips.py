"""Full-size images computed strip by strip, so that memory stays low."""

from collections.abc import Callable

import torch
from torch import Tensor

from adain.imaging import resampling
from adain.inference.tiling import to_dtype


def map_strips(compute: Callable[[slice], Tensor], like: Tensor, strip: int = resampling.STRIP) -> Tensor:
    """Return the image that `compute` gives in strips.

    Args:
        compute: Returns some rows of the result (B, 3, number of rows, W) in floating point, given the slice of rows.
        like: (B, 3, H, W), an image of the size, type, and device of the result.
        strip: Rows that are computed at a time.
    """
    result = torch.empty_like(like)  # outside of inference mode, so that it can be changed
    with torch.inference_mode():
        for rows in resampling.strips(like.shape[2], strip):
            result[:, :, rows].copy_(to_dtype(compute(rows), like.dtype))
    return result
