"""Reports: tables of metrics as Markdown, CSV, JSON, and TensorBoard events."""

import json
from pathlib import Path
from statistics import geometric_mean, mean, median
from typing import Any

from adain.imaging import photo, reader
from adain.utils.files import FILE_NAMES, atomic_path, write_csv

NAMES = ("method", "content", "style")
"""Columns that hold no metrics."""

GEOMETRIC = ("S", "C", "G", "X")
"""Metrics that are ratios, which have geometric means."""


FIGURES = ("figures.json", "table.md", "figures.csv")
"""What `write_figures` writes."""


def mean_row(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the means of one method over the rows of its pairs; of seconds the median."""
    means: dict[str, Any] = {"method": rows[0]["method"], "pairs": len(rows)}
    for name in rows[0]:
        if name not in NAMES:
            means[name] = _mean(name, [row[name] for row in rows])
    return means


def _mean(name: str, values: list[Any]) -> float | None:
    if None in values:
        return None
    if name in GEOMETRIC:
        return geometric_mean(values) if min(values) > 0 else 0.0
    return median(values) if name == "seconds" else mean(values)


def markdown(table: list[dict[str, Any]]) -> str:
    """Format rows as a Markdown table."""
    lines = [list(table[0]), ["---"] * len(table[0])]
    lines += [[_format(cell) for cell in row.values()] for row in table]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _format(cell: Any) -> str:
    if isinstance(cell, float):
        return f"{cell:.0f}" if cell >= 100 else f"{cell:.3f}"
    return "" if cell is None else str(cell)


def write_figures(rows: list[dict[str, Any]], table: list[dict[str, Any]], output: Path) -> None:
    """Write the metrics of each pair and the table of their means: figures.json, figures.csv, and table.md."""
    with atomic_path(output / "figures.json") as temporary:
        temporary.write_text(json.dumps({"pairs": rows, "means": table}, indent=1))
    with atomic_path(output / "table.md") as temporary:
        temporary.write_text(markdown(table), **FILE_NAMES)
    write_csv(rows, output / "figures.csv")


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
