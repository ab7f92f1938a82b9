"""Sources of training images: folders, data sets, and streams."""

import itertools
import logging
import zlib
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor
from torch.utils.data import Subset

from adain.imaging import listing, photo, reader

log = logging.getLogger(__name__)


SIDES = ("content", "style")

Sample = dict[str, Any]  # content, style: crops; skipped: broken pictures passed over; position: in streams


@dataclass(frozen=True)
class Crop:
    """Resize to a shorter side within `size`, cut a square of `crop` pixels, mirror half of them."""

    size: tuple[int, int]
    crop: int
    flip: bool = False

    def __call__(self, raw: Any, rng: np.random.Generator | None) -> Tensor:
        """(3, crop, crop) from a path, bytes or a data set's cell; without `rng` the center, unmirrored.

        Raises OSError for a broken picture.
        """
        if isinstance(raw, dict):
            raw = raw["bytes"] or raw["path"]
        if raw is None:
            raise OSError("a row of the data set holds no picture")
        size = self.size[1] if rng is None else int(rng.integers(*self.size, endpoint=True))
        image = photo.resize(reader.read(raw, shrink=size), size)
        room = (image.width - self.crop, image.height - self.crop)
        left, top = (side // 2 if rng is None else int(rng.integers(side, endpoint=True)) for side in room)
        image = image.crop((left, top, left + self.crop, top + self.crop))
        if self.flip and rng is not None and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return photo.to_tensor(image)[0]


@dataclass(frozen=True)
class Source:
    """Where pictures come from; `key` seeds all that is drawn for them."""

    name: str
    split: str
    column: str
    streaming: bool
    shuffle_buffer: int
    key: tuple[int, int]

    def open(self, training: Crop, validation: Crop, held: int) -> tuple["MapSide | StreamSide", "MapSide"]:
        """The training pictures and the `held` ones kept out of them."""
        path = Path(self.name)
        if path.is_dir() and not _saved_to_disk(path) and not any(path.rglob("*.parquet")):
            pictures: Any = listing.files(path)
        else:
            dataset = self._dataset(path)
            if self.streaming:
                kept = [row[self.column] for row in dataset.take(held)]
                return StreamSide(dataset, kept, training, self), MapSide(kept, validation)
            pictures = dataset[self.column]  # read one by one, as they are asked for
        if len(pictures) <= held:
            raise ValueError(f"{self.name} holds {len(pictures)} pictures; more than the {held} held out are needed")
        order = permutation(self.key, -1, len(pictures)).tolist()
        rest = Subset(pictures, sorted(order[held:]))
        return MapSide(rest, training, self.key), MapSide(Subset(pictures, order[:held]), validation)

    def _dataset(self, path: Path) -> Any:
        import datasets  # not needed to train on folders

        try:
            if _saved_to_disk(path):
                dataset = datasets.load_from_disk(self.name)
                dataset = dataset[self.split] if isinstance(dataset, datasets.DatasetDict) else dataset
                dataset = dataset.to_iterable_dataset() if self.streaming else dataset
            elif path.exists():
                files = [str(file) for file in sorted(path.rglob("*.parquet"))] or self.name
                dataset = datasets.load_dataset("parquet", data_files=files, split="train", streaming=self.streaming)
            else:
                dataset = datasets.load_dataset(self.name, split=self.split, streaming=self.streaming)
        except (OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0]
            raise OSError(f"{self.name} is no folder here, and no data set that can be opened ({reason})") from error
        columns = [name for name, kind in (dataset.features or {}).items() if isinstance(kind, datasets.Image)]
        if dataset.features and self.column not in columns:
            raise ValueError(f"{self.name} has no pictures in a column {self.column}; choose from {', '.join(columns)}")
        # Undecoded, since a broken picture would end the stream that decodes it.
        return dataset.cast_column(self.column, datasets.Image(decode=False))


class MapSide:
    """Crops of a source with a length, by sample index; an index past the end starts the next round."""

    def __init__(self, pictures: Any, crop: Crop, key: tuple[int, int] | None = None):
        self.pictures, self.crop, self.key = pictures, crop, key

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """The crop, and how many broken pictures were passed over for it."""
        n = len(self.pictures)
        order = range(n) if self.key is None else permutation(self.key, index // n, n)
        for skipped in range(n):
            rng = self.key and np.random.default_rng((*self.key, 0, index))
            try:
                return self.crop(self.pictures[order[(index + skipped) % n]], rng), skipped
            except OSError as error:
                log.warning("skipped: %s", error)
        raise ValueError(f"none of {n} pictures can be read")

    def samples(self, rank: int, world: int, pool: ThreadPoolExecutor | None, position: dict | None) -> Iterator:
        """The rank's endless share, as a stream has it."""
        indices = itertools.count(position["index"] if position else 0)
        for index, (crop, skipped) in _ahead(pool, lambda index: self[index * world + rank], indices):
            yield crop, skipped, {"index": index + 1}


class StreamSide:
    """Crops of a Hugging Face stream, from a position in it."""

    def __init__(self, stream: Any, held: list, crop: Crop, source: Source):
        self.stream, self.crop, self.source = stream, crop, source
        self.held = {_checksum(cell) for cell in held}

    def samples(self, rank: int, world: int, pool: ThreadPoolExecutor | None, position: dict | None) -> Iterator:
        """The rank's endless share: crop, broken pictures passed over before it, position after it."""
        skipped, good = 0, position["round"] if position else 0
        for (_, _, after), (crop, error) in _ahead(pool, self._decode, self._rows(rank, world, position)):
            if crop is None:
                skipped += 1
                log.warning("skipped: %s", error)
                if after["round"] > good + 1:
                    raise ValueError(f"{self.source.name}: no picture of a whole round can be read")
            else:
                good = after["round"]
                yield crop, skipped, after
                skipped = 0

    def _rows(self, rank: int, world: int, position: dict | None) -> Iterator[tuple[int, Any, dict]]:
        """Sample index, cell and position after it, endlessly; rounds are shuffled each in its own way."""
        from datasets.distributed import split_dataset_by_node

        stream, source = split_dataset_by_node(self.stream, rank, world), self.source
        index, first = (position["index"], position["round"]) if position else (0, 0)
        for round_ in itertools.count(first):
            stream.set_epoch(round_)
            if position and round_ == first:
                stream.load_state_dict(position["state"])
            cells = ((row[source.column], stream.state_dict()) for row in stream)
            before = index
            for cell, state in _shuffled(cells, source.shuffle_buffer, (*source.key, 2, round_, index)):
                if _checksum(cell) not in self.held:
                    index += 1
                    yield index * world + rank, cell, {"index": index, "round": round_, "state": state}
            if index == before and round_ > first:
                raise ValueError(f"{source.name} has no pictures for rank {rank} of {world}")

    def _decode(self, row: tuple[int, Any, dict]) -> tuple[Tensor | None, OSError | None]:
        index, cell, _ = row
        try:
            return self.crop(cell, np.random.default_rng((*self.source.key, 0, index))), None
        except OSError as error:
            return None, error


@lru_cache(maxsize=8)
def permutation(key: tuple[int, int], round_: int, n: int) -> np.ndarray:
    """The order of `n` images in a round, the same on every machine."""
    return np.random.default_rng((*key, 1, round_ + 1)).permutation(n)


def _saved_to_disk(path: Path) -> bool:
    return (path / "state.json").exists() or (path / "dataset_dict.json").exists()


def _shuffled(cells: Iterator, size: int, key: tuple[int, ...]) -> Iterator:
    """The `(cell, state)` pairs in an order drawn among `size` neighbors, each with the state after all that was read.

    The data set's own shuffle buffer reads some rows again after a resume; this one is lost then, and repeats none.
    """
    if not size:
        yield from cells
        return
    rng, waiting, state = np.random.default_rng(key), [], None
    for cell, state in cells:
        waiting.append(cell)
        if len(waiting) >= size:
            yield waiting.pop(int(rng.integers(len(waiting)))), state
    for i in rng.permutation(len(waiting)):
        yield waiting[i], state


def _checksum(cell: dict | None) -> int | str | None:
    if cell is None:
        return None
    return zlib.crc32(cell["bytes"]) if cell["bytes"] else cell["path"]


def _ahead(pool: ThreadPoolExecutor | None, function: Callable, items: Iterator, depth: int = 16) -> Iterator:
    """`(item, function(item))` in order, computed `depth` items ahead where there is a pool."""
    if pool is None:
        yield from ((item, function(item)) for item in items)
        return
    waiting: deque = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > depth:
            done, future = waiting.popleft()
            yield done, future.result()
