"""Folder runs: every content in its styles, in batches, shared among processes, resumed where a run stopped."""

import itertools
import logging
import signal
import threading
import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from adain.batch.jobs import ImageFolder, Job, plan_jobs
from adain.batch.locking import locked
from adain.batch.manifest import MANIFEST, Manifest
from adain.batch.options import DEFAULT_RUN_OPTIONS, RunOptions
from adain.batch.ranks import TORCHRUN, Rank, rank_of
from adain.imaging import reader, writer
from adain.imaging.options import DEFAULT_READ_OPTIONS, ReadOptions, check_size
from adain.imaging.photo import Photo
from adain.inference import full_size, pipeline, preparation, style_encoding
from adain.inference.options import DEFAULT_STYLE_OPTIONS, StyleOptions, override
from adain.methods import ITERATIVE, METHODS, Method, StyleCode, weights
from adain.utils import files
from adain.utils.checks import check_names
from adain.utils.errors import INPUT_ERRORS, one_line
from adain.utils.precision import Precision

log = logging.getLogger(__name__)

BATCH_PIXELS = 2**21
"""Largest number of pixels of a batch: eight images of 512 x 512. Larger batches save no time, but need more memory."""

LARGE = 2**23
"""Pixels from which on an image is neither decoded in advance nor kept in memory until it is written."""

BATCHES_WAITING = 8
"""Largest number of images that wait for others of their size, in batches."""

CODES_CACHED = 512
"""Styles whose codes are cached."""

LARGE_CODES_CACHED = 16
"""The same for methods whose codes take tens of megabytes."""

SINGLE_IMAGE_OPTIONS = ("style_weight", "mask", "feather", "regions")
"""Style options that do not apply to folders. gatys has a setting that is called style_weight, too."""

ReadImage = Callable[[Path], Photo | str]
"""Reads a content, or returns the reason why it cannot be read."""


def stylize_folder(
    content: str | Path,
    style: str | Path | None,
    output: str | Path,
    pairs: str | Path = "all",
    method: str | Path | Method = "adain",
    *,
    size: int | None = None,
    options: StyleOptions = DEFAULT_STYLE_OPTIONS,
    read_options: ReadOptions = DEFAULT_READ_OPTIONS,
    run_options: RunOptions = DEFAULT_RUN_OPTIONS,
    device: str = "auto",
    precision: Precision = "auto",
    **changes: Any,
) -> list[tuple[Path, str]]:
    """Stylize a folder of images.

    Results are named CONTENT__STYLE, with a hash of the path where several would share a name, in the subfolders of
    their contents. Each complete result gets a line in `manifest.jsonl`; another run skips a result if its line
    matches the settings and inputs, and its file is unchanged. Under torchrun, each process stylizes its share and has
    its own manifest.

    Worker processes import the main module again, so a script must call this function below
    `if __name__ == "__main__":`.

    Args:
        content: Folder of contents.
        style: Folder of styles; None for a method with a built-in style.
        output: Folder for the results.
        pairs: `all` for every content in every style; `random` for one style per content, drawn by its path and the
            seed; or a CSV file with columns content, style, and optionally alpha, whose paths are relative to the
            folders or absolute.
        method: As `adain.stylize` takes it.
        size: Shorter side of the results in pixels (default: each content's own).
        options: How images are stylized: one alpha, and neither masks nor style weights.
        read_options: Which files are accepted.
        run_options: How the run works.
        device: As `adain.prepare` takes it.
        precision: As `adain.prepare` takes it.
        changes: Fields of the options by name, such as `alpha=0.8` or `workers=0`, which override these; all others are
            settings of the method.

    Returns:
        What could not be read or stylized, images and subfolders, with the reasons.

    Raises:
        ValueError: An option is unknown, out of range, or does not apply, a folder has no images, a row of the CSV file
            is wrong, or the variables of torchrun are.
        OSError: No such folder, or a result cannot be written.
    """
    options, changes = override(options, changes, exclude=SINGLE_IMAGE_OPTIONS)
    read_options, changes = override(read_options, changes)
    run_options, settings = override(run_options, changes)
    check_names(settings, stylize_folder, StyleOptions, ReadOptions, RunOptions, *METHODS.values())
    _check_options(options, run_options, size)
    rank = rank_of(launchers=[TORCHRUN])
    if method in ITERATIVE:
        settings["seed"] = run_options.seed
    ready = preparation.prepare_once(method, _own_device(device, rank), precision, **settings)
    options = replace(options, work_size=full_size.resolve_work_size(ready, options.work_size))
    _check_styles(ready, style, options)
    # The precision as it was asked for: `auto` gives results that look the same on all machines, and a run may be
    # resumed on another one.
    recorded = _recorded_settings(ready, options, size, str(ready.dtype) if ready is method else precision)

    folder = Path(output).resolve()
    inputs = [ImageFolder(Path(path), folder) for path in (content, style) if path is not None]
    jobs = plan_jobs(inputs, folder, pairs, ready, options.alphas[0], run_options.seed, run_options.suffix)
    jobs = jobs[rank.number :: rank.count]
    run = FolderRun(ready, options, size, read_options, run_options)
    manifest_path = folder / rank.manifest(MANIFEST)
    with locked(manifest_path, rank.other_manifests(MANIFEST)):
        manifest = Manifest(manifest_path, recorded, run_options.seed, run_options.verify)
        missing = manifest.missing(jobs)
        if rank.count == 1:  # other processes may be writing theirs
            for subfolder in {folder / job.output.parent for job in jobs}:
                files.remove_stale(subfolder)
        quiet = run_options.quiet or rank.number > 0
        done = len(jobs) - len(missing)
        results = tqdm(run.results(missing), total=len(jobs), initial=done, unit=" images", disable=quiet or None)
        _write(results, manifest, max(1, run_options.workers))
    failures = [*dict.fromkeys(failure for folder in inputs for failure in folder.unreadable)]
    for path, reason in run.failures.items():
        failures.append((path, reason.removeprefix(str(path)).lstrip(": ")))
    return failures


def _check_options(options: StyleOptions, run_options: RunOptions, size: int | None) -> None:
    if len(options.alphas) != 1:
        raise ValueError(f"Expected one alpha for a folder, got {len(options.alphas)}; give others in a CSV file")
    if any(given is not None for given in (options.mask, options.style_weight, options.regions)):
        raise ValueError("Expected neither masks nor regions nor style weights for a folder; leave them out")
    writer.check_suffix(f"name{run_options.suffix}")
    check_size(size)


def _check_styles(method: Method, style: str | Path | None, options: StyleOptions) -> None:
    name = type(method).__name__
    if method.takes_style and style is None:
        raise ValueError(f"{name} needs a folder of styles, got none")
    if not method.takes_style and (style is not None or options.style_size is not None):
        raise ValueError(f"{name} takes no styles and no style_size; leave them out")


def _own_device(device: str, rank: Rank) -> str:
    """Return a GPU for this process if `device` is `auto` and several processes share the GPUs; else `device`."""
    if device == "auto" and rank.count > 1 and torch.cuda.is_available():
        return f"cuda:{rank.local % torch.cuda.device_count()}"
    return device


def _recorded_settings(method: Method, options: StyleOptions, size: int | None, precision: str) -> dict[str, Any]:
    """Return the settings that all results depend on, as the manifest records them."""
    small = size is not None and size <= full_size.LARGEST_CONTENT
    return {
        "method": type(method).__name__,
        "weights": weights.fingerprint(method),
        "size": size,
        "style_size": options.style_size,
        "color": options.color,
        "photorealistic": options.photorealistic,
        "alpha_blend": options.alpha_blend,
        "detail": options.detail,
        "work_size": "content" if options.work_size is None and small else options.work_size,
        "precision": precision,
    }


@dataclass(frozen=True)
class Unit:
    """A job that is ready to be stylized."""

    job: Job
    content: Photo
    style: StyleCode | Path | None
    """The code of the style; or its file, if it must be encoded for the content."""


@dataclass(frozen=True)
class Stylized:
    """A finished job."""

    job: Job
    result: Photo
    seconds: float


class FolderRun:
    """Reads and stylizes the images of jobs.

    Args:
        method: Ready to stylize.
        options: How images are stylized; the jobs have their own alpha.
        size: Shorter side of the results in pixels; None for each content's own.
        read_options: Which files are accepted.
        run_options: How the run works.

    Attributes:
        failures: Why images could not be read or stylized, by path.
    """

    def __init__(
        self,
        method: Method,
        options: StyleOptions,
        size: int | None,
        read_options: ReadOptions,
        run_options: RunOptions,
    ):
        self.method = method
        self.options = options
        self.read_options = read_options
        self.batch_size = 1 if method.iterative else run_options.batch_size
        self.workers = run_options.workers
        self.failures = dict[Path, str]()
        self._read = partial(read_content, size=size, options=read_options)
        # With coral, styles get the colors of each content before they are encoded.
        self.encodes_once = method.takes_style and options.color != "coral"
        cached = CODES_CACHED if method.supports_mixing and not method.iterative else LARGE_CODES_CACHED
        self._encode = lru_cache(cached)(
            partial(style_encoding.encode_style, method, read_options=read_options),
        )

    def results(self, jobs: Sequence[Job]) -> Iterator[Stylized]:
        """Stylize the jobs. Those that fail are left out and noted in `failures`."""
        for batch in batches(self._units(jobs), self.batch_size):
            yield from self._stylize_batch(batch)

    def _units(self, jobs: Sequence[Job]) -> Iterator[Unit]:
        """Yield the jobs with their styles and their contents, each of which is decoded once and in advance."""
        by_content = defaultdict[Path, list[Job]](list)
        for job in jobs:
            by_content[job.content].append(job)
        contents = read_in_advance([*by_content], self._read, self.workers)
        for (path, same_content), content in zip(by_content.items(), contents, strict=True):
            if isinstance(content, str):
                self.failures[path] = content
                continue
            for job in same_content:
                try:
                    style = self._style(job, content)
                except INPUT_ERRORS as error:
                    self.failures[job.style or path] = one_line(error)
                else:
                    yield Unit(job, content, style)

    def _style(self, job: Job, content: Photo) -> StyleCode | Path | None:
        if not self.encodes_once:
            return job.style
        side = style_encoding.style_side(self.options.style_size, content.pixels, self.options.work_size)
        return self._encode(job.style, side)

    def _stylize_batch(self, batch: Sequence[Unit]) -> Iterator[Stylized]:
        """Stylize units of one size, style and strength at once; if that fails, one by one."""
        start = time.perf_counter()
        try:
            pixels = self._stylize(batch)
        except INPUT_ERRORS as error:
            if len(batch) > 1:
                for unit in batch:
                    yield from self._stylize_batch([unit])
            else:
                # An OSError is about the style: the content was read before.
                job = batch[0].job
                self.failures[job.style if isinstance(error, OSError) and job.style else job.content] = one_line(error)
            return
        seconds = (time.perf_counter() - start) / len(batch)
        for unit, stylized in zip(batch, pixels.split(1), strict=True):
            yield Stylized(unit.job, replace(unit.content, pixels=stylized), seconds)

    def _stylize(self, batch: Sequence[Unit]) -> torch.Tensor:
        pixels = batch[0].content.pixels
        if len(batch) > 1:
            pixels = torch.cat([unit.content.pixels for unit in batch])
        options = replace(self.options, alpha=batch[0].job.alpha)
        if self.encodes_once:
            options = replace(options, style_size=None)  # the codes have it
        content = Photo(pixels)
        return pipeline.stylize(
            content, _joined_style(batch), self.method, options=options, read_options=self.read_options
        ).pixels


def _joined_style(batch: Sequence[Unit]) -> StyleCode | Path | None:
    """Return the style of a batch: one for all, or codes stacked in the order of the contents."""
    first = batch[0].style
    if not isinstance(first, dict) or all(unit.style is first for unit in batch):
        return first
    codes: list[Any] = [unit.style for unit in batch]
    return {name: torch.cat([code[name] for code in codes]) for name in first}


def batches(units: Iterable[Unit], batch_size: int) -> Iterator[list[Unit]]:
    """Group units that can be stylized at once. If too many wait for others of their kind, the oldest go first."""
    waiting: dict[str, list[Unit]] = {}
    for unit in units:
        kind = _kind(unit)
        waiting.setdefault(kind, []).append(unit)
        full = min(batch_size, BATCH_PIXELS // _pixels(unit.content))
        if isinstance(unit.style, Path):
            full = 1
        if len(waiting[kind]) >= full:
            yield waiting.pop(kind)
        elif sum(map(len, waiting.values())) >= BATCHES_WAITING * batch_size:
            oldest = next(iter(waiting))
            yield waiting.pop(oldest)
    yield from waiting.values()


def _kind(unit: Unit) -> str:
    """Return a key that is equal for units that can be stylized in one batch."""
    style: Any = unit.style
    if isinstance(style, dict):
        style = [(name, value.shape) for name, value in style.items()]
    pixels = unit.content.pixels
    return str((pixels.shape, pixels.dtype, unit.job.alpha, style))


def _pixels(photo: Photo) -> int:
    return photo.pixels[0, 0].numel()


def read_content(path: Path, size: int | None, options: ReadOptions) -> Photo | str:
    """Return the content, or the reason why it cannot be read."""
    try:
        return reader.load(path, size, options)
    except INPUT_ERRORS as error:
        return one_line(error)


class _Contents(Dataset):
    """Contents for the workers of a `DataLoader`: each one, or why it cannot be read; None for a large one."""

    def __init__(self, paths: Sequence[Path], read: ReadImage):
        self.paths = paths
        self.read = read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Photo | str | None:
        photo = self.read(self.paths[index])
        return None if isinstance(photo, Photo) and _pixels(photo) > LARGE else photo


def read_in_advance(paths: Sequence[Path], read: ReadImage, workers: int) -> Iterator[Photo | str]:
    """Read the images in order, in other processes and in advance; large ones in this process, at their turn."""
    with warnings.catch_warnings():
        # There may be more workers than cores, as the user asked for.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        workers = min(workers, len(paths))
        # A forked process would lack the threads of libvips, and wait for them forever. A fork server and its workers
        # would survive this process if it is killed.
        start = "spawn" if workers else None
        loader = DataLoader(_Contents(paths, read), batch_size=None, num_workers=workers, multiprocessing_context=start)
        with _child_signal_unchanged():
            decoded: Iterator[Photo | str | None] = iter(loader)
    for path in paths:
        try:
            content = next(decoded)
        except RuntimeError as error:  # the system may kill a worker, for example to free memory
            log.warning("A process that reads images ended; this process reads the others (%s)", error)
            decoded = itertools.repeat(None)
            content = None
        yield read(path) if content is None else content


@contextmanager
def _child_signal_unchanged() -> Iterator[None]:
    """Restore the handler of SIGCHLD after the `with` block.

    PyTorch's raises an error wherever the main thread is when a worker is killed. The iterator raises it as well.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, previous)


def _write(results: Iterable[Stylized], manifest: Manifest, threads: int) -> None:
    """Save results while the next ones are stylized, but keep none in memory while a large one waits."""
    writing = deque[Future]()
    with ThreadPoolExecutor(threads) as pool:
        for stylized in results:
            writing.append(pool.submit(manifest.write, stylized.job, stylized.result, stylized.seconds))
            most = 0 if _pixels(stylized.result) > LARGE else 2 * threads
            while len(writing) > most:
                writing.popleft().result()
        for future in writing:
            future.result()
