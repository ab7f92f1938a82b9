"""What a folder's results are: which contents are painted in which styles, and what each is called."""

import csv
import hashlib
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from adain.imaging import listing
from adain.methods import Method

LONGEST = 200  # bytes of a name; file systems end at 255, and a temporary name is longer


@dataclass(frozen=True)
class Job:
    """One result: of what, how strongly, and where to, relative to the output folder."""

    content: Path
    style: Path | None
    alpha: float
    output: Path = Path()
    places: tuple[str, ...] = ()  # of content and style in their folders


def plan_jobs(
    sides: Sequence["ImageFolder"],
    output: Path,
    pairs: str | Path,
    method: Method,
    alpha: float,
    seed: int,
    suffix: str,
) -> list[Job]:
    """The results of all ranks, in their order; sides are contents and, unless the method has its own, styles."""
    contents, alpha = sides[0], _strength(alpha)
    styles: Sequence[Path | None] = sides[1].files if method.takes_style else [None]
    if pairs == "all":
        jobs = [Job(one, other, alpha) for one in contents.files for other in styles]
    elif pairs == "random":
        draws = [random.Random(f"{seed} {contents.place(one)}").choice(styles) for one in contents.files]
        jobs = [Job(one, drawn, alpha) for one, drawn in zip(contents.files, draws, strict=True)]
    else:
        jobs = [*dict.fromkeys(_read_pairs(Path(pairs), sides, alpha))]
    if not method.takes_style and any(job.alpha != 1 for job in jobs):
        raise ValueError(f"{type(method).__name__} paints at full strength only; leave out alpha")
    names = contents.names((job.content for job in jobs), mirrored=True)
    endings = sides[1].names(job.style for job in jobs if job.style) if method.takes_style else {}
    times = Counter((job.content, job.style) for job in jobs)
    for i, job in enumerate(jobs):
        ending = endings[job.style].name if job.style else method.name
        name = f"{names[job.content].name}__{ending}" + f"-{job.alpha}" * (times[job.content, job.style] > 1)
        if len(name.encode()) > LONGEST:
            name = f"{name.encode()[:LONGEST].decode(errors='ignore')}-{_hash(name)}"
        places = [side.place(path) for side, path in zip(sides, (job.content, job.style), strict=False) if path]
        jobs[i] = replace(job, output=names[job.content].with_name(name + suffix), places=tuple(places))
    for side in sides:
        if side.folder not in output.parents and any(side.folder in (output / job.output).parents for job in jobs):
            raise ValueError(f"results would lie among the pictures of {side.folder}; name another output folder")
    return jobs


class ImageFolder:
    """The pictures of a folder, without those in the output folder; or one picture."""

    def __init__(self, path: Path, output: Path):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such folder")
        path = path.resolve()
        self.folder = path if path.is_dir() else path.parent
        within = self.folder in output.parents
        self.files = [file for file in listing.files(path) if not within or output not in file.parents]
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


def _read_pairs(table: Path, sides: Sequence[ImageFolder], alpha: float) -> Iterator[Job]:
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
