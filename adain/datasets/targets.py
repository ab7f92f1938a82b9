"""Where results are written: folders, parquet files, and tar shards, each file completely or not at all."""

import tarfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from io import BytesIO
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from adain.datasets.conversion import has_bytes, members_of, row_of
from adain.datasets.formats import suffix_by_content
from adain.datasets.options import Format
from adain.datasets.samples import Result, Source, Unit
from adain.utils.files import as_text, atomic_path, short_hash

if TYPE_CHECKING:
    import pyarrow as pa

ROW_GROUP = 100
"""Rows that are written, and later read, at once."""

METADATA = "metadata.parquet"
"""The other columns of the images of a folder, as `imagefolder` of `datasets` reads them."""


class Target:
    """Writes the results of units to a folder.

    Args:
        folder: The folder.
        source: Where the samples come from.
    """

    def __init__(self, folder: Path, source: Source):
        self.folder = folder
        self.source = source

    @cached_property
    def schema(self) -> "pa.Schema":
        """The columns of the source as a table."""
        return self.source.schema()

    def write(self, unit: Unit, results: Iterable[Result]) -> list[Path]:
        """Write the results of a unit.

        Returns:
            All files of the unit, relative to the folder.

        Raises:
            OSError: A file cannot be written.
            ValueError: Something that belongs to an image has no counterpart in this format.
        """
        raise NotImplementedError


class FolderTarget(Target):
    """Images in a folder: below the subfolders of a source that is a folder, else in a subfolder for each unit.

    The other members of tar shards become files beside the images, and the other columns of tables become a
    `metadata.parquet` in each subfolder.
    """

    def write(self, unit: Unit, results: Iterable[Result]) -> list[Path]:
        """Write an image for each result; see the base class."""
        subfolder = Path() if self.source.format == "folder" else Path(unit.name)
        files = []
        rows = []
        for result in results:
            contents = {f"{result.name}{result.suffix}": result.data}
            for suffix, data in (result.sample.members or {}).items():
                contents[f"{result.name}.{suffix}"] = data
            if result.sample.row is not None:
                contents |= self._other_files(result)
                rows.append(self._metadata(result))
            for name, data in contents.items():
                files.append(subfolder / name)
                with atomic_path(self.folder / files[-1]) as temporary:
                    temporary.write_bytes(data)
        if rows:
            files.append(subfolder / METADATA)
            _write_parquet(self.folder / files[-1], iter(rows), self._metadata_schema)
        return files

    def _other_files(self, result: Result) -> dict[str, bytes]:
        """Return the images in other columns, such as masks, by file name."""
        assert result.sample.row is not None
        (values,) = result.sample.row.select(self._file_columns).to_pylist()
        return {_file_name(result, column, cell): cell["bytes"] for column, cell in values.items() if has_bytes(cell)}

    def _metadata(self, result: Result) -> "pa.Table":
        """Return the row without images, but with the names of their files."""
        import pyarrow as pa

        assert result.sample.row is not None
        (cells,) = result.sample.row.select(self._file_columns).to_pylist()
        row = result.sample.row.drop_columns([self.source.image_column, *self._file_columns])
        row = row.add_column(0, "file_name", pa.array([f"{result.name}{result.suffix}"]))
        for column, cell in cells.items():
            name = _file_name(result, column, cell) if has_bytes(cell) else None
            row = row.append_column(f"{column}_file_name", pa.array([name], pa.string()))
        return row.cast(self._metadata_schema)

    @cached_property
    def _file_columns(self) -> list[str]:
        """The columns with images besides the one that is stylized."""
        import datasets

        features = datasets.Features.from_arrow_schema(self.schema)
        files = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
        return [name for name in files if name != self.source.image_column]

    @cached_property
    def _metadata_schema(self) -> "pa.Schema":
        import datasets

        features = dict(datasets.Features.from_arrow_schema(self.schema))
        columns: dict[str, Any] = {"file_name": datasets.Value("string")}
        for name, feature in features.items():
            if name != self.source.image_column and name not in self._file_columns:
                columns[name] = feature
        for name in self._file_columns:
            columns[f"{name}_file_name"] = datasets.Value("string")
        return datasets.Features(columns).arrow_schema


class ParquetTarget(Target):
    """A parquet file for each unit. The columns of a table stay as they are, except that of the images."""

    def write(self, unit: Unit, results: Iterable[Result]) -> list[Path]:
        """Write a row for each result; see the base class."""
        file = Path(f"{unit.name}.parquet")
        _write_parquet(self.folder / file, (self._row(result) for result in results), self.schema)
        return [file]

    def _row(self, result: Result) -> "pa.Table":
        import pyarrow as pa

        row = row_of(result.sample, self.schema)
        number = self.schema.get_field_index(self.source.image_column)
        field = self.schema.field(number)
        cell: Any = result.data
        if pa.types.is_struct(field.type):
            cell = {"bytes": result.data, "path": self._path(result, row.column(number)[0].as_py())}
        return row.set_column(number, field, pa.array([cell], field.type)).cast(self.schema)

    def _path(self, result: Result, earlier: Any) -> str | None:
        """Return the path in the cell of an image: that of the source, or the result's name, with the new suffix."""
        if result.sample.row is None:
            return as_text(result.name + result.suffix)
        if not earlier or not earlier["path"]:
            return None
        number = result.name.removeprefix(result.sample.name)
        return f"{PurePosixPath(earlier['path']).stem}{number}{result.suffix}"


class TarTarget(Target):
    """A tar shard for each unit, as WebDataset reads it."""

    def write(self, unit: Unit, results: Iterable[Result]) -> list[Path]:
        """Write the members of each result; see the base class."""
        file = Path(f"{unit.name}.tar")
        with atomic_path(self.folder / file) as temporary, tarfile.open(temporary, "w") as shard:
            for result in results:
                key = _without_dots(result.name)
                _add(shard, key + result.suffix, result.data)
                for suffix, data in members_of(result.sample, self.source).items():
                    _add(shard, f"{key}.{suffix}", data)
        return [file]


TARGETS: dict[Format, type[Target]] = {"folder": FolderTarget, "parquet": ParquetTarget, "webdataset": TarTarget}


def _file_name(result: Result, column: str, cell: dict[str, Any]) -> str:
    """Return the name of the file of an image in another column of the row of a result."""
    suffix = PurePosixPath(cell["path"] or "").suffix or suffix_by_content(cell["bytes"])
    return f"{result.name}.{column.replace('/', '_')}{suffix}"


def _without_dots(name: str) -> str:
    """Return a name for a tar shard, where the suffix starts at the first dot, with a hash in place of other dots."""
    path = PurePosixPath(name)
    if "." not in path.name:
        return name
    return path.with_name(f"{path.name.replace('.', '_')}-{short_hash(name)}").as_posix()


def _add(shard: tarfile.TarFile, name: str, data: bytes) -> None:
    """Add a file without owner and time, so that equal contents give equal shards."""
    member = tarfile.TarInfo(name)
    member.size = len(data)
    shard.addfile(member, BytesIO(data))


def _write_parquet(path: Path, rows: "Iterator[pa.Table]", schema: "pa.Schema") -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, schema, compression="none") as file:
        while part := [*islice(rows, ROW_GROUP)]:
            file.write_table(pa.concat_tables(part))
