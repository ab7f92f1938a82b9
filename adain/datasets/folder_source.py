"""Folders of images as datasets, usually with a subfolder for each class."""

from collections import Counter
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from adain.datasets.options import Format
from adain.datasets.samples import Sample, Unit
from adain.imaging import listing
from adain.utils.files import short_hash

if TYPE_CHECKING:
    import pyarrow as pa


class FolderSource:
    """The images of a folder and its subfolders.

    Args:
        folder: The folder.
        shard_size: Images of a unit.

    Raises:
        ValueError: The folder has no images.
    """

    format: Format = "folder"
    image_column = "image"

    def __init__(self, folder: Path, shard_size: int):
        self.folder = folder.resolve()
        self.shard_size = shard_size
        paths = [path.relative_to(self.folder).as_posix() for path in listing.files(self.folder)]
        self.classes = sorted({PurePosixPath(path).parent.name for path in paths} - {""})
        self._units = self._split(paths)

    def _split(self, paths: list[str]) -> list[Unit]:
        names = _unique_names(paths)
        starts = range(0, len(paths), self.shard_size)
        units = []
        for number, start in enumerate(starts):
            part = paths[start : start + self.shard_size]
            named = tuple((path, names[path]) for path in part)
            units.append(Unit(f"train-{number:05}-of-{len(starts):05}", named, len(part)))
        return units

    def units(self) -> list[Unit]:
        """Return units of consecutive files, sorted by path."""
        return self._units

    def __getstate__(self) -> dict[str, object]:
        """Omit the list of all files: units have theirs."""
        return {**self.__dict__, "_units": []}

    def read(self, unit: Unit) -> Iterator[Sample]:
        """Yield the files of a unit."""
        for path, name in unit.part:
            label = self._labels.get(PurePosixPath(path).parent.name)
            fields = {} if label is None else {"label": label}
            yield Sample(path, name, self.folder / path, PurePosixPath(path).suffix, fields=fields)

    @cached_property
    def _labels(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.classes)}

    def schema(self) -> "pa.Schema":
        """Return the columns: the image, and the name of its subfolder as label, if there are subfolders."""
        import datasets

        columns = {"image": datasets.Image()}
        if self.classes:
            columns["label"] = datasets.ClassLabel(names=self.classes)
        return datasets.Features(columns).arrow_schema


def _unique_names(paths: list[str]) -> dict[str, str]:
    """Return each path without its suffix, with a hash of the whole path where several would share that."""
    stems = {path: PurePosixPath(path).with_suffix("").as_posix() for path in paths}
    count = Counter(stem.casefold() for stem in stems.values())  # some file systems ignore case
    names = {}
    for path, stem in stems.items():
        shared = count[stem.casefold()] > 1
        names[path] = f"{stem}-{short_hash(path)}" if shared else stem
    return names
