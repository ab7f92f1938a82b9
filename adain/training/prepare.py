"""Preparing images for training: parquet files of JPEGs near the size at which they are trained on."""

import json
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from adain.imaging import photo, reader
from adain.training.crops import PREFETCH, image_file
from adain.training.sources import Source
from adain.utils.files import as_text, atomic_path, remove_stale
from adain.utils.prefetch import prefetch_map

SHARD_IMAGES = 1000
"""Number of images of the source in each file."""

ROW_GROUP = 100
"""Number of images that a stream reads at once."""

SETTINGS = "prepared.json"
"""File with the settings of the run, in its output folder."""


@dataclass(frozen=True)
class Settings:
    """How images are prepared.

    Attributes:
        source: A folder of images, a local dataset, or the name of a dataset on the Hugging Face Hub.
        split: The split of a dataset from the Hub.
        column: The column of a dataset that holds the images.
        size: Shorter side in pixels to which images are resized.
        quality: JPEG quality, from 1 to 95.
    """

    source: str
    split: str
    column: str
    size: int
    quality: int

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"Expected --size of at least 1 pixel, got {self.size}")
        if not 1 <= self.quality <= 95:
            raise ValueError(f"Expected --quality between 1 and 95, got {self.quality}")

    def as_dict(self) -> dict[str, Any]:
        """Return the settings by name, with the absolute path of a local source."""
        local = Path(self.source)
        return {**asdict(self), "source": str(local.resolve()) if local.exists() else self.source}


@dataclass(frozen=True)
class Prepared:
    """What a run has written.

    Attributes:
        images: Number of images.
        bytes: Size of all files.
        failures: Reasons why images could not be read, one line each.
    """

    images: int
    bytes: int
    failures: list[str]


def prepare(settings: Settings, output: Path, streaming: bool, workers: int, quiet: bool) -> Prepared:
    """Write the images of a source as parquet files to a folder.

    The files are written to a folder named `<output>.partial`, which is renamed at the end. A run that was interrupted
    continues there with the next file.

    Args:
        settings: How the images are prepared.
        output: The folder; it must not exist, or be empty.
        streaming: Whether a dataset is read as a stream.
        workers: Number of threads.
        quiet: Whether no progress is shown.

    Raises:
        ValueError: The folder has contents, or an interrupted run had other settings, or there are no images.
        OSError: The source cannot be opened, or the folder cannot be written.
    """
    output = output.absolute()
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise ValueError(f"Expected a new folder, got {output}, which is not empty; choose another --output")
    partial = output.with_name(f"{output.name}.partial")
    _check_interrupted(settings, partial)
    shards = sorted(partial.glob("train-*.parquet"))
    source = Source(settings.source, settings.split, settings.column, streaming, 0, (0, 0))
    images = source.images(len(shards) * SHARD_IMAGES)
    with atomic_path(partial / SETTINGS) as temporary:
        temporary.write_text(json.dumps(settings.as_dict(), indent=2) + "\n")
    with ThreadPoolExecutor(max(1, workers)) as pool, tqdm(unit=" images", disable=quiet or None) as progress:
        progress.update(len(shards) * SHARD_IMAGES)
        try:
            while True:
                shard = partial / f"train-{len(shards):05}.parquet"
                if not _write_shard(shard, islice(images, SHARD_IMAGES), settings, pool, progress):
                    break
                shards.append(shard)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    found = _summary(shards)
    if not found.images:
        shutil.rmtree(partial)
        reason = f"the first one: {found.failures[0]}" if found.failures else "choose another --source or --split"
        raise ValueError(
            f"Expected readable images in {settings.source}, got {len(found.failures)} that cannot be read; {reason}"
        )
    if output.exists():
        output.rmdir()
    partial.replace(output)
    return found


def _check_interrupted(settings: Settings, partial: Path) -> None:
    """Raise ValueError if the folder of an interrupted run exists, and its settings were others."""
    if not partial.exists():
        return
    remove_stale(partial)
    path = partial / SETTINGS
    earlier = json.loads(path.read_text()) if path.exists() else {}
    if earlier != settings.as_dict():
        flags = ", ".join(f"--{name} {value}" for name, value in earlier.items())
        raise ValueError(
            f"Expected the settings of the interrupted run in {partial} ({flags or 'unknown'}), got others; "
            "repeat them, or delete this folder"
        )


def _write_shard(
    path: Path, images: Iterator[Any], settings: Settings, pool: ThreadPoolExecutor, progress: tqdm
) -> bool:
    """Write a file of images, and return whether there were any. What cannot be read is listed in the metadata."""
    import datasets  # slow to import
    import pyarrow as pa
    import pyarrow.parquet as pq

    def encode(image: Any) -> bytes | OSError:
        try:
            return encode_jpeg(image, settings.size, settings.quality)
        except OSError as error:
            return error

    cells: list[dict[str, Any]] = []
    failures = []
    for image, data in prefetch_map(encode, images, pool, PREFETCH):
        progress.update()
        if isinstance(data, bytes):
            cells.append({"bytes": data, "path": _name(image)})
        else:
            failures.append(" ".join(str(data).split()))
    if not cells and not failures:
        return False
    schema = datasets.Features({"image": datasets.Image()}).arrow_schema
    metadata = {**schema.metadata, b"adain": json.dumps({"failures": failures}).encode()}
    table = pa.Table.from_pydict({"image": cells}, schema=schema.with_metadata(metadata))
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="none", row_group_size=ROW_GROUP)
    return True


def encode_jpeg(image: Any, size: int, quality: int) -> bytes:
    """Return an image as a JPEG from which the loader decodes only the blocks of a crop.

    Args:
        image: A path, the bytes of a file, or a cell of a dataset.
        size: Shorter side in pixels to which the image is resized.
        quality: JPEG quality, from 1 to 95.

    Raises:
        OSError: The image cannot be read, or the cell is empty.
    """
    # Decoded at twice the size or more, so that the quality is that of Lanczos.
    pixels = photo.resize(reader.read(image_file(image), shrink=2 * size), size)
    file = BytesIO()
    pixels.save(file, "JPEG", quality=quality, restart_marker_blocks=1)
    return file.getvalue()


def _name(image: Any) -> str | None:
    """Return the name of the file of an image, if it has one."""
    path = image["path"] if isinstance(image, dict) else image
    return as_text(Path(path).name) if path else None


def _summary(shards: list[Path]) -> Prepared:
    import pyarrow.parquet as pq  # slow to import

    images, failures = 0, []
    for shard in shards:
        metadata = pq.read_metadata(shard)
        images += metadata.num_rows
        failures += json.loads(metadata.metadata[b"adain"])["failures"]
    return Prepared(images, sum(shard.stat().st_size for shard in shards), failures)
