"""WebDataset tar shards as datasets."""

import glob
import itertools
import re
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from adain.datasets.conversion import member_columns
from adain.datasets.formats import common_folder, safe_name
from adain.datasets.options import Format
from adain.datasets.samples import Sample, Unit

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".tar", ".tar.gz", ".tgz")

IMAGES = ("jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif", "ppm", "pgm")
"""Suffixes of members that are images, unless the column is named."""


class TarSource:
    """The samples of tar shards: consecutive members whose names are equal up to the first dot.

    Args:
        shards: The shards, sorted.
        column: Suffix of the images in each sample; None for the only image.

    Raises:
        ValueError: Samples have no such member, or several images to choose from.
        OSError: The first shard cannot be read.
    """

    format: Format = "webdataset"
    image_column = "image"

    def __init__(self, shards: list[Path], column: str | None):
        self.shards = [path.resolve() for path in shards]
        self.column = column.removeprefix(".") if column else None
        self.folder = common_folder(self.shards)
        first = next(_groups(self.shards[0]), None)
        if first is None:
            raise ValueError(f"Expected samples in {self.shards[0]}, got an empty tar file")
        try:
            self._image_member(first[1])
        except OSError as error:
            raise ValueError(f"{self.shards[0]}, {first[0]}: {error}") from None

    def units(self) -> list[Unit]:
        """Return one unit for each shard."""
        units = []
        for path in self.shards:
            relative = path.relative_to(self.folder).as_posix()
            units.append(Unit(_without_suffix(relative), (relative, path.stat().st_size)))
        return units

    def read(self, unit: Unit) -> Iterator[Sample]:
        """Yield the samples of a shard."""
        path = self.folder / unit.part[0]
        for key, members in _groups(path):
            name = safe_name(key)
            try:
                chosen = self._image_member(members)
            except OSError as error:
                yield Sample(key, name, error, members=members)
                continue
            others = {name: data for name, data in members.items() if name != chosen}
            yield Sample(key, name, members[chosen], f".{chosen}", members=others)

    def _image_member(self, members: dict[str, bytes]) -> str:
        """Return the suffix of the image of a sample."""
        found = ", ".join(members)
        if self.column:
            if self.column not in members:
                raise OSError(f"Expected the member {self.column}, got {found}; choose another --column")
            return self.column
        images = [name for name in members if _is_image(name)]
        if len(images) != 1:
            raise OSError(f"Expected one image in each sample, got {len(images)} in {found}; choose one with --column")
        return images[0]

    def schema(self) -> "pa.Schema":
        """Return the columns: the image, the key, and a column for each suffix that occurs in any shard."""
        return self._schema

    @cached_property
    def _schema(self) -> "pa.Schema":
        import datasets

        suffixes = dict[str, None]()
        for path in self.shards:
            with _opened(path) as shard:
                for member in shard:
                    if member.isfile():
                        suffixes[_split_name(member.name)[1]] = None
        others = [name for name in suffixes if name != self.column and (self.column or not _is_image(name))]
        columns = {"image": datasets.Image(), "__key__": datasets.Value("string"), **member_columns(others)}
        return datasets.Features(columns).arrow_schema


def find_shards(pattern: str) -> list[Path]:
    """Return the tar shards that a name stands for: a file, a folder, or a pattern with *, {a,b}, or {000..123}.

    Raises:
        FileNotFoundError: There are none, or one of the listed ones is missing.
    """
    path = Path(pattern)
    if path.is_dir():
        return sorted(file for file in path.rglob("*") if is_tar(file.name) and not file.name.startswith("."))
    shards = []
    for name in [pattern] if path.exists() else expand_braces(pattern):
        found = [name] if Path(name).exists() else sorted(glob.glob(name, recursive=True))
        if not found:
            raise FileNotFoundError(f"{name}: no such file")
        shards += found
    return sorted({Path(name) for name in shards})


def is_tar(name: str) -> bool:
    """Return whether a name is that of a tar file."""
    return name.lower().endswith(SUFFIXES)


def expand_braces(pattern: str) -> list[str]:
    """Return all names that a pattern with {a,b} or {000..123} stands for, as in shells."""
    match = re.search(r"\{([^{}]*)\}", pattern)
    if not match:
        return [pattern]
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", match[1])
    choices = match[1].split(",")
    if numbers:
        first, last = numbers.groups()
        choices = [f"{number:0{len(first)}}" for number in range(int(first), int(last) + 1)]
    expanded = []
    for choice in choices:
        expanded += expand_braces(pattern[: match.start()] + choice + pattern[match.end() :])
    return expanded


def _groups(path: Path) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield the samples of a shard: keys, and the members of each by suffix without the first dot."""
    with _opened(path) as shard:
        files = (member for member in shard if member.isfile())
        for key, members in itertools.groupby(files, lambda member: _split_name(member.name)[0]):
            found = {}
            for member in members:
                file = shard.extractfile(member)
                assert file is not None  # it is a regular file
                found[_split_name(member.name)[1]] = file.read()
            yield key, found


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    """Open a tar file in a `with` block; a damaged one raises OSError with its name."""
    try:
        with tarfile.open(path) as shard:
            yield shard
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise OSError(f"{path} is not a readable tar file ({error})") from error


def _split_name(name: str) -> tuple[str, str]:
    """Split the name of a member into key and suffix at the first dot of the file name, as WebDataset does."""
    folder, slash, file = name.removeprefix("./").rpartition("/")
    stem, _, suffix = file.partition(".")
    return folder + slash + stem, suffix


def _is_image(suffix: str) -> bool:
    return suffix.rpartition(".")[2].lower() in IMAGES


def _without_suffix(name: str) -> str:
    suffix = next(suffix for suffix in SUFFIXES if name.lower().endswith(suffix))
    return name[: -len(suffix)]
