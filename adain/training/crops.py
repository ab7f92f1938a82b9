"""Random crops of images, and sources of crops that are indexed by sample."""

import itertools
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from adain.imaging import photo, reader
from adain.imaging.jpeg import Box, PlainJpeg
from adain.utils.prefetch import prefetch_map

log = logging.getLogger(__name__)

PREFETCH = 16
"""Number of crops that the decoding threads compute ahead."""

Key = tuple[int, int]
"""The seed of a run, and the number of the source. Everything that is drawn for a source is seeded by its key."""

Position = dict[str, Any]
"""Where a stream stands; it is stored in checkpoints."""


class CropSample(NamedTuple):
    """One crop of a stream."""

    crop: Tensor
    """(3, crop, crop), RGB, uint8."""
    skipped: int
    """Number of unreadable images that were skipped before this one."""
    position: Position
    """The position of the stream after this crop."""


@dataclass(frozen=True)
class Crop:
    """Cuts a random square out of an image, resizes it, and flips half of the squares horizontally.

    The squares are those of an image whose shorter side is resized to a random size, but only the pixels of the square
    are resized. A JPEG is decoded at 1/2, 1/4, or 1/8 of its size where its shorter side then still has that size.

    Attributes:
        size: Smallest and largest shorter side of the resized image in pixels, both included.
        crop: Side of the resized square in pixels.
        flip: Whether squares are flipped.
    """

    size: tuple[int, int]
    crop: int
    flip: bool = False

    def __call__(self, source: Any, rng: np.random.Generator | None) -> Tensor:
        """Return a crop of an image: (3, crop, crop), RGB, uint8, channels last in memory.

        Args:
            source: A path, the bytes of a file, a Pillow image, or a cell of a dataset, which holds a path or bytes.
            rng: Source of the random numbers; None for the center crop of the largest size, not flipped.

        Raises:
            OSError: The image cannot be read, or the cell is empty.
        """
        source = image_file(source)
        size = self.size[1] if rng is None else int(rng.integers(*self.size, endpoint=True))
        image = _open(source, size)
        width, height = image.size
        side = max(1, round(self.crop * min(width, height) / size))
        left = _offset(width - side, rng)
        top = _offset(height - side, rng)
        pixels = _decode(image, source, (left, top, left + side, top + side))
        if side != self.crop:
            # The same as Pillow's bicubic filter, but several times as fast where PyTorch has AVX2.
            pixels = F.interpolate(pixels, (self.crop, self.crop), mode="bicubic", antialias=True)
        if self.flip and rng is not None and rng.random() < 0.5:
            pixels = pixels.flip(-1)
        return pixels[0]


def image_file(image: Any) -> reader.Source:
    """Return the path or the bytes of an image, which may be a cell of a dataset.

    Raises:
        OSError: The cell is empty.
    """
    if isinstance(image, dict):
        image = image["bytes"] or image["path"]
    if image is None:
        raise OSError("expected an image in a row of the dataset, got an empty cell")
    return image


def _open(source: reader.Source, size: int) -> PlainJpeg | Image.Image:
    """Return a JPEG before it is decoded, or else the image, with a shorter side of `size` pixels or more if it has."""
    jpeg = None if isinstance(source, Image.Image) else PlainJpeg.open(source)
    if jpeg and min(jpeg.size) < 2 * size:
        return jpeg
    return reader.read(source, shrink=size)


def _decode(image: PlainJpeg | Image.Image, source: reader.Source, box: Box) -> Tensor:
    """Return the pixels of a region of an image that was opened from `source`."""
    if isinstance(image, PlainJpeg):
        try:
            return image.decode(box)
        except ValueError:
            image = reader.read(source)  # accepts more damage than simplejpeg, or says what is wrong
    return photo.as_batch(photo.image_array(image.crop(box)))


def _offset(room: int, rng: np.random.Generator | None) -> int:
    """Return an offset between 0 and `room`, both included; half of `room` without `rng`."""
    return room // 2 if rng is None else int(rng.integers(room, endpoint=True))


class IndexedCrops:
    """Crops of a source of known length, by sample index.

    Each epoch visits every image once, in a different order. A sample index past the end belongs to a later epoch.

    Args:
        images: Paths, or cells of a dataset.
        crop: The transform of an image.
        key: The seed of the order and of the crops; None for the given order and center crops.
    """

    def __init__(self, images: Any, crop: Crop, key: Key | None = None):
        self.images = images
        self.crop = crop
        self.key = key

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Return the crop of a sample, and the number of unreadable images that were skipped for it.

        Raises:
            ValueError: None of the images can be read.
        """
        count = len(self.images)
        order = range(count) if self.key is None else permutation(self.key, index // count, count)
        for skipped in range(count):
            rng = None if self.key is None else sample_rng(self.key, index)
            try:
                image = self.images[order[(index + skipped) % count]]
                return self.crop(image, rng), skipped
            except OSError as error:
                log.warning("Skipped an image: %s", error)
        raise ValueError(f"Expected readable images, got {count} that cannot be read; see the warnings above")

    def samples(
        self, rank: int, world_size: int, pool: ThreadPoolExecutor | None, position: Position | None
    ) -> Iterator[CropSample]:
        """Yield the endless share of one rank in the form of a stream.

        Args:
            rank: The rank.
            world_size: The number of ranks.
            pool: Threads that decode, or None to decode in this thread.
            position: Where to continue, or None to start at the first sample.
        """

        def load(index: int) -> tuple[Tensor, int]:
            return self[index * world_size + rank]

        start = position["index"] if position else 0
        for index, (crop, skipped) in prefetch_map(load, itertools.count(start), pool, PREFETCH):
            yield CropSample(crop, skipped, {"index": index + 1})


def sample_rng(key: Key, index: int) -> np.random.Generator:
    """Return the source of the random numbers of one crop."""
    return np.random.default_rng((*key, 0, index))


@lru_cache(maxsize=8)
def permutation(key: Key, epoch: int, count: int) -> np.ndarray:
    """Return the order of `count` images in an epoch, the same on every machine."""
    return np.random.default_rng((*key, 1, epoch + 1)).permutation(count)
