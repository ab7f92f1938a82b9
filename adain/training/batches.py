"""Pairs, batches, and the loader."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from adain.training.sources import SIDES, MapSide, Sample


class MapPairs(Dataset):
    """Pairs by sample index."""

    def __init__(self, sides: Sequence[MapSide]):
        self.sides = sides

    def __getitem__(self, index: int) -> Sample:
        return make_sample(side[index] for side in self.sides)


class StreamPairs(IterableDataset):
    """Pairs in the order of streams, with the position after each."""

    def __init__(self, sides: Sequence, rank: int, world: int, threads: int, position: Any):
        self.sides, self.rank, self.world, self.threads, self.position = sides, rank, world, threads, position

    def __iter__(self) -> Iterator[Sample]:
        pool = ThreadPoolExecutor(self.threads) if self.threads else None
        positions = self.position or [None] * len(self.sides)
        sides = (side.samples(self.rank, self.world, pool, at) for side, at in zip(self.sides, positions, strict=True))
        for drawn in zip(*sides, strict=False):
            yield make_sample(one[:2] for one in drawn) | {"position": tuple(after for _, _, after in drawn)}


class EndlessBatches(Sampler[list[int]]):
    """Batch k of a rank holds the sample indices from (k world + rank) batch_size on."""

    def __init__(self, batch_size: int, rank: int = 0, world: int = 1, start: int = 0):
        self.batch_size, self.rank, self.world, self.start = batch_size, rank, world, start

    def __iter__(self) -> Iterator[list[int]]:
        for k in itertools.count(self.start):
            first = (k * self.world + self.rank) * self.batch_size
            yield list(range(first, first + self.batch_size))


def make_sample(sides: Iterable[tuple[Tensor, int]]) -> Sample:
    """Crops, and how many broken pictures were passed over for them, of the content and, if there is one, the style."""
    crops, skipped = zip(*sides, strict=True)
    return {**dict(zip(SIDES, crops, strict=False)), "skipped": sum(skipped)}


def collate(samples: list[Sample], styles_per_content: int) -> Sample:
    """Stack samples into a batch."""
    batch: Sample = {side: torch.stack([sample[side] for sample in samples]) for side in SIDES if side in samples[0]}
    batch["styles_per_content"] = styles_per_content
    batch["skipped"] = sum(sample["skipped"] for sample in samples)
    if "position" in samples[-1]:
        batch["position"] = samples[-1]["position"]
    return batch


def make_loader(pairs: Dataset, workers: int, styles_per_content: int = 1, **options: Any) -> DataLoader:
    """A `DataLoader` of pairs, in pinned memory where there is a GPU."""
    collate_fn = partial(collate, styles_per_content=styles_per_content)
    pin_memory = torch.cuda.is_available()
    return DataLoader(pairs, num_workers=workers, collate_fn=collate_fn, pin_memory=pin_memory, **options)
