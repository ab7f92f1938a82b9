"""Names of datasets to sources."""

import glob
from pathlib import Path

from adain.datasets.folder_source import FolderSource
from adain.datasets.options import DEFAULT_SOURCE_OPTIONS, SourceOptions
from adain.datasets.samples import Source
from adain.datasets.table_source import ParquetSource, SavedSource, StreamedSource, TableSource
from adain.datasets.tar_source import TarSource, find_shards, is_tar
from adain.models import hub
from adain.training.sources import is_saved_to_disk, reason_of


def open_source(name: str | Path, options: SourceOptions = DEFAULT_SOURCE_OPTIONS) -> Source:
    """Open a dataset by its name.

    Args:
        name: A folder of images; parquet or arrow files, a folder of them, or what `save_to_disk` of `datasets` wrote;
            tar shards, a folder of them, or a pattern such as `train-{000..146}.tar`; or the name of a dataset on the
            Hugging Face Hub.
        options: How it is read.

    Raises:
        ValueError: There are no images, or an option does not apply to this kind of dataset.
        OSError: There is no such dataset, or it cannot be read.
    """
    name = str(name)
    path = Path(name)
    source: TableSource
    if is_tar(name) or _has(path, "*.tar", "*.tar.gz", "*.tgz"):
        _refuse(options, "tar shards", "key", "split", "streaming")
        return TarSource(find_shards(name), options.column)
    files = _parquet_files(path)
    if files:
        _refuse(options, "parquet files", "split", "streaming")
        source = ParquetSource(files, options)
    elif is_saved_to_disk(path) or path.suffix == ".arrow" or _has(path, "*.arrow"):
        _refuse(options, "a dataset on disk", "streaming")
        source = SavedSource(name, options)
    elif path.is_dir():
        _refuse(options, "a folder of images", "column", "key", "split", "streaming")
        return FolderSource(path, options.shard_size)
    elif path.exists() or hub.is_path(name):
        reason = "a file of another kind" if path.exists() else "no such folder or file"
        raise FileNotFoundError(_expected(name, reason))
    else:
        source = StreamedSource(name, options) if options.streaming else SavedSource(name, options)
    _check(source, name)
    return source


def _check(source: TableSource, name: str) -> None:
    """Raise one of the errors of `open_source` if a table cannot be opened or has no images."""
    try:
        source.schema()
    except (OSError, ValueError, KeyError) as error:
        if isinstance(source, ParquetSource):  # it names the file
            raise
        raise OSError(_expected(name, reason_of(error, name))) from error
    source.check_key()
    source.image_column  # noqa: B018  # raises ValueError


def _expected(name: str, reason: str) -> str:
    return (
        "Expected a folder of images, parquet or arrow files, tar shards, or the name of a dataset on the Hugging "
        f"Face Hub, got {name} ({reason})"
    )


def _has(path: Path, *patterns: str) -> bool:
    """Return whether a folder has files of one of these patterns, at any depth."""
    return path.is_dir() and any(True for pattern in patterns for _ in path.rglob(pattern))


def _parquet_files(path: Path) -> list[Path]:
    """Return the parquet files that a path stands for: a file, a folder, or a pattern with *."""
    if path.is_dir():
        return sorted(path.rglob("*.parquet"))
    if path.suffix != ".parquet":
        return []
    found = [path] if path.exists() else [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]
    if not found:
        raise FileNotFoundError(f"{path}: no such file")
    return found


def _refuse(options: SourceOptions, kind: str, *names: str) -> None:
    """Raise ValueError for options that do not apply to this kind of source."""
    given = [f"--{name}" for name in names if getattr(options, name)]
    if given:
        raise ValueError(f"Expected no {', '.join(given)} for {kind}; leave it out")
