"""Folders: every content in its styles, in batches, shared out among processes, resumed where a run stopped."""

import csv
import hashlib
import json
import os
import random
import re
import threading
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from adain import images, inference, weights
from adain.backbones import check_choice
from adain.images import Photo
from adain.methods import Method, StyleCode

BATCH = 2**21  # pixels: eight pictures of 512 x 512; more at a time save nothing, but take memory
LARGE = 2**23  # pixels from which on a picture is neither decoded ahead nor kept waiting to be written
KEPT = 2**29  # bytes of style codes: of adain all there are, of style-swap a few
AHEAD = 8  # batches' worth of pictures that wait for others of their size
LONGEST = 200  # bytes of a name; file systems end at 255, and a temporary name is longer
TEMPORARY = re.compile(r"\..+-(\d+)-\d+\.\w+")  # of `adain.images.replacing`; the number is the process


@dataclass(frozen=True)
class Job:
    """One result: of what, how strongly, and where to, relative to the output folder."""

    content: Path
    style: Path | None
    alpha: float
    output: Path = Path()


Unit = tuple[Job, Photo, StyleCode | Path | None]
"""What is painted together with others: a job, its content, and its style's code, or the style where it has none."""


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
    seed: int = 0,
    batch_size: int = 8,
    workers: int = 4,
    suffix: str = ".png",
    max_pixels: int = images.MAX_PIXELS,
    truncated: bool = False,
    device: str = "auto",
    precision: inference.Precision = "auto",
    quiet: bool = False,
    **settings: Any,
) -> list[tuple[Path, str]]:
    """Paint a folder's pictures into another, which mirrors its subfolders; what is done is not done again.

    Results are named CONTENT__STYLE, with a hash of the path where several would have one name. Each that is wholly
    written gets a line in `manifest.jsonl`; another run skips those whose line and file are as it would make them.
    Under torchrun each process paints its share, on the GPU of its local rank, and has a manifest of its own.

    Args:
        content: folder of contents, to which what lies in the output folder does not belong.
        style: folder of styles; None for a method that has one of its own.
        output: folder to write to.
        pairs: `all`; `random`, one style for each content, drawn by its path and the seed; or a CSV file with columns
            content, style and, if need be, alpha, its paths relative to the folders or absolute.
        method: as `adain.stylize` takes it, and so all that is not named here.
        seed: of random pairs.
        batch_size: pictures that are painted at a time, at most.
        workers: processes that read, and threads that write; at 0 this process reads.
        suffix: of the results, which tells their format.
        max_pixels: of contents, as `adain.images.load` takes it.
        truncated: the same.
        quiet: no progress bar.

    Returns:
        The pictures that could not be read or painted, each with the reason.

    Raises:
        ValueError: a setting out of range, a folder without pictures, a wrong row in the CSV file.
        OSError: no such folder, or a result that cannot be written.
    """
    if batch_size < 1 or workers < 0:
        raise ValueError(f"batch_size is at least 1 and workers 0, not {batch_size} and {workers}")
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha lies between 0 (content) and 1 (style), not at {alpha}")
    check_choice("color", color, inference.COLORS)
    images.check_suffix(f"name{suffix}")
    for side in (size, None if style_size == "content" else style_size):
        images.check_size(side)
    ranks = {"RANK": 0, "WORLD_SIZE": 1, "LOCAL_RANK": 0}  # as torchrun sets them
    rank, world, local = (int(os.environ.get(name, alone)) for name, alone in ranks.items())
    if device == "auto" and world > 1 and torch.cuda.is_available():
        device = f"cuda:{local % torch.cuda.device_count()}"
    built = isinstance(method, Method) and not settings
    ready = method if isinstance(method, Method) and built else inference.prepare(method, device, precision, **settings)
    target = Path(output).resolve()
    jobs = plan(content, style, target, pairs, ready, alpha, seed, suffix)[rank::world]
    look = {"style_size": style_size, "color": color, "photorealistic": photorealistic}
    about = {"method": type(ready).__name__, "weights": weights.fingerprint(ready), "size": size, **look}
    # As asked, since what `auto` comes to differs by less than is seen, and a run may go on on another machine.
    about["precision"] = str(ready.like().dtype) if built else precision
    if world == 1:  # otherwise they may be another's at work
        _remove_stale({target / job.output.parent for job in jobs})
    manifest = Manifest(target, f"manifest-{rank}.jsonl" if world > 1 else "manifest.jsonl", about, seed)
    missing = manifest.missing(jobs, max(1, workers))
    painter = Painter(
        ready,
        partial(images.load, size=size, max_pixels=max_pixels, truncated=truncated),
        partial(inference.stylize, method=ready, tile=tile, max_memory=max_memory, **look),
        Codes(ready, style_size) if ready.styled and color != "coral" else None,
    )
    with tqdm(total=len(jobs), initial=len(jobs) - len(missing), unit=" pictures", disable=quiet or rank > 0) as bar:
        painter.run(missing, manifest.write, 1 if ready.iterative else batch_size, workers, bar.update)
    return [*painter.failures.items()]


def plan(
    content: str | Path,
    style: str | Path | None,
    output: Path,
    pairs: str | Path,
    method: Method,
    alpha: float,
    seed: int,
    suffix: str,
) -> list[Job]:
    """The results of all ranks, in their order; arguments and errors as of `paint_folder`."""
    kind = type(method).__name__
    if method.styled == (style is None):
        raise ValueError(f"{kind} {'needs a folder of styles' if method.styled else 'takes no styles; leave them out'}")
    sides = [_Side.of(Path(side), output) for side in (content, style) if side is not None]
    contents, styles = sides[0], sides[-1]
    if pairs not in ("all", "random"):
        jobs = _read_pairs(Path(pairs), sides, alpha)
    elif not method.styled:
        jobs = [Job(one, None, alpha) for one in contents.files]
    elif pairs == "all":
        jobs = [Job(one, other, alpha) for one in contents.files for other in styles.files]
    else:
        draws = (random.Random(f"{seed} {contents.place(one)}").choice(styles.files) for one in contents.files)
        jobs = [Job(one, drawn, alpha) for one, drawn in zip(contents.files, draws, strict=True)]
    if not method.styled and any(job.alpha != 1 for job in jobs):
        raise ValueError(f"{kind} paints at full strength only; leave out alpha")
    names = contents.names((job.content for job in jobs), nested=True)
    endings = styles.names(job.style for job in jobs if job.style) if method.styled else {}
    strengths = Counter((job.content, job.style) for job in {*jobs})
    own = weights.metadata(method)["method"]
    for i, job in enumerate(jobs):
        ending = endings[job.style].name if job.style else own
        strength = f"-{job.alpha}" if strengths[job.content, job.style] > 1 else ""
        name = names[job.content]
        jobs[i] = replace(job, output=name.with_name(_short(f"{name.name}__{ending}{strength}") + suffix))
    for side in sides:
        if side.folder not in output.parents and any(side.folder in (output / job.output).parents for job in jobs):
            raise ValueError(f"results would lie among the pictures of {side.folder}; name another output folder")
    return [*dict.fromkeys(jobs)]


@dataclass(frozen=True)
class _Side:
    """A folder and the pictures in it, or a picture and its folder."""

    folder: Path
    files: list[Path]

    @classmethod
    def of(cls, path: Path, output: Path) -> "_Side":
        """As it is but for what lies in the output folder, where that is within."""
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such folder")
        path = path.resolve()
        files = [file for file in images.files(path) if path not in output.parents or output not in file.parents]
        if not files:
            raise ValueError(f"{path} holds no pictures but results; name a folder with some")
        return cls(path if path.is_dir() else path.parent, files)

    def place(self, path: Path) -> str:
        """Relative to the folder, if it lies there: the same wherever the folder is."""
        return (path.relative_to(self.folder) if self.folder in path.parents else path).as_posix()

    def names(self, others: Iterable[Path], nested: bool = False) -> dict[Path, Path]:
        """What results call each file, and others: its stem, after its subfolders if `nested`.

        Where stems are equal, or could be mistaken for a pair's, they get a hash of the place; it depends on what is in
        the folder, but not on what is painted.
        """
        places = {path: Path(self.place(path)) for path in {*self.files, *others}}
        plain = {
            path: place.with_suffix("") if nested and not place.is_absolute() else Path(place.stem)
            for path, place in places.items()
        }
        count = Counter(str(name).casefold() for name in plain.values())  # some file systems know no case
        for path, place in places.items():
            name = plain[path]
            mistakable = not nested and (name.name.startswith("_") or "__" in name.name)
            if count[str(name).casefold()] > 1 or place.is_absolute() or mistakable:
                plain[path] = name.with_name(f"{name.name}-{_hash(place.as_posix())[:8]}")
        return plain


def _read_pairs(table: Path, sides: Sequence[_Side], alpha: float) -> list[Job]:
    """The rows of a CSV file, whose paths are looked up in the folders."""
    if not table.is_file():
        raise FileNotFoundError(f"{table}: no such file; pairs are all, random or a CSV file")
    jobs, columns = [], ("content", "style")[: len(sides)]
    with table.open(newline="", encoding="utf-8-sig") as lines:
        rows = csv.DictReader(lines)
        if missing := [name for name in columns if name not in (rows.fieldnames or [])]:
            raise ValueError(f"{table} has no column {' and '.join(missing)}; its first row names the columns")
        for row in rows:
            paths = [Path(os.path.abspath(side.folder / (row[name] or ""))) for name, side in zip(columns, sides)]
            for path in paths:
                if not path.is_file():
                    raise ValueError(f"{table}, row {rows.line_num}: {path}: no such file")
            try:
                strength = float(row.get("alpha") or alpha)
            except ValueError:
                strength = -1
            if not 0 <= strength <= 1:
                raise ValueError(f"{table}, row {rows.line_num}: alpha is a number from 0 to 1, not {row['alpha']}")
            jobs.append(Job(paths[0], paths[1] if paths[1:] else None, strength))
    if not jobs:
        raise ValueError(f"{table} has no rows below the names of its columns")
    return jobs


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _short(name: str) -> str:
    return name if len(name.encode()) <= LONGEST else f"{name.encode()[:LONGEST].decode(errors='ignore')}-{_hash(name)[:8]}"


def _remove_stale(folders: Iterable[Path]) -> None:
    """Remove what processes that are no more have left half written."""
    for path in itertools.chain.from_iterable(folder.glob(".*-*") for folder in folders):
        if (found := TEMPORARY.fullmatch(path.name)) and not psutil.pid_exists(int(found[1])):
            path.unlink(missing_ok=True)


class Manifest:
    """The results that are done: a JSON line for each, with all that it depends on and what its file must be.

    Args:
        folder: of the results.
        name: of the file in it that is written; those of other ranks, which end as `manifest.jsonl` does, are read.
        about: the settings on which every result depends.
        seed: noted in each line, as what drew its style.
    """

    def __init__(self, folder: Path, name: str, about: Mapping[str, Any], seed: int):
        self.folder, self.path, self.about, self.seed = folder, folder / name, about, seed
        self.lock = threading.Lock()
        self.done = defaultdict[str, list[dict[str, Any]]](list)
        for line in (line for path in folder.glob("manifest*.jsonl") for line in path.read_bytes().splitlines()):
            with suppress(ValueError, KeyError, TypeError):  # a line half written by a run that was killed
                entry = json.loads(line)
                self.done[entry["output"]].append(entry)

    def missing(self, jobs: Sequence[Job], threads: int) -> list[Job]:
        """Those that are to be painted still, or again."""
        with ThreadPoolExecutor(threads) as pool:
            return [job for job, done in zip(jobs, pool.map(self._holds, jobs), strict=True) if not done]

    def _holds(self, job: Job) -> bool:
        wanted, path = self._wanted(job), self.folder / job.output
        entries = [entry for entry in self.done[wanted["output"]] if entry.items() >= wanted.items()]
        return bool(entries) and path.is_file() and any(entry.items() >= _seal(path).items() for entry in entries)
