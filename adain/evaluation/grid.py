"""Methods x contents x styles: the pictures, one contact sheet of them, and their figures."""

import itertools
import logging
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adain.evaluation import metrics
from adain.evaluation.contact_sheet import Tile, corner, thumbnail, write_sheet
from adain.evaluation.report import mean_row, write_events, write_figures
from adain.imaging import listing, photo, reader, writer
from adain.inference import full_size, pipeline, preparation, style_encoding
from adain.inference.detail import check_detail
from adain.inference.options import ALPHA_BLENDS, COLORS, AlphaBlend, Color, StyleSize
from adain.inference.pipeline import Precision
from adain.inference.recorder import OptimizationRecorder, write_losses
from adain.methods import ITERATIVE, METHODS
from adain.utils.checks import check_choice

log = logging.getLogger(__name__)


UNCHANGED = "content"  # the row of the content as it is, against which methods are seen


@dataclass(frozen=True)
class Variant:
    """One way to paint: a method or a folder of results, its settings, and how it is called.

    `label` names it in tables and on sheets; the rest is as `adain.stylize` takes it.
    """

    label: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    alpha: float = 1.0
    size: int | None = None
    style_size: StyleSize = None
    precision: Precision = "auto"
    color: Color = "style"
    photorealistic: bool = False
    alpha_blend: AlphaBlend = "residual"
    work_size: full_size.WorkSize = None
    detail: float = 0.0


PASSED = ("alpha", "alpha_blend", "color", "photorealistic", "work_size", "detail")
"""Fields of `Variant` that `adain.stylize` takes under the same names, besides sizes."""


@dataclass(frozen=True)
class Result:
    """One result of a grid: (1, 3, H, W), RGB in [0, 1].

    `seconds` it took, without encoding the style; `losses` at each step of an optimization, as
    `adain.inference.recorder` collects them.
    """

    case: Variant
    content: Path
    style: Path
    picture: Tensor
    seconds: float | None = None
    losses: Sequence[Mapping[str, float]] = ()


def stylize_variants(
    cases: Sequence[Variant], contents: Sequence[Path], styles: Sequence[Path], device: str = "auto"
) -> Iterator[Result]:
    """Every content in every style in every way; errors as of `adain.stylize`.

    A folder as the method holds results that were painted before, or elsewhere, named as `write_grid` names them.
    """
    names = result_names(contents, styles)
    for case in cases:
        if _painted(case):
            for (content, style), name in names.items():
                yield Result(case, content, style, reader.load_picture(Path(case.method) / name, case.size))
            continue
        watch = OptimizationRecorder(quiet=True)
        settings: dict[str, Any] = {**case.settings, **({"callback": watch} if case.method in ITERATIVE else {})}
        ready = preparation.prepare(case.method, device, case.precision, **settings)
        style_size = case.style_size if ready.takes_style else None
        given: Sequence[Any] = styles if ready.takes_style else [None] * len(styles)
        if ready.takes_style and style_size != "content" and case.color != "coral":
            given, style_size = [style_encoding.encode_style(ready, path, style_size) for path in styles], None
        look = {name: getattr(case, name) for name in PASSED}
        for content in contents:
            source = reader.load_picture(content, case.size)
            for style, code in zip(styles, given, strict=True):
                watch.runs.clear()
                start = time.perf_counter()
                picture = pipeline.stylize(source, code, ready, style_size=style_size, **look).cpu()
                yield Result(case, content, style, picture, time.perf_counter() - start, watch.runs[watch.name])


def result_names(contents: Sequence[Path], styles: Sequence[Path]) -> dict[tuple[Path, Path], str]:
    """The file name of every pair's result; ValueError if two pairs would share one."""
    names = {(c, s): f"{c.stem}__{s.stem}.png" for c in contents for s in styles}
    if len(set(names.values())) < len(names):
        raise ValueError("several pictures of a folder have the same name; results would overwrite each other")
    return names


def _painted(case: Variant) -> bool:
    return case.method not in METHODS and Path(case.method).is_dir()


def write_grid(
    case: Variant,
    content: str | Path,
    style: str | Path,
    output: str | Path,
    device: str = "auto",
    sheet: str | Path | None = None,
) -> Path:
    """Stylize every content of a folder in every style of another; returns the contact sheet's path.

    The sheet has the styles in its first row and the contents in its first column.

    Args:
        case: the method and its settings.
        content: the folder of contents, or one.
        style: the folder of styles, or one.
        output: the folder to write the results to, each as CONTENT__STYLE.png.
        device: as `adain.prepare` takes it.
        sheet: the file to write the contact sheet to; by default sheet.png in `output`.

    Raises:
        ValueError: two results of one name, a sheet of an unsupported format, or as `adain.stylize`.
        OSError: a picture that cannot be read.
    """
    contents, styles = listing.files(Path(content)), listing.files(Path(style))
    names = result_names(contents, styles)
    sheet_path = writer.check_suffix(sheet or Path(output) / "sheet.png")
    heading: list[Tile] = [(corner(), "")]
    for path in styles:
        heading.append((thumbnail(reader.read(path)), ""))
    rows = [heading]
    for cell in stylize_variants([case], contents, styles, device):
        writer.save(cell.picture, Path(output) / names[cell.content, cell.style])
        if cell.style == styles[0]:
            rows.append([(thumbnail(reader.read(cell.content)), "")])
        rows[-1].append((thumbnail(photo.to_image(cell.picture)), ""))
    return write_sheet(rows, sheet_path)


def evaluate(
    cases: Sequence[Variant],
    content: str | Path,
    style: str | Path,
    output: str | Path,
    device: str = "auto",
    perceptual: bool = False,
    tensorboard: bool = False,
    memory: bool = True,
    columns: int | None = None,
) -> list[dict[str, Any]]:
    """Judge cases on every pair of two folders; returns a row of means for each, the unchanged content first.

    Everything is judged at a shorter side of `metrics.SIDE` pixels. Figures are those of `metrics.scores`, SSIM (Wang
    et al. 2004) and LPIPS to the content, and X, the grid of `metrics.lattice_energy`; `perceptual` adds FID and
    ArtFID. S, C, G and X have geometric means; seconds, of a picture whose style is encoded, a median; the loss is an
    optimization's lowest. `memory` adds MiB: the peak of a process of its own that paints one pair, or of the
    accelerator in it.

    Writes figures.csv and figures.json with a row for each pair, table.md and sheet.png, with `columns` results in a
    row, into `output`; the losses of optimizations as `adain.inference.recorder.write_losses` does; and with
    `tensorboard` the means and the sheet as events.

    Raises as `adain.stylize` and `metrics.InceptionDistance` do, before anything is written.
    """
    contents, styles = listing.files(Path(content)), listing.files(Path(style))
    check_cases(cases, Path(output), device)
    if perceptual and len(contents) * len(styles) < 2:
        raise ValueError("FID compares two pairs or more; add pictures, or do without --perceptual")
    judge = _Judge(contents, styles, perceptual, any(case.method in ITERATIVE for case in cases))
    unchanged = Variant(UNCHANGED, UNCHANGED)
    figures = [judge(Result(unchanged, c, s, judge.pictures[c])) for c, s in itertools.product(contents, styles)]
    results, losses = dict[tuple[str, Path, Path], Tile](), defaultdict[str, list[Sequence[Mapping[str, float]]]](list)
    for cell in stylize_variants(cases, contents, styles, device):
        figures.append(judge(cell))
        tile = thumbnail(photo.to_image(cell.picture)), cell.case.label
        results[cell.case.label, cell.content, cell.style] = tile
        if cell.losses:
            losses[cell.case.label].append(cell.losses)
    table = []
    for case in (unchanged, *cases):
        table.append(judge.means([figure for figure in figures if figure["method"] == case.label]))
        if memory:
            table[-1]["MiB"] = table[-1]["seconds"] and _peak_memory(case, contents[0], styles[0], device)
    rows, across = list[list[Tile]](), columns or len(cases)
    for c, s in itertools.product(contents, styles):
        inputs: list[Tile] = [(thumbnail(photo.to_image(judge.pictures[path])), path.stem) for path in (c, s)]
        painted = [results[case.label, c, s] for case in cases]
        for i in range(0, len(cases), across):
            rows.append([*(inputs if not i else (None, None)), *painted[i : i + across]])
    write_sheet(rows, Path(output) / "sheet.png")
    write_figures(figures, table, Path(output))
    if losses:
        write_losses(losses, Path(output))
    if tensorboard:
        write_events(table, Path(output))
    return table


class _Judge:
    """Figures of cells; `losses` says whether there is a column for them."""

    def __init__(self, contents: Sequence[Path], styles: Sequence[Path], perceptual: bool, losses: bool):
        self.network, self.losses = metrics.evaluation_backbone(), losses
        self.lpips = metrics.LPIPS()
        self.fid = metrics.InceptionDistance() if perceptual else None
        self.pictures = {path: reader.load_picture(path, metrics.EVAL_SIZE) for path in (*contents, *styles)}
        with torch.inference_mode():
            self.features = {path: self.network(picture) for path, picture in self.pictures.items()}

    def __call__(self, cell: Result) -> dict[str, Any]:
        content, style = self.pictures[cell.content], self.pictures[cell.style]
        height, width = content.shape[2:]
        picture = photo.to_tensor(photo.to_image(cell.picture).resize((width, height), Image.Resampling.LANCZOS))
        with torch.inference_mode():
            found: dict[str, Any] = metrics.scores(
                self.network(picture), self.features[cell.content], self.features[cell.style]
            )
        found["SSIM"] = metrics.ssim(picture, content)
        found["LPIPS"] = self.lpips(picture, content).item()
        if self.fid:
            self.fid.add(cell.case.label, picture, style)
        names = {"method": cell.case.label, "content": cell.content.name, "style": cell.style.name}
        found["X"] = metrics.lattice_energy(picture)
        loss = {"loss": min((row["total"] for row in cell.losses), default=None)} if self.losses else {}
        return {**names, **found, **loss, "seconds": cell.seconds}

    def means(self, figures: list[dict[str, Any]]) -> dict[str, Any]:
        """The row of a method, from its figures of all pairs."""
        row = mean_row(figures)
        if self.fid:
            row["FID"] = self.fid.compute(row["method"])
            row["ArtFID"] = (1 + row["LPIPS"]) * (1 + row["FID"])
        return row


def check_cases(cases: Sequence[Variant], output: Path, device: str) -> None:
    """Find what is wrong before hours are spent; raises as `evaluate` does."""
    labels = [UNCHANGED, *(case.label for case in cases)]
    if len(set(labels)) < len(labels):
        raise ValueError(f"each case needs a label of its own, and {UNCHANGED} is taken: {', '.join(labels)}")
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output} is a file; name a folder to write to")
    for case in cases:
        check_choice("color", case.color, COLORS)
        check_choice("alpha_blend", case.alpha_blend, ALPHA_BLENDS)
        if not 0 <= case.alpha <= 1:
            raise ValueError(f"{case.label}: alpha lies between 0 and 1, not at {case.alpha}")
        if not _painted(case):
            ready = preparation.prepare(case.method, device, case.precision, **case.settings)
            full_size.work_size_for(ready, case.work_size)
            check_detail(case.detail)


def _peak_memory(case: Variant, content: Path, style: Path, device: str) -> float | None:
    """MiB at the peak of painting one pair, in a fresh process: in this one others' peaks would hide it.

    None if that process dies or fails, for example for lack of memory: the other results count nevertheless.
    """
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            peak = pool.submit(_paint_one, case, content, style, device).result()
    except (BrokenProcessPool, OSError, MemoryError, RuntimeError) as error:
        log.warning("the memory of %s was not measured (%s)", case.label, " ".join(str(error).split()))
        return None
    return peak and peak / 2**20


def _paint_one(case: Variant, content: Path, style: Path, device: str) -> int | None:
    """Bytes at the peak of this process, or of its accelerator, after one picture."""
    next(stylize_variants([case], [content], [style], device))
    if torch.cuda.is_available() and device != "cpu":
        return torch.cuda.max_memory_allocated(None if device == "auto" else device)
    if sys.platform == "linux":  # getrusage would count the parent's pages, inherited until exec
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS
