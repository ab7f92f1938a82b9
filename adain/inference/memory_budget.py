"""How large tiles may be, given the memory that is free."""

import logging
import math
from collections.abc import Callable

import torch
from torch import Tensor

from adain.methods import Method
from adain.utils import memory
from adain.utils.errors import ContentError

log = logging.getLogger(__name__)


MODEST = 2**30  # bytes that painting on a CPU takes, unless asked to take more

LARGEST_TILE = 768  # pixels; larger ones save little, and the memory is better left to others

SMALLEST_TILE = 64  # pixels; with the overlap around them, smaller ones take many times the work


def run_fitting(paint: Callable[..., Tensor], tile: int | None, largest: int | None, smallest_bytes: float) -> Tensor:
    """Call `paint` with that tile. While an accelerator runs out of memory, try again with tiles of half the size.

    `largest` bounds the first tile to try after the whole picture; None if the method cannot tile. The smallest tiles
    need `smallest_bytes`; ContentError if they do not fit.
    """
    while True:
        try:
            return paint(tile=tile)
        except torch.OutOfMemoryError as error:
            before = tile or largest
            if before is None:
                raise
            if before <= SMALLEST_TILE:
                raise ContentError(_too_little_memory(smallest_bytes, "the device has less")) from error
        tile = max(SMALLEST_TILE, before // 2)
        log.warning("out of memory; trying again with tiles of %d pixels", tile)


def choose_tile(method: Method, pixels: Tensor, max_memory: float | None, reach: int = 0) -> int | None:
    """Side in pixels of the tiles to stylize in; None if the whole picture fits into the memory.

    `reach` is how many more pixels the steps after the network look at.

    Raises:
        ContentError: not even the smallest tiles fit.
    """
    on_gpu = method.device.type == "cuda"
    held = 0.0
    if max_memory is None:
        limit = float(memory.free(method.device))
        budget = limit / 2 if on_gpu else min(limit / 2, MODEST)
    else:
        held = 0 if on_gpu else memory.held() + pixels.nbytes
        limit = budget = max_memory * 2**30 - held
    if pixels[:, 0].numel() * _bytes_per_pixel(method) <= budget:
        return None
    smallest_bytes = _tile_bytes(method, pixels, SMALLEST_TILE, reach)
    if smallest_bytes > limit:
        found = f"{limit / 2**30:.2f} GiB are free" if max_memory is None else f"got --max-memory {max_memory:g}"
        raise ContentError(_too_little_memory(held + smallest_bytes, found))
    overlap = (method.receptive_radius or 0) + reach
    side = int(math.sqrt(max(0, budget) / _bytes_per_pixel(method) / len(pixels))) - 2 * overlap
    return max(SMALLEST_TILE, min(side, LARGEST_TILE))


def _bytes_per_pixel(method: Method) -> float:
    return method.bytes_per_pixel * method.dtype.itemsize / 4


def _tile_bytes(method: Method, pixels: Tensor, tile: int, reach: int) -> float:
    """What a tile of that side needs, with the overlap around it; a picture that is smaller needs less."""
    side = tile + 2 * ((method.receptive_radius or 0) + reach)
    height, width = pixels.shape[2:]
    return len(pixels) * min(side, height) * min(side, width) * _bytes_per_pixel(method)


def _too_little_memory(needed: float, found: str) -> str:
    needed = math.ceil(needed / 2**30 * 100) / 100
    return f"tiles of {SMALLEST_TILE} pixels need {needed:.2f} GiB of memory, {found}; allow more, or a smaller --size"
