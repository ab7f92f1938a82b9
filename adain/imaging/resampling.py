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
    """Yield consecutive slices of at most `rows` rows that cover `height` rows."""
    for top in range(0, height, rows):
        yield slice(top, min(top + rows, height))


def downsample(image: Tensor, shape: tuple[int, int], rows: int = STRIP) -> Tensor:
    """Reduce the image to a smaller (height, width): antialiased bicubic, (B, C, h, w), float32.

    Args:
        image: (B, C, H, W) in [0, 1], or of `torch.uint8` or `torch.uint16`.
        shape: Height and width of the result.
        rows: Rows that are converted to float32 at a time; the result does not depend on it.
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
        self.source_height = source[0]
        self.height, self.width = target
        self.device = device

    def rows(self, maps: Tensor, rows: slice, mode: Mode) -> Tensor:
        """Return the given rows of the enlarged maps: (B, C, number of rows, W)."""
        first, weights = _row_weights(self.source_height, self.height, rows, mode)
        tall = weights.to(self.device) @ maps[:, :, first : first + weights.shape[1]]
        return F.interpolate(tall, (tall.shape[2], self.width), mode=mode, antialias=True)


def _row_weights(source: int, target: int, rows: slice, mode: Mode) -> tuple[int, Tensor]:
    """Return how much each source row counts in some target rows, as in `F.interpolate` with antialiasing.

    Returns:
        The first source row that counts, and weights (number of target rows, number of source rows from there on).
    """
    scale = source / target
    width = max(scale, 1.0)  # of the filter, in source rows
    radius = width * (1 if mode == "bilinear" else 2)
    centers = (torch.arange(rows.start, rows.stop, dtype=torch.float64) + 0.5) * scale
    first = max(0, int(centers[0] - radius))
    last = min(source, int(centers[-1] + radius) + 1)
    positions = torch.arange(first, last, dtype=torch.float64) + 0.5
    distance = ((positions - centers[:, None]) / width).abs()
    weights = (1 - distance).clamp(min=0) if mode == "bilinear" else _cubic(distance)
    return first, (weights / weights.sum(1, keepdim=True)).float()


def _cubic(x: Tensor) -> Tensor:
    """Evaluate Keys' cubic kernel at distances `x`, with the parameter -0.5 that antialiased interpolation uses."""
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
