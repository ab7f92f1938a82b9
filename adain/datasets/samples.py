"""What sources, the stylizer, and targets exchange: units of work, samples, and results."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from adain.datasets.options import Format

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class Unit:
    """A piece of work, which one process completes or makes again: a shard, or some files of a folder."""

    name: str
    """Unique in the dataset: the path of its shard in the target without suffix."""
    part: tuple[Any, ...]
    """Where its source finds it: strings and numbers. It identifies the unit in later runs."""
    size: int | None = None
    """Number of images, if it is known."""


@dataclass(frozen=True)
class Sample:
    """An image of a dataset with everything that belongs to it: a row, fields, or members, according to the source."""

    key: str
    """Identifies the image: its draws depend on it."""
    name: str
    """Path of the results without suffix, unique in the unit."""
    image: bytes | Path | OSError
    """The file of the image, or why there is none."""
    suffix: str = ""
    """Suffix of the file of the image; empty if it is unknown."""
    row: "pa.Table | None" = None
    """The row of a table, with the column of the image."""
    fields: Mapping[str, Any] | None = None
    """What is known of a file in a folder: its label, if there is a subfolder for each class."""
    members: Mapping[str, bytes] | None = None
    """The other members of a sample of a tar shard, by suffix without the first dot."""


@dataclass(frozen=True)
class Result:
    """An image that is ready to be written."""

    sample: Sample
    name: str
    """The name of the sample, with the number of the result if there are several for each image."""
    suffix: str
    data: bytes
    """The file of the image."""


class Source(Protocol):
    """A dataset to read. Sources are sent to other processes."""

    format: Format
    """Its kind, which is also the default kind of the target."""

    @property
    def image_column(self) -> str:
        """Column of the images in `schema`."""

    def units(self) -> list[Unit]:
        """Return all units, in an order that does not change between runs."""

    def read(self, unit: Unit) -> Iterator[Sample]:
        """Yield the samples of a unit, in an order that does not change between runs.

        Raises:
            OSError: The unit cannot be read. Images are not decoded here.
        """

    def schema(self) -> "pa.Schema":
        """Return the columns that the dataset has as a table, with the features of `datasets` as metadata."""
