"""Methods x contents x styles: the pictures, one contact sheet of them, and their figures."""

import itertools
import json
import logging
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field, fields, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import geometric_mean, mean, median
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adain import full_size, images, inference, metrics
from adain.backbones import check_choice
from adain.contact_sheet import Tile, corner, thumbnail, write_sheet
from adain.detail import check_detail
from adain.methods import ITERATIVE, METHODS
from adain.watch import Watch, write_csv, write_losses

log = logging.getLogger(__name__)

UNCHANGED = "content"  # the row of the content as it is, against which methods are seen


@dataclass(frozen=True)
class Case:
    """One way to paint: a method or a folder of results, its settings, and how it is called.

    `label` names it in tables and on sheets; the rest is as `adain.stylize` takes it.
    """

    label: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    alpha: float = 1.0
    size: int | None = None
    style_size: inference.StyleSize = None
    precision: inference.Precision = "auto"
    color: inference.Color = "style"
    photorealistic: bool = False
    alpha_blend: inference.AlphaBlend = "residual"
    work_size: full_size.WorkSize = None
    detail: float = 0.0


PASSED = ("alpha", "alpha_blend", "color", "photorealistic", "work_size", "detail")
"""Fields of `Case` that `adain.stylize` takes under the same names, besides sizes."""

SHARED = {field.name for field in fields(Case)} - {"label", "settings"}  # what varies whatever the method


@dataclass(frozen=True)
class Cell:
    """One result of a grid: (1, 3, H, W), RGB in [0, 1].

    `seconds` it took, style encoding not included; `losses` at each step of an optimisation, as of `adain.watch`.
    """

    case: Case
    content: Path
    style: Path
    picture: Tensor
    seconds: float | None = None
    losses: Sequence[Mapping[str, float]] = ()


def paint(
    cases: Sequence[Case], contents: Sequence[Path], styles: Sequence[Path], device: str = "auto"
) -> Iterator[Cell]:
    """Every content in every style in every way; errors as of `adain.stylize`.

    A folder as the method holds results that were painted before, or elsewhere, named as `write_grid` names them.
    """
    names = result_names(contents, styles)
    for case in cases:
        if _painted(case):
            for (content, style), name in names.items():
                yield Cell(case, content, style, images.load_picture(Path(case.method) / name, case.size))
            continue
        watch = Watch(quiet=True)
        settings: dict[str, Any] = {**case.settings, **({"callback": watch} if case.method in ITERATIVE else {})}
        ready = inference.prepare(case.method, device, case.precision, **settings)
        style_size = case.style_size if ready.styled else None
        given: Sequence[Any] = styles if ready.styled else [None] * len(styles)
        if ready.styled and style_size != "content" and case.color != "coral":
            given, style_size = [inference.encode_style(ready, path, style_size) for path in styles], None
        look = {name: getattr(case, name) for name in PASSED}
        for content in contents:
            source = images.load_picture(content, case.size)
            for style, code in zip(styles, given, strict=True):
                watch.runs.clear()
                start = time.perf_counter()
                picture = inference.stylize(source, code, ready, style_size=style_size, **look).cpu()
                yield Cell(case, content, style, picture, time.perf_counter() - start, watch.runs[watch.name])


def result_names(contents: Sequence[Path], styles: Sequence[Path]) -> dict[tuple[Path, Path], str]:
    """The file name of every pair's result; ValueError if two pairs would share one."""
    names = {(c, s): f"{c.stem}__{s.stem}.png" for c in contents for s in styles}
    if len(set(names.values())) < len(names):
        raise ValueError("several pictures of a folder have the same name; results would overwrite each other")
    return names


def _painted(case: Case) -> bool:
    return case.method not in METHODS and Path(case.method).is_dir()


def write_grid(
    case: Case,
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
    contents, styles = images.files(Path(content)), images.files(Path(style))
    names = result_names(contents, styles)
    sheet_path = images.check_suffix(sheet or Path(output) / "sheet.png")
    heading: list[Tile] = [(corner(), "")]
    for path in styles:
        heading.append((thumbnail(images.read(path)), ""))
    rows = [heading]
    for cell in paint([case], contents, styles, device):
        images.save(cell.picture, Path(output) / names[cell.content, cell.style])
        if cell.style == styles[0]:
            rows.append([(thumbnail(images.read(cell.content)), "")])
        rows[-1].append((thumbnail(images.to_image(cell.picture)), ""))
    return write_sheet(rows, sheet_path)


def evaluate(
    cases: Sequence[Case],
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
    optimisation's lowest. `memory` adds MiB: the peak of a process of its own that paints one pair, or of the
    accelerator in it.

    Writes figures.csv and figures.json with a row for each pair, table.md and sheet.png, with `columns` results in a
    row, into `output`; the losses of optimisations as `adain.watch.write_losses` does; and with `tensorboard` the
    means and the sheet as events.

    Raises as `adain.stylize` and `metrics.InceptionDistance` do, before anything is written.
    """
    contents, styles = images.files(Path(content)), images.files(Path(style))
    check_cases(cases, Path(output), device)
    if perceptual and len(contents) * len(styles) < 2:
        raise ValueError("FID compares two pairs or more; add pictures, or do without --perceptual")
    judge = _Judge(contents, styles, perceptual, any(case.method in ITERATIVE for case in cases))
    unchanged = Case(UNCHANGED, UNCHANGED)
    figures = [judge(Cell(unchanged, c, s, judge.pictures[c])) for c, s in itertools.product(contents, styles)]
    results, losses = dict[tuple[str, Path, Path], Tile](), defaultdict[str, list[Sequence[Mapping[str, float]]]](list)
    for cell in paint(cases, contents, styles, device):
        figures.append(judge(cell))
        tile = thumbnail(images.to_image(cell.picture)), cell.case.label
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
        inputs: list[Tile] = [(thumbnail(images.to_image(judge.pictures[path])), path.stem) for path in (c, s)]
        painted = [results[case.label, c, s] for case in cases]
        for i in range(0, len(cases), across):
            rows.append([*(inputs if not i else (None, None)), *painted[i : i + across]])
    write_sheet(rows, Path(output) / "sheet.png")
    write_figures(figures, table, Path(output))
    if losses:
        write_losses(losses, Path(output))
    if tensorboard:
        _write_events(table, Path(output))
    return table


class _Judge:
    """Figures of cells; `losses` says whether there is a column for them."""

    def __init__(self, contents: Sequence[Path], styles: Sequence[Path], perceptual: bool, losses: bool):
        self.network, self.losses = metrics.judge(), losses
        self.lpips = metrics.LPIPS()
        self.fid = metrics.InceptionDistance() if perceptual else None
        self.pictures = {path: images.load_picture(path, metrics.SIDE) for path in (*contents, *styles)}
        with torch.inference_mode():
            self.features = {path: self.network(picture) for path, picture in self.pictures.items()}

    def __call__(self, cell: Cell) -> dict[str, Any]:
        content, style = self.pictures[cell.content], self.pictures[cell.style]
        height, width = content.shape[2:]
        picture = images.to_tensor(images.to_image(cell.picture).resize((width, height), Image.Resampling.LANCZOS))
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


def variations(
    base: Case,
    vary: Mapping[str, Sequence[Any]],
    cases: Mapping[str, Mapping[str, Any]],
    settings: Mapping[str, Mapping[str, Any]],
) -> list[Case]:
    """Cases that differ from `base`: every combination of the values in `vary`, or each of `cases` by its label.

    Names are fields of `Case`, or else settings of its method, whose other settings are those in `settings`. Raises
    ValueError if there is nothing to vary.
    """
    grid = [dict(zip(vary, values, strict=True)) for values in itertools.product(*vary.values())] if vary else []
    named = {", ".join(f"{name} {_text(value)}" for name, value in changes.items()): changes for changes in grid}
    named |= {str(label): dict(changes) for label, changes in cases.items()}
    if not named:
        raise ValueError("nothing to vary; give values, as in --vary '{optimizer: [lbfgs, adam]}'")
    found = []
    for label, changes in named.items():
        changes = {name.replace("-", "_"): value for name, value in changes.items()}
        shared = {name: changes.pop(name) for name in SHARED if name in changes}
        case = replace(base, label=label, **shared)
        found.append(replace(case, settings={**settings.get(case.method, {}), **changes}))
    return found


def _text(value: Any) -> str:
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def check_cases(cases: Sequence[Case], output: Path, device: str) -> None:
    """Find what is wrong before hours are spent; raises as `evaluate` does."""
    labels = [UNCHANGED, *(case.label for case in cases)]
    if len(set(labels)) < len(labels):
        raise ValueError(f"each case needs a label of its own, and {UNCHANGED} is taken: {', '.join(labels)}")
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output} is a file; name a folder to write to")
    for case in cases:
        check_choice("color", case.color, inference.COLORS)
        check_choice("alpha_blend", case.alpha_blend, inference.ALPHA_BLENDS)
        if not 0 <= case.alpha <= 1:
            raise ValueError(f"{case.label}: alpha lies between 0 and 1, not at {case.alpha}")
        if not _painted(case):
            ready = inference.prepare(case.method, device, case.precision, **case.settings)
            full_size.work_size_for(ready, case.work_size)
            check_detail(case.detail)


def mean_row(figures: list[dict[str, Any]]) -> dict[str, Any]:
    """One method's figures of all pairs: geometric means of S, C, G and X, the median of seconds, other means."""
    row: dict[str, Any] = {"method": figures[0]["method"], "pairs": len(figures)}
    for name in (name for name in figures[0] if name not in ("method", "content", "style")):
        values = [figure[name] for figure in figures]
        if None in values:
            row[name] = None
        elif name in ("S", "C", "G", "X"):
            row[name] = geometric_mean(values) if min(values) > 0 else 0.0
        else:
            row[name] = median(values) if name == "seconds" else mean(values)
    return row


def _peak_memory(case: Case, content: Path, style: Path, device: str) -> float | None:
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


def _paint_one(case: Case, content: Path, style: Path, device: str) -> int | None:
    """Bytes at the peak of this process, or of its accelerator, after one picture."""
    next(paint([case], [content], [style], device))
    if torch.cuda.is_available() and device != "cpu":
        return torch.cuda.max_memory_allocated(None if device == "auto" else device)
    if sys.platform == "linux":  # getrusage would count the parent's pages, inherited until exec
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def markdown(table: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    lines = [list(table[0]), ["---"] * len(table[0])]
    lines += [[_format(cell) for cell in row.values()] for row in table]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _format(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:.0f}" if cell >= 100 else f"{cell:.3f}"
    return "" if cell is None else str(cell)


def write_figures(figures: list[dict[str, Any]], table: list[dict[str, Any]], output: Path) -> None:
    """Figures of each pair and the table of their means into the folder: figures.json, figures.csv and table.md."""
    with images.replacing(output / "figures.json") as temporary:
        temporary.write_text(json.dumps({"pairs": figures, "means": table}, indent=1))
    with images.replacing(output / "table.md") as temporary:
        temporary.write_text(markdown(table))
    write_csv(figures, output / "figures.csv")


def _write_events(table: list[dict[str, Any]], output: Path) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(output)) as board:
        board.add_text("table", markdown(table))
        board.add_image("sheet", images.to_tensor(images.read(output / "sheet.png"))[0])
        for row in table:
            for name, value in row.items():
                if isinstance(value, float):
                    board.add_scalar(f"{name}/{row['method'].replace('/', '_')}", value)
