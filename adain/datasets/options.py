"""Options of stylizing a dataset. This module does not import torch, so that the command line starts fast."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

from adain.imaging.options import check_size
from adain.inference.options import ALPHA_BLENDS, AlphaBlend, check_alpha
from adain.utils.checks import check_choice

Format = Literal["folder", "parquet", "webdataset"]
Engine = Literal["local", "ray"]

FORMATS = get_args(Format)
ENGINES = get_args(Engine)


@dataclass(frozen=True)
class SourceOptions:
    """How a dataset is read.

    Args:
        column: Column of the images in a table, or suffix of the images in tar shards, such as jpg (default: image, or
            the only one).
        key: Column of a table whose values seed the random choices, and name the results in tar shards (default: the
            row number).
        split: Split of a dataset from the Hub, or of one that was saved with several splits (default: all).
        streaming: Read a dataset from the Hub as a stream, without a copy on disk.
        shard_size: Number of images per output file of a table, and per unit of work. Tar shards and the files of a
            stream keep their own sizes.

    Raises:
        ValueError: A number is out of range.
    """

    column: str | None = None
    key: str | None = None
    split: str | None = None
    streaming: bool = False
    shard_size: int = 500

    def __post_init__(self) -> None:
        """Check the range."""
        if self.shard_size < 1:
            raise ValueError(f"shard_size must be at least 1 image, got {self.shard_size}")


@dataclass(frozen=True)
class ResultOptions:
    """What is made of each image. Style, strength, and crop are drawn from the seed and the key of the image.

    Args:
        per_content: Number of results for each image, each with its own random style, strength, and crop.
        p: Probability that a result is stylized. The others are only resized and cropped.
        alpha: Strength of the style, from 0 (the content) to 1: one value, or the lowest and the highest.
        alpha_blend: How an alpha below 1 blends: residual, whose alpha 0 is the content, or features, which is faster.
        size: Shorter side of the results in pixels (default: that of each image). Boxes and masks beside the images
            are not resized.
        crop: Side in pixels of a random square of each image, which is the result. Smaller images are enlarged. Boxes
            and masks beside the images are not cropped.
        suffix: Suffix of the results, which determines their format: .jpg, .png, .webp, or .tif (default: that of each
            image if it can be written, else .png).
        batch_size: Largest number of images of one size that are stylized at a time. It changes results only by
            rounding.
        seed: Seed of everything that is drawn at random.

    Raises:
        ValueError: An option is out of range.
    """

    per_content: int = 1
    p: float = 1.0
    alpha: float | Sequence[float] = 1.0
    alpha_blend: AlphaBlend = "residual"
    size: int | None = None
    crop: int | None = None
    suffix: str | None = None
    batch_size: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.per_content < 1:
            raise ValueError(f"per_content must be at least 1 result, got {self.per_content}")
        if not 0 <= self.p <= 1:
            raise ValueError(f"p must be between 0 and 1, got {self.p:g}")
        _check_range(self.alpha)
        check_choice("alpha_blend", self.alpha_blend, ALPHA_BLENDS)
        check_size(self.size)
        check_size(self.crop)
        if self.size is not None and self.crop is not None and self.crop > self.size:
            raise ValueError(f"crop must be at most size, {self.size} pixels, got {self.crop}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")

    @property
    def alphas(self) -> tuple[float, float]:
        """The lowest and the highest strength."""
        values = [float(self.alpha)] if isinstance(self.alpha, int | float) else [float(value) for value in self.alpha]
        return values[0], values[-1]

    def recorded(self) -> dict[str, object]:
        """Return all options by name, as the file of a run has them."""
        return {**{field.name: getattr(self, field.name) for field in fields(self)}, "alpha": list(self.alphas)}


@dataclass(frozen=True)
class EngineOptions:
    """Where and how the work is done.

    Args:
        engine: Where the work runs: local for processes on this computer, ray for a Ray cluster.
        address: Address of the Ray cluster, such as auto for that of this computer (default: start one here).
        workers: Processes that stylize (default: one for each GPU, or for each core). Each reads, computes in one
            thread, and writes.
        verify: Check the files of earlier runs by their hashes, not only by their sizes.
        retry: Redo the parts of an earlier run in which images failed.
        quiet: Print only errors.

    Raises:
        ValueError: An option is out of range, or does not go with the others.
    """

    engine: Engine = "local"
    address: str | None = None
    workers: int | None = None
    verify: bool = False
    retry: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        """Check the options."""
        check_choice("engine", self.engine, ENGINES)
        if self.workers is not None and self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")
        if self.address is not None and self.engine != "ray":
            raise ValueError(f"Expected --engine ray with --address, got {self.engine}; add it, or leave it out")


def _check_range(alpha: float | Sequence[float]) -> None:
    """Raise ValueError unless this is one alpha, or the lowest and the highest."""
    values = [alpha] if isinstance(alpha, int | float) else [*alpha]
    for value in values:
        check_alpha(value)
    if len(values) not in (1, 2) or values != sorted(values):
        given = " ".join(f"{value:g}" for value in values) or "none"
        raise ValueError(f"Expected one alpha, or the lowest and the highest, got {given}")


DEFAULT_SOURCE_OPTIONS = SourceOptions()
DEFAULT_RESULT_OPTIONS = ResultOptions()
DEFAULT_ENGINE_OPTIONS = EngineOptions()
