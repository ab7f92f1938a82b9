"""Folders: every content in its styles, in batches, shared out among processes, resumed where a run stopped."""

import csv
import hashlib
import json
import os
import random
import threading
import time
import warnings
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from adain import images, inference, weights
from adain.backbones import check_choice
from adain.images import Photo
from adain.methods import ITERATIVE, Method, StyleCode

BATCH = 2**21  # pixels: eight pictures of 512 x 512; more at a time save nothing, but take memory
LARGE = 2**23  # pixels from which on a picture is neither decoded ahead nor kept waiting to be written
AHEAD = 8  # batches' worth of pictures that wait for others of their size
LONGEST = 200  # bytes of a name; file systems end at 255, and a temporary name is longer
FAILING = (OSError, ValueError, torch.OutOfMemoryError)
Failures = dict[Path, str]


@dataclass(frozen=True)
class Job:
    """One result: of what, how strongly, and where to, relative to the output folder."""

    content: Path
    style: Path | None
    alpha: float
    output: Path = Path()
    places: tuple[str, ...] = ()  # of content and style in their folders


Unit = tuple[Job, Photo, StyleCode | Path | None]
"""A job, its content, and its style's code; or the style itself, if it must be seen with the content."""


def paint_folder(
    content: str | Path,
    style: str | Path | None,
    output: str | Path,
    pairs: str | Path = "all",
    method: str | Path | Method = "adain",
    *,
    alpha: float = 1.0,
    size: int | None = None,
    style_size: inference.StyleSize = None,
    color: inference.Color = "style",
    photorealistic: bool = False,
    tile: int | None = None,
    max_memory: float | None = None,
    max_pixels: int = images.MAX_PIXELS,
    truncated: bool = False,
    seed: int = 0,
    batch_size: int = 8,
    workers: int = 2,
    suffix: str = ".png",
    device: str = "auto",
    precision: inference.Precision = "auto",
    quiet: bool = False,
    **settings: Any,
) -> list[tuple[Path, str]]:
    """Paint a folder's pictures into another; the pictures that could not be read or painted, each with the reason.

    `pairs` is `all`; `random`, one style for each content, drawn by its path and the seed; or a CSV file with columns
    content, style and, if need be, alpha, whose paths are relative to the folders or absolute. A method that has a
    style of its own takes None. At most `batch_size` pictures are painted at a time; `workers` processes read them (at
    0 this one does), and as many threads write. All else is as `adain.stylize` and `adain.images.load` take it.

    Results are named CONTENT__STYLE, with a hash of the path where several would have one name, in the content's
    subfolders. Each that is wholly written gets a line in `manifest.jsonl`; another run skips those whose line and file
    are as it would make them. Under torchrun each process paints its share, and has a manifest of its own.

    Raises:
        ValueError: a setting out of range, a folder without pictures, a wrong row in the CSV file.
        OSError: no such folder, or a result that cannot be written.
    """
    if batch_size < 1 or workers < 0:
        raise ValueError(f"batch_size is at least 1 and workers 0, not {batch_size} and {workers}")
    check_choice("color", color, inference.COLORS)
    images.check_suffix(f"name{suffix}")
    for pixels in (size, None if style_size == "content" else style_size):
        images.check_size(pixels)
    ranks = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}  # as torchrun sets them
    rank, world, local = (int(os.environ.get(name, alone)) for name, alone in ranks.items())
    if device == "auto" and world > 1 and torch.cuda.is_available():
        device = f"cuda:{local % torch.cuda.device_count()}"
    if method in ITERATIVE:
        settings["seed"] = seed  # of what it draws
    built = isinstance(method, Method) and not settings
    ready = method if isinstance(method, Method) and built else inference.prepare(method, device, precision, **settings)
    if ready.styled == (style is None) or not (ready.styled or style_size is None):
        wants = "needs a folder of styles" if ready.styled else "takes no styles nor a style_size; leave them out"
        raise ValueError(f"{type(ready).__name__} {wants}")
    folder = Path(output).resolve()
    sides = [Side(Path(side), folder) for side in (content, style) if side is not None]
    jobs = plan(sides, folder, pairs, ready, alpha, seed, suffix)[rank::world]
    look = {"style_size": style_size, "color": color, "photorealistic": photorealistic}
    about = {"method": type(ready).__name__, "weights": weights.fingerprint(ready), "size": size, **look}
    # As asked, since what `auto` comes to differs by less than is seen, and a run may go on on another machine.
    about["precision"] = str(ready.like().dtype) if built else precision
    manifest = Manifest(folder / (f"manifest-{rank}.jsonl" if world > 1 else "manifest.jsonl"), about, seed)
    missing = manifest.missing(jobs)
    if world == 1:  # others might be writing theirs
        _remove_stale({folder / job.output.parent for job in jobs})

    failures = Failures()
    read = partial(_read, size=size, max_pixels=max_pixels, truncated=truncated)
    encode = None
    if ready.styled and color != "coral":
        many = ready.mixes and not ready.iterative  # codes of a megabyte at most; style-swap's and gatys's take tens
        encode = lru_cache(512 if many else 16)(partial(inference.encode_style, ready))
        del look["style_size"]
    stylize = partial(inference.stylize, method=ready, tile=tile, max_memory=max_memory, **look)
    units = _units(missing, read, encode, style_size, workers, failures)
    painted = _painted(_batches(units, 1 if ready.iterative else batch_size), stylize, failures)
    bar = {"total": len(jobs), "initial": len(jobs) - len(missing), "unit": " pictures", "disable": quiet or rank > 0}
    threads, writing = max(1, workers), deque[Future]()
    with ThreadPoolExecutor(threads) as pool:
        for result in tqdm(painted, **bar):
            writing.append(pool.submit(manifest.write, *result))
            while len(writing) > (0 if _pixels(result[1]) > LARGE else 2 * threads):
                writing.popleft().result()
        for future in writing:
            future.result()
    return [(path, reason.removeprefix(str(path)).lstrip(": ")) for path, reason in failures.items()]


def plan(
    sides: Sequence["Side"], output: Path, pairs: str | Path, method: Method, alpha: float, seed: int, suffix: str
) -> list[Job]:
    """The results of all ranks, in their order; sides are contents and, unless the method has its own, styles."""
    contents, alpha = sides[0], _strength(alpha)
    styles: Sequence[Path | None] = sides[1].files if method.styled else [None]
    if pairs == "all":
        jobs = [Job(one, other, alpha) for one in contents.files for other in styles]
    elif pairs == "random":
        draws = [random.Random(f"{seed} {contents.place(one)}").choice(styles) for one in contents.files]
        jobs = [Job(one, drawn, alpha) for one, drawn in zip(contents.files, draws, strict=True)]
    else:
        jobs = [*dict.fromkeys(_read_pairs(Path(pairs), sides, alpha))]
    if not method.styled and any(job.alpha != 1 for job in jobs):
        raise ValueError(f"{type(method).__name__} paints at full strength only; leave out alpha")
    names = contents.names((job.content for job in jobs), mirrored=True)
    endings = sides[1].names(job.style for job in jobs if job.style) if method.styled else {}
    times = Counter((job.content, job.style) for job in jobs)
    for i, job in enumerate(jobs):
        ending = endings[job.style].name if job.style else weights.metadata(method)["method"]
        name = f"{names[job.content].name}__{ending}" + f"-{job.alpha}" * (times[job.content, job.style] > 1)
        if len(name.encode()) > LONGEST:
            name = f"{name.encode()[:LONGEST].decode(errors='ignore')}-{_hash(name)}"
        places = [side.place(path) for side, path in zip(sides, (job.content, job.style), strict=False) if path]
        jobs[i] = replace(job, output=names[job.content].with_name(name + suffix), places=tuple(places))
    for side in sides:
        if side.folder not in output.parents and any(side.folder in (output / job.output).parents for job in jobs):
            raise ValueError(f"results would lie among the pictures of {side.folder}; name another output folder")
    return jobs


class Side:
    """The pictures of a folder, without those in the output folder; or one picture."""

    def __init__(self, path: Path, output: Path):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such folder")
        path = path.resolve()
        self.folder = path if path.is_dir() else path.parent
        within = self.folder in output.parents
        self.files = [file for file in images.files(path) if not within or output not in file.parents]
        if not self.files:
            raise ValueError(f"{path} holds no pictures but results; name another folder")

    def place(self, path: Path) -> str:
        """Relative to the folder, if it lies there: the same wherever the folder is."""
        return (path.relative_to(self.folder) if self.folder in path.parents else path).as_posix()

    def names(self, others: Iterable[Path], mirrored: bool = False) -> dict[Path, Path]:
        """What results call each picture: its stem, after its subfolders if `mirrored`; with a hash if not its alone.

        This depends on what is in the folder, and not on what is painted of it.
        """
        names, others = dict[Path, Path](), {*others} - {*self.files}
        for path in (*self.files, *others):
            within = mirrored and self.folder in path.parents
            names[path] = (path.parent.relative_to(self.folder) if within else Path()) / path.stem
        count = Counter(str(names[path]).casefold() for path in self.files)  # some file systems know no case
        for path, name in names.items():
            # Underscores of a style's could be mistaken for those before it.
            mistakable = not mirrored and (name.name.startswith("_") or "__" in name.name)
            if path in others or count[str(name).casefold()] > 1 or mistakable:
                names[path] = name.with_name(f"{name.name}-{_hash(self.place(path))}")
        return names


def _read_pairs(table: Path, sides: Sequence[Side], alpha: float) -> Iterator[Job]:
    """The rows of a CSV file, whose paths are looked up in the folders."""
    if not table.is_file():
        raise FileNotFoundError(f"{table}: no such file; pairs are all, random or a CSV file")
    with table.open(newline="", encoding="utf-8-sig") as lines:
        rows, row = csv.DictReader(lines), None
        columns = dict(zip(("content", "style"), sides, strict=False))
        if missing := [name for name in columns if name not in (rows.fieldnames or [])]:
            raise ValueError(f"{table} has no column {' and '.join(missing)}; its first row names the columns")
        for row in rows:
            where = f"{table}, row {rows.line_num}: "
            paths = [Path(os.path.abspath(side.folder / (row[name] or ""))) for name, side in columns.items()]
            for path in paths:
                if not path.is_file():
                    raise ValueError(f"{where}{path}: no such file")
            yield Job(paths[0], paths[1] if len(paths) > 1 else None, _strength(row.get("alpha") or alpha, where))
    if row is None:
        raise ValueError(f"{table} has no rows after the one that names its columns")


def _strength(value: float | str, where: str = "") -> float:
    with suppress(ValueError):
        if 0 <= float(value) <= 1:
            return float(value)
    raise ValueError(f"{where}alpha lies between 0 (content) and 1 (style), not at {value}")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _remove_stale(folders: Iterable[Path]) -> None:
    """Remove what processes that are no more have left half written, as `adain.images.replacing` names it."""
    for path in [path for folder in folders for path in folder.glob(".*-*-*")]:
        process = path.stem.split("-")[-2]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            path.unlink(missing_ok=True)


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
                    self.done[entry["output"]].append(entry)
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
        return {**places, "output": job.output.as_posix(), "alpha": job.alpha, **self.about, **stamps}

    def _holds(self, job: Job) -> bool:
        wanted, path = self.wanted[job], self.path.parent / job.output
        entries = [entry for entry in self.done.get(wanted["output"], ()) if entry.items() >= wanted.items()]
        seal = _seal(path) if entries and path.is_file() else None
        return seal is not None and any(entry.items() >= seal.items() for entry in entries)

    def write(self, job: Job, photo: Photo, seconds: float) -> None:
        """Save the result, and then its line."""
        path = self.path.parent / job.output
        images.save(photo.pixels, path, like=photo)
        line = {**self.wanted[job], "seed": self.seed, "seconds": round(seconds, 4), **_seal(path)}
        with self.lock, self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")


def _seal(path: Path) -> dict[str, Any]:
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
        return images.load(path, **options)
    except FAILING as error:
        return _line(error)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


def _pixels(photo: Photo) -> int:
    return photo.pixels[0, 0].numel()


def _units(
    jobs: Iterable[Job],
    read: Callable[[Path], Photo | str],
    encode: Callable[..., StyleCode] | None,
    style_size: inference.StyleSize,
    workers: int,
    failures: Failures,
) -> Iterator[Unit]:
    """Jobs with their pictures, each content decoded once, ahead of its turn."""
    todo = defaultdict[Path, list[Job]](list)
    for job in jobs:
        todo[job.content].append(job)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more processes than cores, as was asked for
        decoded = iter(DataLoader(_Contents([*todo], read), batch_size=None, num_workers=min(workers, len(todo))))
    for (path, same), found in zip(todo.items(), decoded, strict=True):
        photo = read(path) if found is None else found
        if isinstance(photo, str):
            failures[path] = photo
            continue
        side = min(photo.pixels.shape[2:]) if style_size == "content" else style_size
        for job in same:
            try:
                code = encode(job.style, side) if encode else job.style
            except FAILING as error:
                failures[job.style or path] = _line(error)
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
                failures[jobs[0].style if isinstance(error, OSError) else jobs[0].content] = _line(error)
            continue
        seconds = (time.perf_counter() - start) / len(batch)
        for job, photo, one in zip(jobs, photos, painted.split(1), strict=True):
            yield job, replace(photo, pixels=one), seconds
