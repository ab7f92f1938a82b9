"""Methods x contents x styles: the pictures, one contact sheet of them, and their figures."""

import csv
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean, mean, median
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adain import images, inference, metrics

CELL = 256  # pixels a side of a contact sheet's places
UNCHANGED = "content"  # the row of the content as it is, against which methods are seen


@dataclass(frozen=True)
class Cell:
    """One result of a grid: (1, 3, H, W), RGB in [0, 1], and how long it took, style encoding not included."""

    method: str
    content: Path
    style: Path
    picture: Tensor
    seconds: float


def paint(
    methods: Sequence[str],
    contents: Sequence[Path],
    styles: Sequence[Path],
    alpha: float = 1.0,
    size: int | None = None,
    style_size: int | None = None,
    device: str = "auto",
) -> Iterator[Cell]:
    """Every content in every style by every method; arguments and errors as of `adain.stylize`."""
    for name in methods:
        ready = inference.prepare(name, device)
        codes = [inference.encode_style(ready, path, style_size) for path in styles]
        for content in contents:
            source = images.load_picture(content, size)
            for style, code in zip(styles, codes, strict=True):
                start = time.perf_counter()
                picture = inference.stylize(source, code, ready, alpha=alpha).cpu()
                yield Cell(name, content, style, picture, time.perf_counter() - start)


def _thumbnail(picture: Image.Image) -> Image.Image:
    small = picture.copy()
    small.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
    return small


def contact_sheet(rows: Sequence[Sequence[Image.Image | None]], gap: int = 6) -> Image.Image:
    """Thumbnails in rows and columns on white; None leaves a place empty."""
    step = CELL + gap
    sides = [count * step + gap for count in (max(map(len, rows)), len(rows))]
    sheet = Image.new("RGB", (sides[0], sides[1]), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            if picture is not None:
                left, top = ((CELL - side) // 2 for side in picture.size)
                sheet.paste(picture, (gap + x * step + left, gap + y * step + top))
    return sheet


def write_grid(
    content: str | Path,
    style: str | Path,
    output: str | Path,
    method: str = "adain",
    alpha: float = 1.0,
    size: int | None = None,
) -> Path:
    """Paint every content of a folder in every style of another into `output`; returns the contact sheet's path.

    The sheet shows the styles above and the contents on the left. Raises as `adain.stylize` does.
    """
    contents, styles = images.files(Path(content)), images.files(Path(style))
    names = {(c, s): f"{c.stem}__{s.stem}.png" for c in contents for s in styles}
    if len(set(names.values())) < len(names):
        raise ValueError("several pictures of a folder have the same name; results would overwrite each other")
    rows: list[list[Image.Image | None]] = [[None, *map(_thumbnail, map(images.read, styles))]]
    for cell in paint([method], contents, styles, alpha, size):
        images.save(cell.picture, Path(output) / names[cell.content, cell.style])
        if cell.style == styles[0]:
            rows.append([_thumbnail(images.read(cell.content))])
        rows[-1].append(_thumbnail(images.to_image(cell.picture)))
    return _write_sheet(rows, Path(output))


def evaluate(
    methods: Sequence[str],
    content: str | Path,
    style: str | Path,
    output: str | Path,
    alpha: float = 1.0,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """Judge methods on every pair of two folders; returns a row of means for each, the unchanged content first.

    Contents and styles are first brought to a shorter side of `metrics.SIDE` pixels. Figures are those of
    `metrics.scores` and SSIM (Wang et al. 2004) to the content; means are geometric but SSIM's, seconds a median.
    Writes figures.csv and figures.json with a row for each pair, table.md and sheet.png into `output`.
    """
    contents, styles = images.files(Path(content)), images.files(Path(style))
    network = metrics.judge()
    pictures = {path: images.load_picture(path, metrics.SIDE) for path in (*contents, *styles)}
    with torch.inference_mode():
        features = {path: network(picture) for path, picture in pictures.items()}

    def judged(cell: Cell, seen: metrics.Features) -> dict[str, Any]:
        names = {"method": cell.method, "content": cell.content.name, "style": cell.style.name}
        found = metrics.scores(seen, features[cell.content], features[cell.style])
        return {**names, **found, "SSIM": metrics.ssim(cell.picture, pictures[cell.content]), "seconds": cell.seconds}

    unchanged = (Cell(UNCHANGED, c, s, pictures[c], 0.0) for c in contents for s in styles)
    figures, results = [judged(cell, features[cell.content]) for cell in unchanged], {}
    for cell in paint(methods, contents, styles, alpha, metrics.SIDE, metrics.SIDE, device):
        with torch.inference_mode():
            figures.append(judged(cell, network(cell.picture)))
        results[cell.method, cell.content, cell.style] = _thumbnail(images.to_image(cell.picture))
    small = {path: _thumbnail(images.to_image(picture)) for path, picture in pictures.items()}
    rows = [[small[c], small[s], *(results[m, c, s] for m in methods)] for c in contents for s in styles]
    table = [_mean([figure for figure in figures if figure["method"] == name]) for name in (UNCHANGED, *methods)]
    _write_sheet(rows, Path(output))
    _write_figures(figures, table, Path(output))
    return table


def _mean(figures: list[dict[str, Any]]) -> dict[str, Any]:
    columns = {name: [figure[name] for figure in figures] for name in figures[0]}
    means = {name: geometric_mean(columns[name]) if min(columns[name]) > 0 else 0.0 for name in ("S", "C", "G")}
    rest = {"SSIM": mean(columns["SSIM"]), "seconds": median(columns["seconds"]), "pairs": len(figures)}
    return {"method": figures[0]["method"], **means, **rest}


def markdown(table: list[dict[str, Any]]) -> str:
    """Rows as a Markdown table."""
    lines = [list(table[0]), ["---"] * len(table[0])]
    lines += [[f"{cell:.3f}" if isinstance(cell, float) else str(cell) for cell in row.values()] for row in table]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _write_sheet(rows: Sequence[Sequence[Image.Image | None]], output: Path) -> Path:
    with images.replacing(output / "sheet.png") as temporary:
        contact_sheet(rows).save(temporary)
    return output / "sheet.png"


def _write_figures(figures: list[dict[str, Any]], table: list[dict[str, Any]], output: Path) -> None:
    with images.replacing(output / "figures.json") as temporary:
        temporary.write_text(json.dumps({"pairs": figures, "means": table}, indent=1))
    with images.replacing(output / "table.md") as temporary:
        temporary.write_text(markdown(table))
    with images.replacing(output / "figures.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(figures[0]))
        writer.writeheader()
        writer.writerows(figures)
