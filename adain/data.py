"""Training pictures: pairs of crops from folders and data sets, the same on every machine and after a resume."""

import itertools
import logging
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler, Subset

from adain import images

log = logging.getLogger(__name__)

SIDES = ("content", "style")
Sample = dict[str, Any]  # content, style: crops; skipped: broken pictures passed over; position: in streams


class Pictures(LightningDataModule):
    """Endless batches `{"content", "style", "skipped"}`: crops (B, 3, crop, crop), RGB in [0, 1].

    Which picture is drawn and how it is cropped is a function of (seed, sample index) alone. So a resumed run
    continues exactly, whatever the number of workers; each rank takes its own part. Every picture of a source comes
    once before any comes again. Broken pictures are passed over, logged, and counted in `skipped`.

    Streams: each rank reads with one process, which decodes with `workers` threads, and the position travels with
    the batch into the checkpoint. An unshuffled stream continues exactly. A shuffled one continues without
    repeating what it saw in that round, but loses the pictures that lay in its buffer.

    Args:
        content: a folder (nested, any picture format), a local data set (a parquet file, or a folder of them or of
            `save_to_disk`), or the name of a data set on the Hugging Face hub.
        style: the same for the style pictures; null for none, and batches without.
        split: of a data set from the hub.
        column: of a data set, the one that holds the pictures.
        streaming: read data sets as streams instead of preparing a copy on disk.
        shuffle_buffer: pictures among which a stream is shuffled; 0 keeps its order.
        size: pictures are resized, aspect kept, to a shorter side drawn from this range of pixels.
        crop: side of the random crop in pixels.
        flip: mirror half of the crops.
        batch_size: pairs in a batch, on each rank.
        styles_per_content: pairs that share a content, and a style: batches come from `batch_size` divided by this
            pictures of each kind, which the loss network encodes once.
        val_pairs: pairs held out of training: the same ones in every run with this seed, as centre crops.
        workers: processes that decode; 0 decodes in the training process.
        seed: of everything drawn here.

    Raises:
        ValueError: sizes that do not fit each other, a folder without pictures, a missing column.
        OSError: a data set that cannot be opened.
    """

    def __init__(
        self,
        content: str = "detection-datasets/coco",
        style: str | None = "huggan/wikiart",
        split: str = "train",
        column: str = "image",
        streaming: bool = False,
        shuffle_buffer: int = 1000,
        size: tuple[int, int] = (512, 512),
        crop: int = 256,
        flip: bool = True,
        batch_size: int = 8,
        styles_per_content: int = 1,
        val_pairs: int = 8,
        workers: int = 4,
        seed: int = 0,
    ):
        super().__init__()
        if not 0 < crop <= size[0] <= size[1]:
            raise ValueError(f"crop {crop} and size {list(size)} do not fit: crop <= smallest size <= largest size")
        if styles_per_content < 1 or batch_size % styles_per_content or styles_per_content**2 > batch_size:
            raise ValueError(
                f"Expected a batch_size that is a multiple of styles_per_content and at least its square, got "
                f"{batch_size} and {styles_per_content}; choose another batch_size"
            )
        if style is None and styles_per_content > 1:
            raise ValueError("Expected styles_per_content 1 without style pictures; leave it out")
        self.sources = [
            Source(name, split, column, streaming, shuffle_buffer, (seed, key))
            for key, name in enumerate((content, style))
            if name is not None
        ]
        self.training_crop = Crop(size, crop, flip)
        self.validation_crop = Crop((size[0], size[0]), crop)
        self.val_pairs, self.workers = val_pairs, workers
        self.pictures, self.styles_per_content = batch_size // styles_per_content, styles_per_content
        self.position: Any = None  # of streams, after the last batch trained on
        self._resumed: list | None = None  # the same of every rank, from a checkpoint

    def setup(self, stage: str | None = None) -> None:
        """Open both sources and hold the validation pictures out of them."""
        sides = [source.open(self.training_crop, self.validation_crop, self.val_pairs) for source in self.sources]
        self.training, self.validation = zip(*sides, strict=True)

    def train_dataloader(self) -> DataLoader:
        """Batches from where the run stood that a checkpoint came from."""
        trainer: Any = self.trainer
        rank, world = trainer.global_rank, trainer.world_size
        if self._resumed and len(self._resumed) != world:
            raise ValueError(f"this checkpoint's run had {len(self._resumed)} ranks, not {world}; use as many")
        if all(isinstance(side, MapSide) for side in self.training):
            done = trainer.fit_loop.epoch_loop.batch_progress.total.processed
            batches = EndlessBatches(self.pictures, rank, world, done)
            return _loader(MapPairs(self.training), self.workers, self.styles_per_content, batch_sampler=batches)
        self.position = self._resumed[rank] if self._resumed else None
        pairs = StreamPairs(self.training, rank, world, self.workers, self.position)
        return _loader(pairs, min(self.workers, 1), self.styles_per_content, batch_size=self.pictures)

    def val_dataloader(self) -> DataLoader:
        """The pairs held out, in one batch."""
        return _loader(MapPairs(self.validation), 0, batch_sampler=[range(self.val_pairs)] if self.val_pairs else [])

    def state_dict(self) -> dict:
        """The position of every rank's streams, and what the count of batches means."""
        positions = [self.position]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            positions *= torch.distributed.get_world_size()
            torch.distributed.all_gather_object(positions, self.position)
        return {"position": positions, "batch_size": self.pictures}

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue from there; ValueError unless the batches are shared out as they were."""
        self._resumed, batch_size = state_dict["position"], state_dict["batch_size"]
        if batch_size != self.pictures:
            raise ValueError(
                f"this checkpoint's run drew {batch_size} pictures of each kind for a batch, not {self.pictures}; "
                "use its batch_size and styles_per_content"
            )


@dataclass(frozen=True)
class Crop:
    """Resize to a shorter side within `size`, cut a square of `crop` pixels, mirror half of them."""

    size: tuple[int, int]
    crop: int
    flip: bool = False

    def __call__(self, raw: Any, rng: np.random.Generator | None) -> Tensor:
        """(3, crop, crop) from a path, bytes or a data set's cell; without `rng` the centre, unmirrored.

        Raises OSError for a broken picture.
        """
        if isinstance(raw, dict):
            raw = raw["bytes"] or raw["path"]
        if raw is None:
            raise OSError("a row of the data set holds no picture")
        size = self.size[1] if rng is None else int(rng.integers(*self.size, endpoint=True))
        image = images.resize(images.read(raw, shrink=size), size)
        room = (image.width - self.crop, image.height - self.crop)
        left, top = (side // 2 if rng is None else int(rng.integers(side, endpoint=True)) for side in room)
        image = image.crop((left, top, left + self.crop, top + self.crop))
        if self.flip and rng is not None and rng.random() < 0.5:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return images.to_tensor(image)[0]


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
            pictures: Any = images.files(path)
        else:
            dataset = self._dataset(path)
            if self.streaming:
                kept = [row[self.column] for row in dataset.take(held)]
                return StreamSide(dataset, kept, training, self), MapSide(kept, validation)
            pictures = dataset[self.column]  # read one by one, as they are asked for
        if len(pictures) <= held:
            raise ValueError(f"{self.name} holds {len(pictures)} pictures; more than the {held} held out are needed")
        order = _permutation(self.key, -1, len(pictures)).tolist()
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
        order = range(n) if self.key is None else _permutation(self.key, index // n, n)
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


class MapPairs(Dataset):
    """Pairs by sample index."""

    def __init__(self, sides: Sequence[MapSide]):
        self.sides = sides

    def __getitem__(self, index: int) -> Sample:
        return _sample(side[index] for side in self.sides)


class StreamPairs(IterableDataset):
    """Pairs in the order of streams, with the position after each."""

    def __init__(self, sides: Sequence, rank: int, world: int, threads: int, position: Any):
        self.sides, self.rank, self.world, self.threads, self.position = sides, rank, world, threads, position

    def __iter__(self) -> Iterator[Sample]:
        pool = ThreadPoolExecutor(self.threads) if self.threads else None
        positions = self.position or [None] * len(self.sides)
        sides = (side.samples(self.rank, self.world, pool, at) for side, at in zip(self.sides, positions, strict=True))
        for drawn in zip(*sides, strict=False):
            yield _sample(one[:2] for one in drawn) | {"position": tuple(after for _, _, after in drawn)}


class EndlessBatches(Sampler[list[int]]):
    """Batch k of a rank holds the sample indices from (k world + rank) batch_size on."""

    def __init__(self, batch_size: int, rank: int = 0, world: int = 1, start: int = 0):
        self.batch_size, self.rank, self.world, self.start = batch_size, rank, world, start

    def __iter__(self) -> Iterator[list[int]]:
        for k in itertools.count(self.start):
            first = (k * self.world + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


@lru_cache(maxsize=8)
def _permutation(key: tuple[int, int], round_: int, n: int) -> np.ndarray:
    return np.random.default_rng((*key, 1, round_ + 1)).permutation(n)


def _saved_to_disk(path: Path) -> bool:
    return (path / "state.json").exists() or (path / "dataset_dict.json").exists()


def _shuffled(cells: Iterator, size: int, key: tuple[int, ...]) -> Iterator:
    """The `(cell, state)` pairs in an order drawn among `size` neighbours, each with the state after all that was read.

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


def _sample(sides: Iterable[tuple[Tensor, int]]) -> Sample:
    """Crops, and how many broken pictures were passed over for them, of the content and, if there is one, the style."""
    crops, skipped = zip(*sides, strict=True)
    return {**dict(zip(SIDES, crops, strict=False)), "skipped": sum(skipped)}


def _collate(samples: list[Sample], styles_per_content: int) -> Sample:
    batch: Sample = {side: torch.stack([sample[side] for sample in samples]) for side in SIDES if side in samples[0]}
    batch["styles_per_content"] = styles_per_content
    batch["skipped"] = sum(sample["skipped"] for sample in samples)
    if "position" in samples[-1]:
        batch["position"] = samples[-1]["position"]
    return batch


def _loader(pairs: Dataset, workers: int, styles_per_content: int = 1, **options: Any) -> DataLoader:
    collate, pin = partial(_collate, styles_per_content=styles_per_content), torch.cuda.is_available()
    return DataLoader(pairs, num_workers=workers, collate_fn=collate, pin_memory=pin, **options)
