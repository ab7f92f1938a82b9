"""Reports: tables of metrics as Markdown, CSV, JSON, and TensorBoard events."""

import json
from pathlib import Path
from statistics import geometric_mean, mean, median
from typing import Any

from adain.imaging import photo, reader
from adain.utils.files import atomic_path, write_csv


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
    with atomic_path(output / "figures.json") as temporary:
        temporary.write_text(json.dumps({"pairs": figures, "means": table}, indent=1))
    with atomic_path(output / "table.md") as temporary:
        temporary.write_text(markdown(table))
    write_csv(figures, output / "figures.csv")


def write_events(table: list[dict[str, Any]], output: Path) -> None:
    """Write the means and the contact sheet as TensorBoard events into the folder."""
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(output)) as board:
        board.add_text("table", markdown(table))
        board.add_image("sheet", photo.to_tensor(reader.read(output / "sheet.png"))[0])
        for row in table:
            for name, value in row.items():
                if isinstance(value, float):
                    board.add_scalar(f"{name}/{row['method'].replace('/', '_')}", value)
