"""Bicubic and bilinear resampling of large images in strips, so that memory stays low."""

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from adain.imaging.photo import to_float

Mode = Literal["bilinear", "bicubic"]

STRIP = 128
"""Rows that are processed at a time."""


def strips(height: int, rows: int = STRIP) -> Iterator[slice]:
    """Consecutive slices of at most `rows` rows that cover `height` rows."""
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def downsample(image: Tensor, shape: tuple[int, int], rows: int = STRIP) -> Tensor:
    """The image at a smaller (height, width): antialiased bicubic, (B, C, h, w), float32.

    Args:
        image: (B, C, H, W) in [0, 1], or of `torch.uint8` or `torch.uint16`.
        shape: height and width of the result.
        rows: rows that are converted to float32 at a time; the result does not depend on it.
    """
    narrow = []
    for strip in strips(image.shape[2], rows):
        part = to_float(image[:, :, strip])
        sides = part.shape[2], shape[1]
        narrow.append(F.interpolate(part, sides, mode="bicubic", antialias=True))
    return F.interpolate(torch.cat(narrow, dim=2), shape, mode="bicubic", antialias=True).clamp_(0, 1)


class Upsampler:
    """Enlarges maps (B, C, h, w) to (H, W), some rows of the result at a time."""

    def __init__(self, source: tuple[int, int], target: tuple[int, int], device: torch.device | str = "cpu"):
        self.width = target[1]
        self.weights = {mode: _row_weights(source[0], target[0], mode).to(device) for mode in ("bilinear", "bicubic")}

    def rows(self, maps: Tensor, rows: slice, mode: Mode) -> Tensor:
        """The given rows of the enlarged maps: (B, C, number of rows, W)."""
        weights = self.weights[mode][rows]
        used = weights.any(dim=0).nonzero()
        first, last = int(used.min()), int(used.max())
        tall = weights[:, first : last + 1] @ maps[:, :, first : last + 1]
        return F.interpolate(tall, (tall.shape[2], self.width), mode=mode, antialias=True)


def _row_weights(source: int, target: int, mode: Mode) -> Tensor:
    """(target, source): how much each source row counts in each target row."""
    identity = torch.eye(source)[None, None]
    return F.interpolate(identity, (target, source), mode=mode, antialias=True)[0, 0]
