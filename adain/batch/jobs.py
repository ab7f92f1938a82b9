"""The results of a folder run: which contents get which styles, and the name of each result."""

import csv
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adain.imaging import listing
from adain.inference.naming import result_stem
from adain.inference.options import check_alpha
from adain.methods import Method
from adain.utils.files import check_not_inputs, name_bytes, short_hash, truncated

LONGEST_NAME = 200
"""Bytes of a name without its suffix. File systems allow 255, and temporary names are longer."""


@dataclass(frozen=True)
class Job:
    """One result.

    Args:
        content: The content's file.
        style: The style's file; None if the method has a built-in style.
        alpha: Strength of the style.
        output: The result's path, relative to the output folder.
        places: The paths of content and style relative to their folders, as recorded in the manifest.
    """

    content: Path
    style: Path | None
    alpha: float
    output: Path = Path()
    places: tuple[str, ...] = ()


def plan_jobs(
    folders: Sequence["ImageFolder"],
    output: Path,
    pairs: str | Path,
    method: Method,
    alpha: float,
    seed: int,
    suffix: str,
) -> list[Job]:
    """Return the jobs for all results of a run, in order.

    Args:
        folders: The folder of contents and, unless the method has a built-in style, the folder of styles.
        output: The output folder.
        pairs: `all`, `random`, or a CSV file, as `adain.batch.runner.stylize_folder` takes it.
        method: Ready to stylize.
        alpha: Strength of the style where the CSV file has none, from 0 to 1.
        seed: Seed of the random pairs.
        suffix: Suffix of the results.

    Raises:
        ValueError: An alpha for a method with full strength only, a wrong row in the CSV file, an output folder among
            the inputs, or a result that would overwrite an input.
        OSError: No such CSV file.
    """
    jobs = _pair(folders, pairs, method, alpha, seed)
    if not method.takes_style:
        for job in jobs:
            if job.alpha != 1:
                raise ValueError(f"{type(method).__name__} has full strength only; leave out alpha, got {job.alpha:g}")
    jobs = _name(jobs, folders, method, suffix)
    for folder in folders:
        if folder.path not in output.parents and _writes_into(jobs, output, folder.path):
            raise ValueError(f"results would lie among the images of {folder.path}; choose another output folder")
    inputs = dict.fromkeys(path for job in jobs for path in (job.content, job.style) if path)
    check_not_inputs((output / job.output for job in jobs), inputs)
    return jobs


def _pair(folders: Sequence["ImageFolder"], pairs: str | Path, method: Method, alpha: float, seed: int) -> list[Job]:
    contents = folders[0]
    styles: Sequence[Path | None] = folders[1].files if method.takes_style else [None]
    if pairs == "all":
        return [Job(content, style, alpha) for content in contents.files for style in styles]
    if pairs == "random":
        jobs = []
        for content in contents.files:
            # By name, so that neither other contents nor the number of processes change the style.
            generator = random.Random(name_bytes(f"{seed} {contents.place(content)}"))
            jobs.append(Job(content, generator.choice(styles), alpha))
        return jobs
    without_repeats = dict.fromkeys(read_pairs(Path(pairs), folders, alpha))
    return list(without_repeats)


def _name(jobs: Sequence[Job], folders: Sequence["ImageFolder"], method: Method, suffix: str) -> list[Job]:
    """Return the jobs with their outputs, CONTENT__STYLE in the content's subfolder."""
    content_names = folders[0].names((job.content for job in jobs), keep_subfolders=True)
    style_names: Mapping[Path, Path] = {}
    if method.takes_style:
        style_names = folders[1].names(job.style for job in jobs if job.style)
    times = Counter((job.content, job.style) for job in jobs)
    named = []
    for job in jobs:
        style_name = style_names[job.style].name if job.style else method.name
        name = result_stem(content_names[job.content].name, [style_name])
        if times[job.content, job.style] > 1:  # with several strengths
            name += f"-{job.alpha}"
        short = truncated(name, LONGEST_NAME)
        if short != name:
            name = f"{short}-{short_hash(name)}"
        output = content_names[job.content].with_name(name + suffix)
        places = [folders[0].place(job.content)]
        if job.style:
            places.append(folders[1].place(job.style))
        named.append(replace(job, output=output, places=tuple(places)))
    return _with_unique_outputs(named)


def _with_unique_outputs(jobs: Sequence[Job]) -> list[Job]:
    """Add a hash to the outputs that several jobs would share, so that each job has its own.

    An example is x__s-0.5, of the style s at strength 0.5, and of the style s-0.5.
    """
    count = Counter(_without_case(job.output) for job in jobs)
    unique = []
    for job in jobs:
        if count[_without_case(job.output)] > 1:
            digest = short_hash(f"{job.places} {job.alpha}")
            job = replace(job, output=job.output.with_stem(f"{job.output.stem}-{digest}"))
        unique.append(job)
    return unique


def _without_case(path: Path) -> str:
    """Return a key that is equal for paths that are one file where the file system ignores case."""
    return str(path).casefold()


def _writes_into(jobs: Iterable[Job], output: Path, folder: Path) -> bool:
    return any(folder in (output / job.output).parents for job in jobs)


def without_results(files: list[Path], folder: Path, output: Path) -> list[Path]:
    """Return the files of a folder without those in the output folder, if that lies in it.

    Raises:
        ValueError: None is left.
    """
    folder_path, output_path = folder.resolve(), output.resolve()
    if folder_path not in output_path.parents:
        return files
    results = folder / output_path.relative_to(folder_path)
    others = [file for file in files if results not in file.parents]
    if files and not others:
        raise ValueError(f"Expected images in {folder}, found only results of earlier runs; name another folder")
    return others


class ImageFolder:
    """The images of a folder, without those in the output folder; or a single image.

    Args:
        path: The folder or image.
        output: The output folder, if there is one.

    Attributes:
        path: The folder, absolute.
        files: Its images.
        unreadable: Subfolders that cannot be read, with the reasons.

    Raises:
        OSError: No such folder, or it cannot be read.
        ValueError: It has no images, or only results.
    """

    def __init__(self, path: Path, output: Path | None = None):
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such folder")
        path = path.resolve()
        self.path = path if path.is_dir() else path.parent
        self.unreadable: list[tuple[Path, str]] = []
        self.files = listing.files(path, lambda *failure: self.unreadable.append(failure))
        if output:
            self.files = without_results(self.files, self.path, output)

    def place(self, path: Path) -> str:
        """Return the path relative to the folder if it lies there: the same wherever the folder is."""
        return (path.relative_to(self.path) if self.path in path.parents else path).as_posix()

    def names(self, used: Iterable[Path], keep_subfolders: bool = False) -> dict[Path, Path]:
        """Return the name of each image in results: its stem, below its subfolders if asked for.

        Names that several images would share get a hash of the path, as do those of images elsewhere. The names depend
        on the content of the folder only, not on which of its images are used.
        """
        elsewhere = {*used} - {*self.files}
        names = dict[Path, Path]()
        for path in (*self.files, *elsewhere):
            subfolders = Path()
            if keep_subfolders and self.path in path.parents:
                subfolders = path.parent.relative_to(self.path)
            names[path] = subfolders / path.stem
        count = Counter(_without_case(names[path]) for path in self.files)
        for path, name in names.items():
            # Underscores in a style's name could be confused with those that separate it from the content's.
            ambiguous = not keep_subfolders and (name.name.startswith("_") or "__" in name.name)
            if path in elsewhere or count[_without_case(name)] > 1 or ambiguous:
                names[path] = name.with_name(f"{name.name}-{short_hash(self.place(path))}")
        return names


def read_pairs(table: Path, folders: Sequence[ImageFolder], alpha: float) -> Iterator[Job]:
    """Yield a job for each row of a CSV file, whose paths are relative to the folders or absolute."""
    if not table.is_file():
        raise FileNotFoundError(f"{table}: no such file; name a CSV file of pairs, or all of them with all")
    columns = dict(zip(("content", "style"), folders, strict=False))
    try:
        with table.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as lines:
            yield from _read_rows(csv.DictReader(lines), columns, alpha, table)
    except csv.Error as error:
        raise ValueError(
            f"Expected a CSV file in UTF-8 as pairs, got {table}, which cannot be read ({error})"
        ) from error


def _read_rows(rows: csv.DictReader, columns: Mapping[str, ImageFolder], alpha: float, table: Path) -> Iterator[Job]:
    missing = [name for name in columns if name not in (rows.fieldnames or [])]
    if missing:
        raise ValueError(f"Expected the column {' and '.join(missing)} in {table}, got {rows.fieldnames or 'none'}")
    empty = True
    for row in rows:
        empty = False
        yield _read_row(row, columns, alpha, f"{table}, row {rows.line_num}: ")
    if empty:
        raise ValueError(f"Expected rows below the column names in {table}, got none")


def _read_row(row: Mapping[str, str | None], columns: Mapping[str, ImageFolder], alpha: float, where: str) -> Job:
    paths = []
    for name, folder in columns.items():
        path = Path(os.path.abspath(folder.path / (row[name] or "")))
        if not path.is_file():
            advice = "; expected a CSV file in UTF-8" if _has_other_bytes(str(path)) else ""
            raise ValueError(f"{where}{path}: no such file{advice}")
        paths.append(path)
    text = row.get("alpha")
    if text:
        try:
            alpha = float(text)
        except ValueError:
            raise ValueError(f"{where}alpha must be a number between 0 and 1, got {text}") from None
        check_alpha(alpha, where)
    return Job(paths[0], paths[1] if len(paths) > 1 else None, alpha)


def _has_other_bytes(name: str) -> bool:
    """Return whether a name has bytes that are not UTF-8, for which Python has lone surrogates."""
    return any("\udc80" <= character <= "\udcff" for character in name)
