"""Tables as datasets: parquet and arrow files, folders saved by `datasets`, and datasets from the Hub."""

import itertools
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from adain.datasets.formats import common_folder, safe_name
from adain.datasets.options import Format, SourceOptions
from adain.datasets.samples import Sample, Unit
from adain.imaging.reader import UNREADABLE
from adain.training.crops import image_file
from adain.training.sources import is_saved_to_disk, load_from_hub
from adain.utils.errors import first_line
from adain.utils.files import short_hash
from adain.utils.rounding import ceil_div

if TYPE_CHECKING:
    import pyarrow as pa

ROWS = 64
"""Rows that are read at a time."""

LONGEST_NAME = 200
"""Bytes of a file name without suffix; file systems allow 255 with it."""


class TableSource:
    """A table, or several with the same columns.

    Args:
        options: How it is read.
    """

    format: Format = "parquet"

    def __init__(self, options: SourceOptions):
        self.options = options

    def units(self) -> list[Unit]:
        """Return all units."""
        raise NotImplementedError

    def tables(self, unit: Unit) -> "Iterator[pa.Table]":
        """Yield the rows of a unit, some at a time."""
        raise NotImplementedError

    def schema(self) -> "pa.Schema":
        """Return the columns, with the features of `datasets` as metadata."""
        raise NotImplementedError

    @cached_property
    def image_column(self) -> str:
        """The column of the images.

        Raises:
            ValueError: There is no such column, or there are several to choose from.
        """
        import datasets

        schema = self.schema()
        features = datasets.Features.from_arrow_schema(schema)
        images = [name for name, feature in features.items() if _holds_images(feature)]
        wanted = self.options.column
        if wanted:
            if wanted not in schema.names:
                raise ValueError(f"Expected one of the columns {', '.join(schema.names)} as --column, got {wanted}")
            if wanted not in images and str(schema.field(wanted).type) not in ("binary", "large_binary"):
                raise ValueError(f"Expected a column of images as --column, got {wanted} ({schema.field(wanted).type})")
            return wanted
        if "image" in images:
            return "image"
        if len(images) != 1:
            found = ", ".join(images or schema.names)
            raise ValueError(f"Expected one column of images, got {len(images)}; choose one of {found} with --column")
        return images[0]

    def read(self, unit: Unit) -> Iterator[Sample]:
        """Yield the rows of a unit. The key of a row is its number in the table, unless there is a column of keys."""
        column, first = self.image_column, unit.part[-1]
        number = first
        taken = set[str]()
        for table in self.tables(unit):
            for row in (table.slice(start, 1) for start in range(len(table))):
                key = f"{unit.part[0]}/{number}"
                name = f"{number:08}"
                if self.options.key:
                    key = str(row.column(self.options.key)[0].as_py())
                    name = _file_name(key, number, taken)
                cell = row.column(column)[0].as_py()
                path = cell.get("path") if isinstance(cell, dict) else None
                suffix = PurePosixPath(path or "").suffix
                yield Sample(key, name, _image(cell), suffix, row=row)
                number += 1

    def check_key(self) -> None:
        """Raise ValueError unless the column of keys exists."""
        names = self.schema().names
        if self.options.key and self.options.key not in names:
            raise ValueError(f"Expected one of the columns {', '.join(names)} as --key, got {self.options.key}")


def _file_name(key: str, number: int, taken: set[str]) -> str:
    """Return a file name, without suffix, for the key of a row, and add it to the names taken in the unit."""
    name = safe_name(key.replace(".", "_").replace("/", "_"))
    if name in taken or len(name.encode()) > LONGEST_NAME:
        name = f"{name[: LONGEST_NAME // 4]}-{short_hash(f'{key} {number}')}"  # up to four bytes for a character
    taken.add(name)
    return name


def _holds_images(feature: Any) -> bool:
    import datasets

    if isinstance(feature, datasets.Image):
        return True
    return isinstance(feature, dict) and feature.keys() == {"bytes", "path"}


def _image(cell: Any) -> bytes | Path | OSError:
    try:
        source = image_file(cell)
    except OSError as error:
        return error
    return source if isinstance(source, bytes) else Path(str(source))


class ParquetSource(TableSource):
    """Parquet files. They are read as they are, without a copy on disk.

    Args:
        files: The files, sorted.
        options: How they are read.

    Raises:
        ValueError: The files have other columns than the first.
        OSError: A file cannot be read.
    """

    def __init__(self, files: list[Path], options: SourceOptions):
        super().__init__(options)
        self.files = [path.resolve() for path in files]
        self.folder = common_folder(self.files)

    def schema(self) -> "pa.Schema":
        """Return the columns of the first file."""
        return self._schema

    @cached_property
    def _schema(self) -> "pa.Schema":
        return _open_parquet(self.files[0]).schema_arrow

    def units(self) -> list[Unit]:
        """Return units of consecutive rows of each file; keys count the rows of all files."""
        units = []
        first = 0
        schema = self.schema()
        for path in self.files:
            file = _open_parquet(path)
            if not file.schema_arrow.equals(schema):
                raise ValueError(f"Expected the same columns in all files, got others in {path}")
            relative = path.relative_to(self.folder)
            rows = file.metadata.num_rows
            stem = relative.with_suffix("").as_posix()
            for name, start, stop in _ranges(stem, rows, self.options.shard_size):
                part = ("", relative.as_posix(), path.stat().st_size, start, stop, first + start)
                units.append(Unit(name, part, stop - start))
            first += rows
        return units

    def tables(self, unit: Unit) -> "Iterator[pa.Table]":
        """Yield the rows of a unit; only the row groups with some of them are read."""
        import pyarrow as pa

        _, name, _, start, stop, _ = unit.part
        file = _open_parquet(self.folder / name)
        groups, offset, before = [], 0, 0
        for group in range(file.metadata.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if offset + rows <= start:
                before = offset + rows
            elif offset < stop:
                groups.append(group)
            offset += rows
        position = before
        try:
            for batch in file.iter_batches(ROWS, row_groups=groups):
                low, high = max(start - position, 0), min(stop - position, len(batch))
                position += len(batch)
                if low < high:
                    yield pa.Table.from_batches([batch]).slice(low, high - low)
        except (pa.ArrowException, *UNREADABLE) as error:
            raise OSError(f"{name} is not a readable parquet file ({first_line(error)})") from error


class SplitSource(TableSource):
    """What `datasets` opens by a name, with one or several splits.

    Args:
        name: A folder, a file, or the name of a dataset on the Hub.
        options: How it is read.
    """

    def __init__(self, name: str, options: SourceOptions):
        super().__init__(options)
        self.name = name

    def load(self) -> Any:
        """Return what `datasets` opens: a split, or several by name."""
        raise NotImplementedError

    @cached_property
    def _splits(self) -> dict[str, Any]:
        """The splits, without decoding."""
        splits = chosen_splits(self.load(), self.options, self.name)
        return {name: split.with_format("arrow") for name, split in splits.items()}

    def __getstate__(self) -> dict[str, Any]:
        """Omit what is open: each process opens it itself."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_splits", "_schema")}


class SavedSource(SplitSource):
    """Arrow files, folders that `save_to_disk` of `datasets` wrote, and datasets from the Hub, which are copied."""

    def load(self) -> Any:
        """Open the files, after copying those from the Hub; see the base class."""
        import datasets

        path = Path(self.name)
        if is_saved_to_disk(path):
            return datasets.load_from_disk(self.name)
        if path.exists():
            files = [path] if path.is_file() else sorted(path.rglob("*.arrow"))
            return datasets.concatenate_datasets([datasets.Dataset.from_file(str(file)) for file in files])
        return load_from_hub(self.name)

    def schema(self) -> "pa.Schema":
        """Return the columns of the first split."""
        return next(iter(self._splits.values())).features.arrow_schema

    def units(self) -> list[Unit]:
        """Return units of consecutive rows of each split."""
        units = []
        for split, table in self._splits.items():
            size = self.options.shard_size
            count = ceil_div(len(table), size)
            for number in range(count):
                start, stop = number * size, min((number + 1) * size, len(table))
                part = (split, len(table), start, stop, start)
                units.append(Unit(f"{split}-{number:05}-of-{count:05}", part, stop - start))
        return units

    def tables(self, unit: Unit) -> "Iterator[pa.Table]":
        """Yield the rows of a unit."""
        split, _, start, stop, _ = unit.part
        for low in range(start, stop, ROWS):
            yield self._splits[split][low : min(low + ROWS, stop)].cast(self.schema())


class StreamedSource(SplitSource):
    """Datasets from the Hub that are read as streams. Their files are the units."""

    def load(self) -> Any:
        """Open the streams; see the base class."""
        return load_from_hub(self.name, streaming=True)

    def schema(self) -> "pa.Schema":
        """Return the columns of the first split."""
        return self._schema

    @cached_property
    def _schema(self) -> "pa.Schema":
        stream = next(iter(self._splits.values()))
        if stream.features:
            return stream.features.arrow_schema
        return next(iter(stream.iter(1))).schema

    def units(self) -> list[Unit]:
        """Return one unit for each file of each split."""
        units = []
        for split, stream in self._splits.items():
            count = stream.num_shards
            for number in range(count):
                units.append(Unit(f"{split}-{number:05}-of-{count:05}", (f"{split}/{number}", split, number, count, 0)))
        return units

    def tables(self, unit: Unit) -> "Iterator[pa.Table]":
        """Yield the rows of a file."""
        _, split, number, count, _ = unit.part
        schema = self.schema()
        for table in self._splits[split].shard(count, number).iter(ROWS):
            yield table.cast(schema)


def chosen_splits(found: Any, options: SourceOptions, name: str) -> dict[str, Any]:
    """Return the splits of what `datasets` loaded, or the one that was asked for.

    Raises:
        ValueError: There is no such split.
    """
    splits = dict(found) if isinstance(found, dict) else {str(found.split or "train"): found}
    if options.split is None:
        return splits
    if options.split not in splits:
        raise ValueError(f"Expected one of the splits {', '.join(splits)} of {name} as --split, got {options.split}")
    return {options.split: splits[options.split]}


def _ranges(stem: str, rows: int, size: int) -> Iterator[tuple[str, int, int]]:
    """Yield the units of a file: name, first row, and the row after the last."""
    for number in itertools.count():
        start = number * size
        if start >= rows:
            return
        name = stem if rows <= size else f"{stem}-{number:05}"
        yield name, start, min(start + size, rows)


def _open_parquet(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, *UNREADABLE) as error:
        raise OSError(f"{path} is not a readable parquet file ({first_line(error)})") from error
