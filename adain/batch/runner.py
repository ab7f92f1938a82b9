"""Folders: every content in its styles, in batches, shared out among processes, resumed where a run stopped."""

import hashlib
import json
import os
import threading
import time
import warnings
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from adain.batch.jobs import ImageFolder, Job, plan_jobs
from adain.imaging import photo, reader, writer
from adain.imaging.photo import Photo
from adain.imaging.reader import MAX_PIXELS
from adain.inference import full_size, pipeline, preparation, style_encoding
from adain.inference.detail import check_detail
from adain.inference.options import ALPHA_BLENDS, COLORS, AlphaBlend, Color, StyleSize
from adain.inference.pipeline import Precision
from adain.methods import ITERATIVE, Method, StyleCode, weights
from adain.utils import files
from adain.utils.checks import check_choice
from adain.utils.errors import CONTENT_ERRORS, one_line

BATCH = 2**21  # pixels: eight pictures of 512 x 512; more at a time save nothing, but take memory
LARGE = 2**23  # pixels from which on a picture is neither decoded ahead nor kept waiting to be written
AHEAD = 8  # batches' worth of pictures that wait for others of their size
FAILING = (*CONTENT_ERRORS, ValueError)
Failures = dict[Path, str]

EARLIER = {"work_size": "content", "detail": 0.0}
"""Settings of versions that did not note them in their manifest."""

Unit = tuple[Job, Photo, StyleCode | Path | None]
"""A job, its content, and its style's code; or the style itself, if it must be seen with the content."""


def stylize_folder(
    content: str | Path,
    style: str | Path | None,
    output: str | Path,
    pairs: str | Path = "all",
    method: str | Path | Method = "adain",
    *,
    alpha: float = 1.0,
    alpha_blend: AlphaBlend = "residual",
    size: int | None = None,
    style_size: StyleSize = None,
    color: Color = "style",
    photorealistic: bool = False,
    work_size: full_size.WorkSize = None,
    detail: float = 0.0,
    tile: int | None = None,
    max_memory: float | None = None,
    max_pixels: int = MAX_PIXELS,
    truncated: bool = False,
    seed: int = 0,
    batch_size: int = 8,
    workers: int = 2,
    suffix: str = ".png",
    device: str = "auto",
    precision: Precision = "auto",
    quiet: bool = False,
    **settings: Any,
) -> list[tuple[Path, str]]:
    """Paint a folder's pictures into another; the pictures that could not be read or painted, each with the reason.

    `pairs` is `all`; `random`, one style for each content, drawn by its path and the seed; or a CSV file with columns
    content, style and, if need be, alpha, whose paths are relative to the folders or absolute. A method that has a
    style of its own takes None. At most `batch_size` pictures are painted at a time; `workers` processes read them (at
    0 this one does), and as many threads write. Each process imports the main module again, so that a script calls this
    below `if __name__ == "__main__":`. All else is as `adain.stylize` and `adain.imaging.reader.load` take it.

    Results are named CONTENT__STYLE, with a hash of the path where several would have one name, in the content's
    subfolders. Each that is wholly written gets a line in `manifest.jsonl`; another run skips those whose line and file
    are as it would make them. Under torchrun each process paints its share, and has a manifest of its own.

    Raises:
        ValueError: a setting out of range, a folder without pictures, a wrong row in the CSV file.
        OSError: no such folder, or a result that cannot be written.
    """
    if batch_size < 1 or workers < 0:
        raise ValueError(f"batch_size is at least 1 and workers 0, not {batch_size} and {workers}")
    check_choice("color", color, COLORS)
    check_choice("alpha_blend", alpha_blend, ALPHA_BLENDS)
    writer.check_suffix(f"name{suffix}")
    for pixels in (size, None if style_size == "content" else style_size):
        photo.check_size(pixels)
    rank, world, device = _ranked(device)
    if method in ITERATIVE:
        settings["seed"] = seed  # of what it draws
    ready = method
    if settings or not isinstance(ready, Method):
        ready = preparation.prepare(method, device, precision, **settings)
    work_size = full_size.work_size_for(ready, work_size)
    check_detail(detail)
    if ready.takes_style == (style is None) or not (ready.takes_style or style_size is None):
        wants = "needs a folder of styles" if ready.takes_style else "takes no styles nor a style_size; leave them out"
        raise ValueError(f"{type(ready).__name__} {wants}")
    folder = Path(output).resolve()
    sides = [ImageFolder(Path(side), folder) for side in (content, style) if side is not None]
    jobs = plan_jobs(sides, folder, pairs, ready, alpha, seed, suffix)[rank::world]
    look = {"style_size": style_size, "color": color, "photorealistic": photorealistic, "alpha_blend": alpha_blend}
    about: dict[str, Any] = {
        "method": type(ready).__name__,
        "weights": weights.fingerprint(ready),
        "size": size,
        **look,
    }
    small = size is not None and size <= full_size.LARGEST_CONTENT
    about["detail"] = detail
    about["work_size"] = "content" if work_size is None and small else work_size
    # As asked, since what `auto` comes to differs by less than is seen, and a run may go on on another machine.
    about["precision"] = str(ready.dtype) if ready is method else precision
    manifest = Manifest(folder / (f"manifest-{rank}.jsonl" if world > 1 else "manifest.jsonl"), about, seed)
    missing = manifest.missing(jobs)
    if world == 1:  # others might be writing theirs
        for place in {folder / job.output.parent for job in jobs}:
            files.remove_stale(place)

    failures = Failures()
    read = partial(_read, size=size, max_pixels=max_pixels, truncated=truncated)
    encode, read_options = None, reader.ReadOptions(max_pixels, truncated)
    if ready.takes_style and color != "coral":
        many = (
            ready.supports_mixing and not ready.iterative
        )  # codes of a megabyte at most; style-swap's and gatys's take tens
        encode = lru_cache(512 if many else 16)(partial(style_encoding.encode_style, ready, read_options=read_options))
        del look["style_size"]
    stylize = partial(pipeline.stylize, method=ready, work_size=work_size, tile=tile, max_memory=max_memory, **look)
    stylize = partial(stylize, detail=detail, read_options=read_options)
    side_of = partial(style_encoding.style_side, style_size, work_size=work_size)
    units = _units(missing, read, encode, side_of, workers, failures)
    painted = _painted(_batches(units, 1 if ready.iterative else batch_size), stylize, failures)
    bar = {"total": len(jobs), "initial": len(jobs) - len(missing), "unit": " pictures", "disable": quiet or rank > 0}
    _write(tqdm(painted, **bar), manifest, max(1, workers))
    return [(path, reason.removeprefix(str(path)).lstrip(": ")) for path, reason in failures.items()]


def _ranked(device: str) -> tuple[int, int, str]:
    """This process's number, of how many, and where it paints: under torchrun each has an accelerator of its own."""
    ranks = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}  # as torchrun sets them
    rank, world, local = (int(os.environ.get(name, alone)) for name, alone in ranks.items())
    if device == "auto" and world > 1 and torch.cuda.is_available():
        device = f"cuda:{local % torch.cuda.device_count()}"
    return rank, world, device


def _write(painted: Iterable[tuple[Job, Photo, float]], manifest: "Manifest", threads: int) -> None:
    """Save results while the next ones are painted, but none while a large one waits."""
    writing = deque[Future]()
    with ThreadPoolExecutor(threads) as pool:
        for result in painted:
            writing.append(pool.submit(manifest.write, *result))
            while len(writing) > (0 if _pixels(result[1]) > LARGE else 2 * threads):
                writing.popleft().result()
        for future in writing:
            future.result()


class Manifest:
    """The results that are done: for each a JSON line with all that it depends on, and what its file must be.

    Lines go to the file at `path`; those in other ranks' files, beside it, count as well. `about` are the settings that
    every result depends on; the seed is only noted, as a line names the style that it drew.
    """

    def __init__(self, path: Path, about: Mapping[str, Any], seed: int):
        self.path, self.about, self.seed, self.lock = path, about, seed, threading.Lock()
        self.wanted = dict[Job, dict[str, Any]]()
        self.done = defaultdict[str, list[dict[str, Any]]](list)
        for other in path.parent.glob("manifest*.jsonl"):
            data = other.read_bytes()
            for line in data.splitlines():
                with suppress(ValueError, KeyError, TypeError):  # half written by a run that was killed
                    entry = json.loads(line)
                    self.done[entry["output"]].append({**EARLIER, **entry})
            if other == path and not data.endswith(b"\n"):
                path.write_bytes(data + b"\n")

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Those that are to be painted, still or again."""
        # Noted now: a picture that is exchanged while it waits is painted again the next time.
        self.wanted = {job: self._depends(job) for job in jobs}
        with ThreadPoolExecutor() as pool:
            return [job for job, done in zip(self.wanted, pool.map(self._holds, self.wanted), strict=True) if not done]

    def _depends(self, job: Job) -> dict[str, Any]:
        files = {"content": job.content, "style": job.style}
        stats = {name: path.stat() for name, path in files.items() if path and path.exists()}
        stamps = {f"{name}_stamp": [stat.st_size, int(stat.st_mtime)] for name, stat in stats.items()}
        places = dict(zip(files, job.places, strict=False))
        found = {**places, "output": job.output.as_posix(), "alpha": job.alpha, **self.about, **stamps}
        if job.alpha == 1:  # where nothing is blended; earlier versions, which did not note it, painted the same
            found.pop("alpha_blend", None)
        return found

    def _holds(self, job: Job) -> bool:
        wanted, path = self.wanted[job], self.path.parent / job.output
        entries = [entry for entry in self.done.get(wanted["output"], ()) if _fits(entry, wanted, job.content)]
        seal = file_digest(path) if entries and path.is_file() else None
        return seal is not None and any(entry.items() >= seal.items() for entry in entries)

    def write(self, job: Job, photo: Photo, seconds: float) -> None:
        """Save the result, and then its line."""
        path = self.path.parent / job.output
        writer.save(photo.pixels, path, like=photo)
        line = {**self.wanted[job], "seed": self.seed, "seconds": round(seconds, 4), **file_digest(path)}
        with self.lock, self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _fits(entry: Mapping[str, Any], wanted: Mapping[str, Any], content: Path) -> bool:
    """Whether a line of a manifest has all the settings that are wanted.

    The default work size is `content`, as all earlier versions had it, where results have their content's size and that
    is not large.
    """
    by_default = wanted["work_size"] is None and wanted["size"] is None
    if by_default and entry["work_size"] == "content" and not _is_large(content):
        entry = {**entry, "work_size": None}
    return entry.items() >= wanted.items()


def _is_large(content: Path) -> bool:
    """Whether the default work size applies to an image at its own size; True if that cannot be read."""
    try:
        with Image.open(content) as image:
            return min(image.size) > full_size.LARGEST_CONTENT
    except reader.UNREADABLE:
        return True


def file_digest(path: Path) -> dict[str, Any]:
    """What tells whether a file is the one that was written."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while part := file.read(2**20):
            digest.update(part)
    return {"bytes": path.stat().st_size, "sha256": digest.hexdigest()}


class _Contents(Dataset):
    """Pictures for the workers of a `DataLoader`: each, or why it cannot be read; None for a large one."""

    def __init__(self, paths: Sequence[Path], read: Callable[[Path], Photo | str]):
        self.paths, self.read = paths, read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Photo | str | None:
        photo = self.read(self.paths[index])
        return None if isinstance(photo, Photo) and _pixels(photo) > LARGE else photo


def _read(path: Path, **options: Any) -> Photo | str:
    try:
        return reader.load(path, **options)
    except FAILING as error:
        return one_line(error)


def _pixels(photo: Photo) -> int:
    return photo.pixels[0, 0].numel()


def _units(
    jobs: Iterable[Job],
    read: Callable[[Path], Photo | str],
    encode: Callable[..., StyleCode] | None,
    side_of: Callable[[Tensor], int | None],
    workers: int,
    failures: Failures,
) -> Iterator[Unit]:
    """Jobs with their pictures, each content decoded once, ahead of its turn.

    `side_of` gives the shorter side that styles are brought to for a content's pixels.
    """
    todo = defaultdict[Path, list[Job]](list)
    for job in jobs:
        todo[job.content].append(job)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more processes than cores, as was asked for
        workers = min(workers, len(todo))
        # A fork would lack the threads of libvips, and wait for them forever. A fork server and its workers would
        # outlive this process if it is killed.
        start = "spawn" if workers else None
        contents = _Contents([*todo], read)
        loader = DataLoader(contents, batch_size=None, num_workers=workers, multiprocessing_context=start)
        decoded = iter(loader)
    for (path, same), found in zip(todo.items(), decoded, strict=True):
        photo = read(path) if found is None else found
        if isinstance(photo, str):
            failures[path] = photo
            continue
        side = side_of(photo.pixels)
        for job in same:
            try:
                code = encode(job.style, side) if encode else job.style
            except FAILING as error:
                failures[job.style or path] = one_line(error)
            else:
                yield job, photo, code


def _batches(units: Iterable[Unit], batch_size: int) -> Iterator[list[Unit]]:
    """Units that can be painted at once; where too many wait for others of their kind, the oldest go without."""
    waiting: dict[str, list[Unit]] = {}
    for unit in units:
        job, photo, code = unit
        shapes = [(name, value.shape) for name, value in code.items()] if isinstance(code, dict) else code
        kind = str((photo.pixels.shape, photo.pixels.dtype, job.alpha, shapes))
        waiting.setdefault(kind, []).append(unit)
        if len(waiting[kind]) >= (1 if isinstance(code, Path) else min(batch_size, BATCH // _pixels(photo))):
            yield waiting.pop(kind)
        elif sum(map(len, waiting.values())) >= AHEAD * batch_size:
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def _painted(
    batches: Iterable[Sequence[Unit]], stylize: Callable[..., Photo], failures: Failures
) -> Iterator[tuple[Job, Photo, float]]:
    """Each result, and the seconds that it took; where a batch fails, its pictures go one by one."""
    for batch in batches:
        start = time.perf_counter()
        jobs, photos, codes = zip(*batch, strict=True)
        code = codes[0]
        if any(other is not code for other in codes):
            code = {name: torch.cat([other[name] for other in codes]) for name in code}
        pixels = torch.cat([photo.pixels for photo in photos]) if len(batch) > 1 else photos[0].pixels
        try:
            painted = stylize(Photo(pixels), code, alpha=jobs[0].alpha).pixels
        except FAILING as error:
            if len(batch) > 1:
                yield from _painted(([unit] for unit in batch), stylize, failures)
            else:  # the only files that are read here are styles
                failures[jobs[0].style if isinstance(error, OSError) else jobs[0].content] = one_line(error)
            continue
        seconds = (time.perf_counter() - start) / len(batch)
        for job, content, pixels in zip(jobs, photos, painted.split(1), strict=True):
            yield job, replace(content, pixels=pixels), seconds
