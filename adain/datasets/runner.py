"""Dataset runs: every image of a dataset in styles that are drawn for it, resumed where a run stopped."""

import hashlib
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from adain.augmentation.network_cache import NetworkCache
from adain.batch.locking import locked
from adain.batch.ranks import Rank, rank_of
from adain.datasets.local_engine import default_workers, local_devices, run_locally
from adain.datasets.network import Network, reproducible
from adain.datasets.options import (
    DEFAULT_ENGINE_OPTIONS,
    DEFAULT_RESULT_OPTIONS,
    DEFAULT_SOURCE_OPTIONS,
    FORMATS,
    EngineOptions,
    Format,
    ResultOptions,
    SourceOptions,
)
from adain.datasets.ray_engine import run_on_ray
from adain.datasets.records import MANIFEST, Records, check_options
from adain.datasets.samples import Unit
from adain.datasets.sources import open_source
from adain.datasets.styles import is_bank, open_styles, styles_digest
from adain.datasets.targets import TARGETS
from adain.datasets.unit_run import Status, Statuses, UnitRun
from adain.imaging import writer
from adain.imaging.options import DEFAULT_READ_OPTIONS, ReadOptions, check_size
from adain.inference.preparation import prepare
from adain.methods import Method, weights
from adain.utils import files
from adain.utils.checks import check_choice
from adain.utils.precision import Precision


@dataclass(frozen=True)
class Report:
    """What a run made, or, as one of several ranks, its share of it."""

    rank: Rank
    units: int
    """Number of units of this rank."""
    complete: int
    """Number of those that are complete now."""
    results: int
    """Their results."""
    made: int
    """Results of this run among them."""
    seconds: float
    """Seconds that it worked on these."""
    failures: list[str]
    """Why styles, images, or whole units could not be read or stylized, also in earlier runs."""


def stylize_dataset(
    content: str | Path,
    style: str | Path | None,
    output: str | Path,
    method: str | Path | Method = "adain-lite",
    *,
    format: Format | None = None,
    style_size: int = 256,
    source_options: SourceOptions = DEFAULT_SOURCE_OPTIONS,
    options: ResultOptions = DEFAULT_RESULT_OPTIONS,
    read_options: ReadOptions = DEFAULT_READ_OPTIONS,
    engine_options: EngineOptions = DEFAULT_ENGINE_OPTIONS,
    device: str = "auto",
    precision: Precision = "auto",
) -> Report:
    """Stylize a dataset. Everything that belongs to its images, such as labels and ids, is kept.

    The work is split into units: tar shards, ranges of rows, or some files of a folder. Neither the number of
    processes nor the order of units changes a byte of the results. Files are written completely or not at all, and
    another run with the same arguments skips complete units. Under torchrun and `srun`, each process makes its share.

    Worker processes import the main module again, so a script must call this function below
    `if __name__ == "__main__":`.

    Args:
        content: The dataset, as `adain.datasets.sources.open_source` takes it.
        style: The file of a bank of styles, an image, or a dataset; None for the embedded bank of adain-lite.
        output: Folder for the results.
        method: adain-lite, adain, or adaconv, a file of their weights, or what `adain.prepare` returned.
        format: Kind of the results: folder, parquet, or webdataset (default: that of the content).
        style_size: Shorter side in pixels at which styles are encoded that are not in a bank yet.
        source_options: How the content is read.
        options: What is made of each image.
        read_options: Which images are accepted.
        engine_options: Where and how the work is done.
        device: As `adain.prepare` takes it.
        precision: As `adain.prepare` takes it.

    Raises:
        ValueError: An option is out of range or does not apply, or another run of this folder had other options.
        OSError: The dataset or the styles cannot be read, or the results cannot be written.
    """
    _check(format, style_size, options)
    rank = Rank() if engine_options.engine == "ray" else rank_of()  # Ray shares the work itself
    source = open_source(content, source_options)
    folder = Path(output).resolve()
    check_apart(folder, Path(content))
    units = source.units()
    failures: list[str] = []
    with reproducible():
        # In float32, which gives the same codes on machines with and without bfloat16.
        encoder = prepare(method, "cpu", "fp32")
        bank = open_styles(style, encoder, style_size, read_options, failures.append)
    chosen = format or source.format
    target = TARGETS[chosen](folder, source)
    run = UnitRun(source, target, options, read_options, Network(NetworkCache(method, precision), bank, options))
    recorded = {
        "format": chosen,
        "method": encoder.name,
        "weights": weights.fingerprint(encoder),
        "style": styles_digest(bank, style_size, is_bank(style)),
        "precision": precision,
        "column": source_options.column,
        "key": source_options.key,
        **options.recorded(),
        "max_pixels": read_options.max_pixels,
        "truncated": read_options.truncated,
        "units": _digest(units),
    }
    with locked(folder / rank.manifest(MANIFEST), rank.other_manifests(MANIFEST)):
        check_options(folder, recorded)
        return _work(run, units[rank.number :: rank.count], rank, engine_options, device, failures)


def _check(format: Format | None, style_size: int, options: ResultOptions) -> None:
    if format is not None:
        check_choice("format", format, FORMATS)
    check_size(style_size)
    if options.suffix is not None:
        writer.check_suffix(f"name{options.suffix}")


def check_apart(output: Path, content: Path, flag: str = "--output") -> None:
    """Raise ValueError if results would lie among the images, where the next run would take them for more."""
    output, content = output.resolve(), content.resolve()
    if content.exists() and (output == content or content in output.parents):
        raise ValueError(f"Expected an output outside of {content}, got {output}; choose another {flag}")


def _digest(units: Sequence[Unit]) -> str:
    """Return 16 hexadecimal digits that identify the units of a source."""
    parts = json.dumps([[unit.name, unit.part] for unit in units])
    return hashlib.sha256(parts.encode()).hexdigest()[:16]


def _work(
    run: UnitRun, units: Sequence[Unit], rank: Rank, options: EngineOptions, device: str, failures: list[str]
) -> Report:
    """Make those units that are not complete, and record them."""
    folder = run.target.folder
    records = Records(folder, folder / rank.manifest(MANIFEST))
    complete = {unit.name: records.complete(unit.name, options.verify, options.retry) for unit in units}
    found = {name: status for name, status in complete.items() if status}
    missing = [unit for unit in units if unit.name not in found]
    resumed = sum(status.results for status in found.values())
    start = time.perf_counter()
    with _without_stale_files(folder, rank), closing(_statuses(run, missing, rank, options, device)) as statuses:
        for status in _with_progress(statuses, units, resumed, options.quiet or rank.number > 0):
            if status.fatal:
                raise OSError(status.fatal)
            if status.is_complete:
                records.add(status)
            found[status.unit] = status
    seconds = time.perf_counter() - start
    for unit in units:
        failures += found[unit.name].failures
    results = sum(status.results for status in found.values())
    count = sum(status.is_complete for status in found.values())
    return Report(rank, len(units), count, results, results - resumed, seconds, failures)


def _statuses(run: UnitRun, units: Sequence[Unit], rank: Rank, options: EngineOptions, device: str) -> Statuses:
    if not units:
        return
    if options.engine == "ray":
        yield from run_on_ray(run, units, options.workers, device, options.address)
    else:
        devices = local_devices(device, rank)
        yield from run_locally(run, units, options.workers or default_workers(devices, rank), devices)


def _with_progress(statuses: Iterable[Status], units: Sequence[Unit], resumed: int, quiet: bool) -> Iterator[Status]:
    """Yield the statuses, with a progress bar of results on standard error."""
    sizes = [unit.size for unit in units]
    total = None if None in sizes else sum(size or 0 for size in sizes)
    with tqdm(total=total, initial=resumed, unit=" images", disable=quiet or None) as progress:
        for status in statuses:
            progress.update(status.results)
            yield status


@contextmanager
def _without_stale_files(folder: Path, rank: Rank) -> Iterator[None]:
    """Delete the temporary files of processes that were killed, before and after the `with` block."""
    try:
        _remove_stale(folder, rank)
        yield
    finally:
        _remove_stale(folder, rank)


def _remove_stale(folder: Path, rank: Rank) -> None:
    if rank.count == 1:  # other processes may be writing theirs
        for subfolder in {path.parent for path in folder.rglob(".adain-*")}:
            files.remove_stale(subfolder)
