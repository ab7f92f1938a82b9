"""Crops of datasets that are read as streams."""

import itertools
import logging
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from adain.training.crops import PREFETCH, Crop, CropSample, Key, Position, sample_rng
from adain.utils.prefetch import prefetch_map
from adain.utils.rounding import ceil_div

log = logging.getLogger(__name__)

Cell = dict[str, Any] | None
"""An undecoded image of a dataset: its bytes, its path, or both; None where a row has no image."""


class _Row(NamedTuple):
    """An image of the stream, before it is decoded."""

    sample_index: int
    """Counts the images of all ranks, from 1 on."""
    cell: Cell
    position: Position
    """The position of the stream after this row, with the keys `index`, `round` (the epoch), and `state`."""


class StreamedCrops:
    """Crops of a Hugging Face stream, which can continue at a position in it.

    Args:
        name: The name of the dataset, for messages.
        stream: A `datasets.IterableDataset` whose images are not decoded.
        column: The column of the images.
        shuffle_buffer: Number of images among which the stream is shuffled; 0 keeps its order.
        held_out: Images of the stream that are left out.
        crop: The transform of an image.
        key: The seed of the order and of the crops.
    """

    def __init__(
        self, name: str, stream: Any, column: str, shuffle_buffer: int, held_out: list[Cell], crop: Crop, key: Key
    ):
        self.name = name
        self.stream = stream
        self.column = column
        self.shuffle_buffer = shuffle_buffer
        self.held_out = {_checksum(cell) for cell in held_out}
        self.crop = crop
        self.key = key

    def samples(
        self, rank: int, world_size: int, pool: ThreadPoolExecutor | None, position: Position | None
    ) -> Iterator[CropSample]:
        """Yield the endless share of one rank.

        Args:
            rank: The rank.
            world_size: The number of ranks.
            pool: Threads that decode, or None to decode in this thread.
            position: Where to continue, or None to start at the first image.

        Raises:
            ValueError: There are no images for the rank, or none of an epoch can be read.
        """
        skipped = 0
        last_readable_epoch = position["round"] if position else 0
        rows = self._rows(rank, world_size, position)
        for row, crop in prefetch_map(self._load, rows, pool, PREFETCH):
            epoch = row.position["round"]
            if isinstance(crop, OSError):
                skipped += 1
                log.warning("Skipped an image: %s", crop)
                if epoch > last_readable_epoch + 1:
                    raise ValueError(
                        f"Expected readable images in {self.name}, got none in a whole epoch; see the warnings above"
                    )
                continue
            last_readable_epoch = epoch
            yield CropSample(crop, skipped, row.position)
            skipped = 0

    def _rows(self, rank: int, world_size: int, position: Position | None) -> Iterator[_Row]:
        """Yield the rows of one rank, epoch after epoch. Each epoch is shuffled in a different order."""
        from datasets.distributed import split_dataset_by_node

        stream = split_dataset_by_node(self.stream, rank, world_size)
        index = position["index"] if position else 0
        first_epoch = position["round"] if position else 0
        for epoch in itertools.count(first_epoch):
            stream.set_epoch(epoch)
            if position and epoch == first_epoch and position["state"] is not None:
                stream.load_state_dict(position["state"])
            index_before = index
            shuffle_key = (*self.key, 2, epoch, index)
            for cell, state in _shuffled(self._cells(stream), self.shuffle_buffer, shuffle_key):
                if _checksum(cell) in self.held_out:
                    continue
                index += 1
                yield _Row(index * world_size + rank, cell, {"index": index, "round": epoch, "state": state})
            if index == index_before and epoch > first_epoch:
                raise ValueError(
                    f"Expected images for each of {world_size} ranks in {self.name}, got none for rank {rank}; "
                    "use fewer ranks"
                )

    def _cells(self, stream: Any) -> Iterator[tuple[Cell, dict]]:
        """Yield the images of one epoch, each with the state of the stream after it."""
        for row in stream:
            yield row[self.column], stream.state_dict()

    def _load(self, row: _Row) -> Tensor | OSError:
        """Return the crop of a row, or the error if its image cannot be read."""
        try:
            return self.crop(row.cell, sample_rng(self.key, row.sample_index))
        except OSError as error:
            return error


def position_on_other_ranks(positions: Sequence[Position], world_size: int) -> Position:
    """Return where each rank continues a source, if it was read on another number of ranks before.

    Indexed crops continue at the next sample. Streams continue with the next epoch, because a rank cannot take over the
    share of another one in the middle of an epoch.

    Args:
        positions: The position of the source on each rank of the earlier run.
        world_size: The number of ranks now.
    """
    samples = max(position["index"] for position in positions) * len(positions)
    position: Position = {"index": ceil_div(samples, world_size)}
    if "round" in positions[0]:
        position |= {"round": 1 + max(one["round"] for one in positions), "state": None}
    return position


def _shuffled(
    cells: Iterator[tuple[Cell, dict]], buffer_size: int, key: tuple[int, ...]
) -> Iterator[tuple[Cell, dict | None]]:
    """Yield cells in a random order among `buffer_size` neighbors, each with the state after all that was read.

    A resumed run loses the cells in this buffer, and repeats none. With the shuffle buffer of `datasets`, it would read
    some rows twice.
    """
    if not buffer_size:
        yield from cells
        return
    rng = np.random.default_rng(key)
    buffer: list[Cell] = []
    state = None
    for cell, state in cells:
        buffer.append(cell)
        if len(buffer) >= buffer_size:
            yield buffer.pop(int(rng.integers(len(buffer)))), state
    for i in rng.permutation(len(buffer)):
        yield buffer[i], state


def _checksum(cell: Cell) -> int | str | None:
    """Return a value by which an image is recognized when the stream is read again."""
    if cell is None:
        return None
    return zlib.crc32(cell["bytes"]) if cell["bytes"] else cell["path"]
