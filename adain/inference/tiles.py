"""Tiles of an image: which pixels each one computes, and which it needs for that."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adain.imaging.photo import to_float
from adain.inference.regions import Window
from adain.methods import Method
from adain.utils.rounding import round_up

GRID = 8
"""Tiles start on multiples of this, or of the stride, so that a pixel of any layer falls wholly into one tile."""


@dataclass(frozen=True)
class Tile:
    """A part of an image that is computed at a time.

    Args:
        interior: Rows and columns of the result that the tile computes.
        padded: Rows and columns of the content that it needs for that.
    """

    interior: Window
    padded: Window

    def crop(self, x: Tensor, scale: int = 1) -> Tensor:
        """Return the interior of `x`, which covers the padded part at 1 / `scale` of its size."""
        windows = []
        for interior, padded in zip(self.interior, self.padded, strict=True):
            start = (interior.start - padded.start) // scale
            stop = -((padded.start - interior.stop) // scale)  # rounded up
            windows.append(slice(start, stop))
        return x[..., windows[0], windows[1]]


def split_into_tiles(height: int, width: int, tile: int | None, overlap: int, grid: int = GRID) -> Iterator[Tile]:
    """Yield the tiles that cover an image, row by row.

    Args:
        height: Height of the padded image in pixels, a multiple of the method's stride.
        width: Width of the padded image in pixels, a multiple of the method's stride.
        tile: Side of a tile's interior, rounded up to a multiple of `grid`; None for one tile.
        overlap: Pixels around the interior that a tile needs, rounded up to a multiple of `grid`.
        grid: Tiles start at multiples of this number.
    """
    step_down = height if tile is None else round_up(tile, grid)
    step_right = width if tile is None else round_up(tile, grid)
    overlap = round_up(overlap, grid)
    for top in range(0, height, step_down):
        for left in range(0, width, step_right):
            rows = slice(top, min(top + step_down, height))
            columns = slice(left, min(left + step_right, width))
            padded_rows = slice(max(0, rows.start - overlap), min(rows.stop + overlap, height))
            padded_columns = slice(max(0, columns.start - overlap), min(columns.stop + overlap, width))
            yield Tile((rows, columns), (padded_rows, padded_columns))


def padded_part(pixels: Tensor, tile: Tile, method: Method) -> Tensor:
    """Return the padded part of a tile in float32, on the method's device.

    It is reflected beyond the bottom and right of the image. `pixels` (B, 3, H, W) are in [0, 1], or of
    `torch.uint8` or `torch.uint16`.
    """
    rows, columns = tile.padded
    part = to_float(pixels[..., rows, columns].to(method.device))
    bottom = rows.stop - rows.start - part.shape[2]
    right = columns.stop - columns.start - part.shape[3]
    if bottom or right:
        mode = "reflect" if bottom < part.shape[2] and right < part.shape[3] else "replicate"
        part = F.pad(part, (0, right, 0, bottom), mode=mode)
    return part.contiguous(memory_format=torch.channels_last)
