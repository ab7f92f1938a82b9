"""The LightningDataModule: pairs of content and style crops."""

from typing import Any

import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from adain.training.batches import EndlessBatches, MapPairs, StreamPairs, make_loader
from adain.training.sources import Crop, MapSide, Source


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
        val_pairs: pairs held out of training: the same ones in every run with this seed, as center crops.
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
            return make_loader(MapPairs(self.training), self.workers, self.styles_per_content, batch_sampler=batches)
        self.position = self._resumed[rank] if self._resumed else None
        pairs = StreamPairs(self.training, rank, world, self.workers, self.position)
        return make_loader(pairs, min(self.workers, 1), self.styles_per_content, batch_size=self.pictures)

    def val_dataloader(self) -> DataLoader:
        """The pairs held out, in one batch."""
        return make_loader(
            MapPairs(self.validation), 0, batch_sampler=[range(self.val_pairs)] if self.val_pairs else []
        )

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
