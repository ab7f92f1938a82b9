"""Pairs of content and style crops, batches of pairs, and their data loader."""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

from adain.training.crops import IndexedCrops, Position
from adain.training.streams import StreamedCrops

ROLES = ("content", "style")
"""The keys of the crops in samples and batches. Without style images, there is only the first."""

Sample = dict[str, Any]
"""`content` and `style`, crops (3, crop, crop), uint8; `skipped`, the number of unreadable images that were skipped;
and, from streams, `position`, the positions of all sources after this sample."""

Batch = dict[str, Any]
"""As `Sample`, with crops (B, 3, crop, crop), channels last in memory, and `styles_per_content`. Crops are uint8 in the
data loader, so that a quarter of the bytes is copied to the device, and floating point in [0, 1] afterwards."""


class PairDataset(Dataset):
    """Pairs by sample index."""

    def __init__(self, sources: Sequence[IndexedCrops]):
        self.sources = sources

    def __getitem__(self, index: int) -> Sample:
        return make_sample([source[index] for source in self.sources])


class PairStream(IterableDataset):
    """Endless pairs in the order of streams, each with the positions of the streams after it.

    Args:
        sources: One source per role.
        rank: The rank.
        world_size: The number of ranks.
        threads: Number of threads that decode; 0 decodes in the reading thread.
        positions: Where each source continues, or None to start.
    """

    def __init__(
        self,
        sources: Sequence[IndexedCrops | StreamedCrops],
        rank: int,
        world_size: int,
        threads: int,
        positions: Sequence[Position] | None,
    ):
        self.sources = sources
        self.rank = rank
        self.world_size = world_size
        self.threads = threads
        self.positions = positions

    def __iter__(self) -> Iterator[Sample]:
        pool = ThreadPoolExecutor(self.threads) if self.threads else None
        positions: Sequence[Position | None] = self.positions or [None] * len(self.sources)
        streams = []
        for source, position in zip(self.sources, positions, strict=True):
            streams.append(source.samples(self.rank, self.world_size, pool, position))
        for pair in zip(*streams, strict=False):
            sample = make_sample([(one.crop, one.skipped) for one in pair])
            sample["position"] = tuple(one.position for one in pair)
            yield sample


class EndlessBatches(Sampler[list[int]]):
    """Sample indices of the batches of a rank: k batch_size + rank, and every `world_size`-th one after it in batch k.

    The batches of all ranks together do not depend on the number of ranks.

    Args:
        batch_size: Number of samples in a batch, over all ranks; a multiple of `world_size`.
        rank: The rank.
        world_size: The number of ranks.
        start: The first batch k.
    """

    def __init__(self, batch_size: int, rank: int = 0, world_size: int = 1, start: int = 0):
        self.batch_size = batch_size
        self.rank = rank
        self.world_size = world_size
        self.start = start

    def __iter__(self) -> Iterator[list[int]]:
        for k in itertools.count(self.start):
            first = k * self.batch_size
            yield list(range(first + self.rank, first + self.batch_size, self.world_size))


def make_sample(crops: Sequence[tuple[Tensor, int]]) -> Sample:
    """Return a sample of crops, given with the number of unreadable images that were skipped for each.

    Args:
        crops: The content, and the style if there is one.
    """
    sample: Sample = {}
    skipped = 0
    for role, (crop, skipped_for_crop) in zip(ROLES, crops, strict=False):
        sample[role] = crop
        skipped += skipped_for_crop
    sample["skipped"] = skipped
    return sample


def collate(samples: list[Sample], styles_per_content: int) -> Batch:
    """Stack samples into a batch."""
    batch: Batch = {}
    for role in ROLES:
        if role in samples[0]:
            # torch.stack would not keep the channels last.
            batch[role] = torch.stack([sample[role].permute(1, 2, 0) for sample in samples]).permute(0, 3, 1, 2)
    batch["styles_per_content"] = styles_per_content
    batch["skipped"] = sum(sample["skipped"] for sample in samples)
    if "position" in samples[-1]:
        batch["position"] = samples[-1]["position"]
    return batch


def make_loader(pairs: Dataset, workers: int, styles_per_content: int = 1, **options: Any) -> DataLoader:
    """Return a `DataLoader` of pairs, in pinned memory where there is a GPU.

    Args:
        pairs: The pairs.
        workers: Number of processes that load them.
        styles_per_content: Stored in the batches.
        options: Further arguments of `DataLoader`.
    """
    collate_fn = partial(collate, styles_per_content=styles_per_content)
    pin_memory = torch.cuda.is_available()
    return DataLoader(pairs, num_workers=workers, collate_fn=collate_fn, pin_memory=pin_memory, **options)
