"""Grids: methods x pairs of a content and a style, and a contact sheet of the results."""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from adain.batch import jobs
from adain.evaluation.contact_sheet import Tile, corner, thumbnail, write_sheet
from adain.imaging import listing, photo, reader, writer
from adain.inference import pipeline, preparation, style_encoding
from adain.inference.naming import result_stem
from adain.inference.options import DEFAULT_STYLE_OPTIONS, StyleOptions
from adain.inference.recorder import OptimizationRecorder
from adain.methods import ITERATIVE, METHODS, Method
from adain.utils.files import check_not_inputs
from adain.utils.precision import Precision

Pair = tuple[Path, Path]
"""The files of a content and of a style."""


@dataclass(frozen=True)
class Variant:
    """One way to stylize: a method with its settings and options.

    Args:
        label: Its name in tables and on sheets.
        method: As `adain.prepare` takes it; or a folder of results that were made before, or elsewhere, named as
            `write_grid` names them.
        settings: Settings of the method.
        options: How images are stylized.
        size: Shorter side of contents and results in pixels; None for each content's own.
        precision: As `adain.prepare` takes it.
    """

    label: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    options: StyleOptions = DEFAULT_STYLE_OPTIONS
    size: int | None = None
    precision: Precision = "auto"

    @property
    def is_folder(self) -> bool:
        """Whether the results are read from a folder."""
        return self.method not in METHODS and Path(self.method).is_dir()

    def prepare(self, device: str, **more: Any) -> Method:
        """Return the method, ready to stylize; `more` are further settings."""
        return preparation.prepare(self.method, device, self.precision, **self.settings, **more)


@dataclass(frozen=True)
class Result:
    """One result of a grid.

    Args:
        variant: How it was made.
        content: The content's file.
        style: The style's file.
        image: (1, 3, H, W), RGB in [0, 1].
        seconds: Time to stylize, without encoding the style; None for a result that was read.
        losses: Losses of an optimization after each step, as `adain.inference.recorder` collects them.
    """

    variant: Variant
    content: Path
    style: Path
    image: Tensor
    seconds: float | None = None
    losses: Sequence[Mapping[str, float]] = ()


def images_of(folder: str | Path, output: str | Path | None = None) -> list[Path]:
    """Return the images of a folder, without the results in `output` if that lies in it; or a single image.

    Raises:
        ValueError: The folder has no images.
        OSError: There is no such folder.
    """
    found = listing.files(Path(folder))
    return found if output is None else jobs.without_results(found, Path(folder), Path(output))


def all_pairs(content: str | Path, style: str | Path, output: str | Path | None = None) -> list[Pair]:
    """Return every content of a folder with every style of another, in the order of the contents.

    Args:
        content: Folder of contents, or a single image.
        style: Folder of styles, or a single image.
        output: Folder of results, which are left out if it lies in one of the others.

    Raises:
        ValueError: A folder has no images.
        OSError: A path does not exist.
    """
    return list(itertools.product(images_of(content, output), images_of(style, output)))


def listed_pairs(content: str | Path, style: str | Path, table: str | Path) -> list[Pair]:
    """Return the pairs in a CSV file with the columns content and style.

    Its paths are relative to the folders or absolute.

    Raises:
        ValueError: A wrong row, or one with a strength, which a variant has.
        OSError: No such file or folder.
    """
    folders = [jobs.ImageFolder(Path(path)) for path in (content, style)]
    pairs = []
    for job in jobs.read_pairs(Path(table), folders, alpha=1):
        if job.alpha != 1 or job.style is None:
            raise ValueError(f"Expected no column alpha in {table}, got {job.alpha:g}; leave it out")
        pairs.append((job.content, job.style))
    return pairs


def stylize_variants(variants: Sequence[Variant], pairs: Sequence[Pair], device: str = "auto") -> Iterator[Result]:
    """Stylize the content of every pair in its style with every variant; errors as of `adain.stylize`."""
    names = result_names(pairs)
    for variant in variants:
        if variant.is_folder:
            for (content, style), name in names.items():
                image = reader.load_image(Path(variant.method) / name, variant.size)
                yield Result(variant, content, style, image)
        else:
            yield from _stylize_variant(variant, pairs, device)


def _stylize_variant(variant: Variant, pairs: Sequence[Pair], device: str) -> Iterator[Result]:
    recorder = OptimizationRecorder(quiet=True)
    callback = {"callback": recorder} if variant.method in ITERATIVE else {}
    method = variant.prepare(device, **callback)
    options = variant.options
    codes = dict[Path, Any]()
    if method.takes_style:
        for _, style in pairs:
            if style not in codes:
                codes[style], options = style_encoding.encode_once(method, style, variant.options)
    else:  # the styles are only compared with, at the size that the variants share
        options = replace(options, style_size=None)
    for content, of_content in itertools.groupby(pairs, key=lambda pair: pair[0]):
        image = reader.load_image(content, variant.size)
        for _, style in of_content:
            recorder.runs.clear()
            start = time.perf_counter()
            stylized = pipeline.stylize(image, codes.get(style), method, options=options).cpu()
            seconds = time.perf_counter() - start
            yield Result(variant, content, style, stylized, seconds, recorder.runs[recorder.name])


def result_names(pairs: Sequence[Pair]) -> dict[Pair, str]:
    """Return the file name of each pair's result. Raise ValueError if two pairs would share one."""
    names = {}
    for content, style in pairs:
        names[content, style] = result_stem(content.stem, [style.stem]) + ".png"
    if len(set(names.values())) < len(pairs):
        raise ValueError("several images have the same name, so that results would overwrite each other")
    return names


def input_files(variants: Sequence[Variant], pairs: Sequence[Pair]) -> list[Path]:
    """Return the files that are read to stylize pairs: contents, styles, weights, and results made before."""
    found = [*itertools.chain(*pairs)]
    for variant in variants:
        found.append(Path(variant.method))
        if variant.is_folder:
            found += [Path(variant.method) / name for name in result_names(pairs).values()]
    return found


def write_grid(
    variant: Variant,
    content: str | Path,
    style: str | Path,
    output: str | Path,
    device: str = "auto",
    sheet: str | Path | None = None,
) -> Path:
    """Stylize every content of a folder in every style of another, and return the path of the contact sheet.

    The sheet has the styles in its first row and the contents in its first column.

    Args:
        variant: The method and its settings.
        content: Folder of contents, or a single image.
        style: Folder of styles, or a single image.
        output: Folder for the results, each CONTENT__STYLE.png.
        device: As `adain.prepare` takes it.
        sheet: File of the contact sheet; by default sheet.png in `output`.

    Raises:
        ValueError: Two results of one name, a sheet of an unsupported format, an input that would be overwritten, or as
            `adain.stylize`.
        OSError: An image cannot be read.
    """
    pairs = all_pairs(content, style, output)
    results = {pair: Path(output) / name for pair, name in result_names(pairs).items()}
    styles = list(dict.fromkeys(style for _, style in pairs))
    sheet_path = writer.check_suffix(sheet or Path(output) / "sheet.png")
    if sheet_path.resolve() in {path.resolve() for path in results.values()}:
        raise ValueError(f"{sheet_path} is the name of a result, too; name another sheet")
    check_not_inputs([*results.values(), sheet_path], input_files([variant], pairs))
    heading: list[Tile] = [(corner(), "")]
    for path in styles:
        heading.append((thumbnail(reader.read(path)), ""))
    rows = [heading]
    for result in stylize_variants([variant], pairs, device):
        writer.save(result.image, results[result.content, result.style])
        if result.style == styles[0]:
            rows.append([(thumbnail(reader.read(result.content)), "")])
        rows[-1].append((thumbnail(photo.to_image(result.image)), ""))
    return write_sheet(rows, sheet_path)
