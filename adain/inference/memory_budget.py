"""How large tiles may be, given the memory that is free."""

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor

from adain.methods import Method
from adain.models.layers import Conv2d
from adain.utils import memory
from adain.utils.errors import ContentError

log = logging.getLogger(__name__)

GIB = 2**30

DEFAULT_CPU_BUDGET = GIB
"""Bytes that stylizing on a CPU takes, unless more are allowed."""

LARGEST_TILE = 768
"""Side in pixels; larger tiles save little time and leave less memory to other processes."""

SMALLEST_TILE = 64
"""Side in pixels; with the overlap around them, smaller tiles take many times the work."""

CUDA_PIXELS = 30_000_000
"""Limit on the pixels of a batch on CUDA, whose padding refuses features of 2^31 elements: the networks have up to 64
channels at full resolution."""

RESERVE = 2**27
"""Bytes that a process on a CPU needs beside its tiles: to read and write the image, and for convolutions."""


def largest_tile(pixels: Tensor) -> int:
    """Return the side in pixels of the largest tiles for an image (B, 3, H, W)."""
    return min(LARGEST_TILE, *pixels.shape[2:])


def run_fitting(stylize: Callable[..., Tensor], tile: int | None, largest: int | None, smallest_bytes: float) -> Tensor:
    """Call `stylize` with that tile. While an accelerator runs out of memory, try again with tiles of half the size.

    Args:
        stylize: Takes the keyword argument `tile`.
        tile: Side in pixels of the first tiles; None for the whole image.
        largest: Side of the largest tiles to try after the whole image; None if the method cannot tile.
        smallest_bytes: Bytes that the smallest tiles need.

    Raises:
        ContentError: Not even the smallest tiles fit.
    """
    while True:
        try:
            return stylize(tile=tile)
        except torch.OutOfMemoryError as error:
            before = tile or largest
            if before is None:
                raise
            if before <= SMALLEST_TILE:
                raise ContentError(_too_little_memory(smallest_bytes, "the device has less")) from error
        tile = max(SMALLEST_TILE, before // 2)
        log.warning("Out of memory; trying again with tiles of %d pixels", tile)


def choose_tile(method: Method, pixels: Tensor, max_memory: float | None) -> int | None:
    """Return the side in pixels of the tiles to stylize in; None if the whole image fits into memory.

    Args:
        method: Ready to stylize.
        pixels: The content (B, 3, H, W).
        max_memory: GiB that the process may use; None for a part of what is free.

    Raises:
        ContentError: Not even the smallest tiles fit.
    """
    on_gpu = method.device.type == "cuda"
    held = 0.0
    if max_memory is None:
        limit = float(memory.free(method.device))
        budget = limit / 2 if on_gpu else min(limit / 2, DEFAULT_CPU_BUDGET)
    else:
        if not on_gpu:
            memory.return_freed()  # the gaps between retained blocks can exceed the limit
            held = memory.held() + RESERVE + pixels.nbytes + _bytes_to_cache(method)
        limit = budget = max_memory * GIB - held
    if on_gpu:
        budget = min(budget, CUDA_PIXELS * _bytes_per_pixel(method))
    if pixels[:, 0].numel() * _bytes_per_pixel(method) <= budget:
        return None
    smallest_bytes = smallest_tile_bytes(method, pixels)
    if smallest_bytes > limit:
        found = f"{limit / GIB:.2f} GiB are free" if max_memory is None else f"got --max-memory {max_memory:g}"
        raise ContentError(_too_little_memory(held + smallest_bytes, found))
    overlap = method.receptive_radius or 0
    side = int(math.sqrt(max(0, budget) / _bytes_per_pixel(method) / len(pixels))) - 2 * overlap
    return max(SMALLEST_TILE, min(side, LARGEST_TILE))


def smallest_tile_bytes(method: Method, pixels: Tensor) -> float:
    """Return the bytes that one of the smallest tiles needs, with its overlap; less if the image is smaller."""
    side = SMALLEST_TILE + 2 * (method.receptive_radius or 0)
    height, width = pixels.shape[2:]
    return len(pixels) * min(side, height) * min(side, width) * _bytes_per_pixel(method)


def _bytes_per_pixel(method: Method) -> float:
    return method.bytes_per_pixel * method.dtype.itemsize / 4


def _bytes_to_cache(method: Method) -> int:
    """Return the bytes that the first tile adds permanently, to the caches of the convolutions."""
    return sum(module.bytes_to_cache() for module in method.modules() if isinstance(module, Conv2d))


def _too_little_memory(needed: float, found: str) -> str:
    needed = math.ceil(needed / GIB * 100) / 100
    return f"tiles of {SMALLEST_TILE} pixels need {needed:.2f} GiB of memory, {found}; allow more, or a smaller --size"
