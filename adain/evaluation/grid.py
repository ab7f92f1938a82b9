"""Grids: methods x contents x styles, and a contact sheet of the results."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from adain.evaluation.contact_sheet import Tile, corner, thumbnail, write_sheet
from adain.imaging import listing, photo, reader, writer
from adain.inference import pipeline, preparation, style_encoding
from adain.inference.naming import result_stem
from adain.inference.options import DEFAULT_STYLE_OPTIONS, StyleOptions
from adain.inference.recorder import OptimizationRecorder
from adain.methods import ITERATIVE, METHODS, Method
from adain.utils.precision import Precision


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
        """The method, ready to stylize; `more` are further settings."""
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


def stylize_variants(
    variants: Sequence[Variant], contents: Sequence[Path], styles: Sequence[Path], device: str = "auto"
) -> Iterator[Result]:
    """Stylize every content in every style with every variant; errors as of `adain.stylize`."""
    names = result_names(contents, styles)
    for variant in variants:
        if variant.is_folder:
            for (content, style), name in names.items():
                image = reader.load_image(Path(variant.method) / name, variant.size)
                yield Result(variant, content, style, image)
        else:
            yield from _stylize_variant(variant, contents, styles, device)


def _stylize_variant(
    variant: Variant, contents: Sequence[Path], styles: Sequence[Path], device: str
) -> Iterator[Result]:
    recorder = OptimizationRecorder(quiet=True)
    callback = {"callback": recorder} if variant.method in ITERATIVE else {}
    method = variant.prepare(device, **callback)
    options = variant.options
    codes: list[Any] = [None] * len(styles)
    if method.takes_style:
        for i, style in enumerate(styles):
            codes[i], options = style_encoding.encode_once(method, style, variant.options)
    else:  # the styles are only compared with, at the size that the variants share
        options = replace(options, style_size=None)
    for content in contents:
        image = reader.load_image(content, variant.size)
        for style, code in zip(styles, codes, strict=True):
            recorder.runs.clear()
            start = time.perf_counter()
            stylized = pipeline.stylize(image, code, method, options=options).cpu()
            seconds = time.perf_counter() - start
            yield Result(variant, content, style, stylized, seconds, recorder.runs[recorder.name])


def result_names(contents: Sequence[Path], styles: Sequence[Path]) -> dict[tuple[Path, Path], str]:
    """The file name of each pair's result. Raises ValueError if two pairs would share one."""
    names = {}
    for content in contents:
        for style in styles:
            names[content, style] = result_stem(content.stem, [style.stem]) + ".png"
    if len(set(names.values())) < len(names):
        raise ValueError("several images of a folder have the same name, so that results would overwrite each other")
    return names


def write_grid(
    variant: Variant,
    content: str | Path,
    style: str | Path,
    output: str | Path,
    device: str = "auto",
    sheet: str | Path | None = None,
) -> Path:
    """Stylize every content of a folder in every style of another; returns the path of the contact sheet.

    The sheet has the styles in its first row and the contents in its first column.

    Args:
        variant: The method and its settings.
        content: Folder of contents, or a single image.
        style: Folder of styles, or a single image.
        output: Folder for the results, each CONTENT__STYLE.png.
        device: As `adain.prepare` takes it.
        sheet: File of the contact sheet; by default sheet.png in `output`.

    Raises:
        ValueError: Two results of one name, a sheet of an unsupported format, or as `adain.stylize`.
        OSError: An image cannot be read.
    """
    contents = listing.files(Path(content))
    styles = listing.files(Path(style))
    names = result_names(contents, styles)
    sheet_path = writer.check_suffix(sheet or Path(output) / "sheet.png")
    heading: list[Tile] = [(corner(), "")]
    for path in styles:
        heading.append((thumbnail(reader.read(path)), ""))
    rows = [heading]
    for result in stylize_variants([variant], contents, styles, device):
        writer.save(result.image, Path(output) / names[result.content, result.style])
        if result.style == styles[0]:
            rows.append([(thumbnail(reader.read(result.content)), "")])
        rows[-1].append((thumbnail(photo.to_image(result.image)), ""))
    return write_sheet(rows, sheet_path)
