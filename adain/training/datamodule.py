"""The LightningDataModule: pairs of content and style crops."""

import logging
from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from adain.imaging import photo
from adain.training.batches import ROLES, Batch, EndlessBatches, PairDataset, PairStream, make_loader
from adain.training.crops import Crop, IndexedCrops, Position
from adain.training.sources import Source
from adain.training.streams import position_on_other_ranks

log = logging.getLogger(__name__)


class Pictures(LightningDataModule):
    """Endless batches of content and style crops.

    A batch holds `content` and `style`, crops (B, 3, crop, crop), RGB in [0, 1], and `skipped`, the number of
    unreadable images that were skipped for it. Skipped images are logged. The data loaders give uint8 crops, which are
    converted on the device.

    The seed and the sample index alone determine which image a sample shows and how it is cropped. The samples of a
    batch are shared among the ranks, so that a run sees the same batches on any number of ranks, and a resumed run
    continues exactly, with any number of workers and ranks. Every epoch visits each image of a source once.

    A stream is read by one process on each rank, which decodes with `workers` threads. Its position is passed along
    with the batches and stored in the checkpoint. An unshuffled stream continues exactly. A shuffled stream continues
    without repeating an image in the same epoch, but skips those that were in its shuffle buffer. On another number of
    ranks, a stream continues with its next epoch.

    The name of this class is part of checkpoints.

    Args:
        content: Source of content images: a folder (nested, in any image format), a local dataset (a parquet file, a
            folder of parquet files, or a folder written by `save_to_disk`), or the name of a dataset on the Hugging
            Face Hub.
        style: Source of style images, like `content`; null for batches without style images.
        split: Split of the datasets from the Hub.
        column: Column of the datasets that holds the images.
        streaming: Read datasets as streams instead of preparing a copy on disk.
        shuffle_buffer: Number of images among which a stream is shuffled; 0 keeps its order.
        size: Range of the shorter side in pixels to which images are resized, keeping their aspect ratio.
        crop: Side of the random crops in pixels.
        flip: Flip half of the crops horizontally.
        batch_size: Number of pairs in a batch, shared among all ranks. It must be a multiple of the number of ranks
            times `styles_per_content`, and at least the number of ranks times its square.
        styles_per_content: Number of pairs in which each content and each style of a batch appears. A batch is made of
            `batch_size` / `styles_per_content` images of each kind, which the loss network encodes only once. Each rank
            pairs its own images.
        val_pairs: Number of pairs held out for validation, as center crops; the same pairs in every run with this seed.
        workers: Number of processes that decode images; 0 decodes in the training process.
        seed: Seed of the order of the images, of the crops, and of the held-out pairs.

    Raises:
        ValueError: The sizes do not fit each other, a folder has no images, or a column is missing.
        OSError: A dataset cannot be opened.
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
        _check_sizes(size, crop)
        _check_batch_size(batch_size, styles_per_content)
        if style is None and styles_per_content > 1:
            raise ValueError(
                f"Expected styles_per_content 1 without style images, got {styles_per_content}; "
                "leave it out, or name the style images with --data.style"
            )
        self.sources = []
        for number, name in enumerate((content, style)):
            if name is not None:
                self.sources.append(Source(name, split, column, streaming, shuffle_buffer, (seed, number)))
        self.training_crop = Crop(size, crop, flip)
        self.validation_crop = Crop((size[0], size[0]), crop)
        self.val_pairs = val_pairs
        self.workers = workers
        self.images_per_batch = batch_size // styles_per_content  # of each kind
        self.styles_per_content = styles_per_content
        self.position: tuple[Position, ...] | None = None  # of streams, after the last batch trained on
        self._resumed_positions: list | None = None  # one for each rank, from a checkpoint

    def setup(self, stage: str | None = None) -> None:
        """Open the sources and hold out the validation images.

        Raises:
            ValueError: The batch cannot be shared among the ranks.
        """
        if self.trainer:
            _check_ranks(
                self.images_per_batch * self.styles_per_content, self.styles_per_content, self.trainer.world_size
            )
        opened = [source.open(self.training_crop, self.validation_crop, self.val_pairs) for source in self.sources]
        self.training = tuple(training for training, _ in opened)
        self.validation = tuple(validation for _, validation in opened)

    def train_dataloader(self) -> DataLoader:
        """Return this rank's part of the batches, from where a resumed run stopped."""
        trainer: Any = self.trainer
        rank, world_size = trainer.global_rank, trainer.world_size
        indexed = [source for source in self.training if isinstance(source, IndexedCrops)]
        if len(indexed) == len(self.training):
            done = trainer.fit_loop.epoch_loop.batch_progress.total.processed
            batches = EndlessBatches(self.images_per_batch, rank, world_size, done)
            return make_loader(PairDataset(indexed), self.workers, self.styles_per_content, batch_sampler=batches)
        self.position = self._resumed_position(rank, world_size)
        stream = PairStream(self.training, rank, world_size, self.workers, self.position)
        images_per_rank = self.images_per_batch // world_size
        return make_loader(stream, min(self.workers, 1), self.styles_per_content, batch_size=images_per_rank)

    def _resumed_position(self, rank: int, world_size: int) -> tuple[Position, ...] | None:
        """Return where the streams of a rank continue; None for a new run.

        Raises:
            ValueError: The run of the checkpoint read no streams, and had another number of ranks.
        """
        positions = self._resumed_positions
        if not positions:
            return None
        if len(positions) == world_size:
            return positions[rank]
        if None in positions:
            raise ValueError(
                f"Expected a checkpoint of a run with --data.streaming true on {world_size} ranks, "
                f"got one without it on {len(positions)}; leave out --data.streaming, or use {len(positions)} ranks"
            )
        log.warning(
            "The run of this checkpoint had %d ranks, and this one has %d: streams continue with their next epoch",
            len(positions),
            world_size,
        )
        return tuple(position_on_other_ranks(of_source, world_size) for of_source in zip(*positions, strict=True))

    def val_dataloader(self) -> DataLoader:
        """Return the held-out pairs in one batch, or no batch if there are none."""
        batches = [range(self.val_pairs)] if self.val_pairs else []
        return make_loader(PairDataset(self.validation), 0, batch_sampler=batches)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> Batch:
        """Return the batch with the crops in [0, 1], in the floating-point type of the trainer's precision."""
        for role in ROLES:
            if role in batch:
                batch[role] = photo.to_float(batch[role])
        trainer: Any = self.trainer
        return trainer.precision_plugin.convert_input(batch)

    def state_dict(self) -> dict:
        """Return the positions of the streams of all ranks, and the number of images of a batch on each rank."""
        positions = [self.position]
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            positions *= torch.distributed.get_world_size()
            torch.distributed.all_gather_object(positions, self.position)
        return {"position": positions, "batch_size": self.images_per_batch // len(positions)}

    def load_state_dict(self, state_dict: dict) -> None:
        """Continue from the state of a checkpoint.

        Raises:
            ValueError: The batches have another size than those of the checkpoint's run.
        """
        self._resumed_positions = state_dict["position"]
        expected = state_dict["batch_size"] * len(state_dict["position"])
        if expected != self.images_per_batch:
            raise ValueError(
                f"Expected batches of {expected} images of each kind, as in the run of this checkpoint, "
                f"got {self.images_per_batch}; use its batch_size and styles_per_content"
            )


def _check_ranks(batch_size: int, styles_per_content: int, world_size: int) -> None:
    """Raise ValueError unless each of the ranks gets whole images of a batch, and enough of them to pair."""
    multiple = world_size * styles_per_content
    smallest = world_size * styles_per_content**2
    if batch_size % multiple == 0 and batch_size >= smallest:
        return
    below = batch_size // multiple * multiple
    above = max(smallest, below + multiple)
    sizes = f"{below} or {above}" if below >= smallest else str(above)
    per_content = f" and {styles_per_content} styles for each content" if styles_per_content > 1 else ""
    raise ValueError(
        f"Expected a --data.batch_size that {world_size} ranks{per_content} can share, got {batch_size}; use {sizes}"
    )


def _check_sizes(size: tuple[int, int], crop: int) -> None:
    if not 0 < crop <= size[0] <= size[1]:
        raise ValueError(
            f"Expected 0 < crop <= smallest size <= largest size, got crop {crop} and size {list(size)}; change either"
        )


def _check_batch_size(batch_size: int, styles_per_content: int) -> None:
    if styles_per_content < 1 or batch_size % styles_per_content or styles_per_content**2 > batch_size:
        raise ValueError(
            f"Expected a batch_size that is a multiple of styles_per_content and at least its square, got "
            f"{batch_size} and {styles_per_content}; choose another batch_size"
        )
