"""Recording an optimization: a progress bar, losses as CSV, events and curves, snapshots."""

import re
import signal
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tqdm import tqdm

from adain.imaging import writer
from adain.methods.progress import Progress, Stop
from adain.utils.files import atomic_path, write_csv
from adain.utils.interrupts import catch_interrupt
from adain.utils.rounding import ceil_div

LOSSES = ("total", "content", "style", "tv")

LOSS_FILES = ("losses.csv", "losses.png")
"""Names of the files that `write_losses` writes, in addition to the events of TensorBoard."""

LEGEND_COLUMNS = 4  # below the curves


class OptimizationRecorder:
    """A callback for `Gatys` and a context manager, which writes the records on exit, also after a signal.

    The first Ctrl-C or SIGTERM stops the optimization, whose result is then the best image so far; the second one ends
    the program.

    Args:
        folder: Where losses.csv, losses.png, events, and snapshots are written; None writes nothing.
        snapshot_every: Steps between snapshots; 0 for none.
        quiet: Show no progress bar.

    Attributes:
        name: Name of the current image, to be set before each one.
        runs: Losses after each step, by name.

    Raises:
        ValueError: Snapshots without a folder.
    """

    def __init__(self, folder: str | Path | None = None, snapshot_every: int = 0, quiet: bool = False):
        if snapshot_every and folder is None:
            raise ValueError("Expected a folder for snapshots, got none; give one with --log")
        self.folder = Path(folder) if folder else None
        self.snapshot_every = snapshot_every
        self.quiet = quiet
        self.name = "image"
        self.runs = defaultdict[str, list[dict[str, float]]](list)
        self.bar = tqdm(disable=True)
        self.stopped = False

    def __enter__(self) -> "OptimizationRecorder":
        self.release = catch_interrupt(self._stop, (signal.SIGINT, signal.SIGTERM))
        return self

    def _stop(self) -> None:
        self.stopped = True

    def __call__(self, progress: Progress) -> None:
        """Record one step."""
        if progress.step == 1:
            self.bar.close()
            title = f"{self.name}, {progress.size} px"
            self.bar = tqdm(total=progress.steps, desc=title, disable=self.quiet or None, leave=False)
        losses = {name: getattr(progress, name) for name in LOSSES}
        self.bar.set_postfix({name: f"{value:.3g}" for name, value in losses.items()}, refresh=False)
        self.bar.update()
        rows = self.runs[self.name]
        rows.append({"step": len(rows) + 1, "size": progress.size, **losses})
        if self.folder and self.snapshot_every and len(rows) % self.snapshot_every == 0:
            writer.save(progress.picture, self.folder / f"{self.name}_{len(rows):05}.png")
        if self.stopped:
            raise Stop(progress.picture)

    def __exit__(self, kind: type[BaseException] | None, error: Any, trace: TracebackType | None) -> None:
        self.release()
        self.bar.close()
        if self.folder and self.runs:
            write_losses({name: [rows] for name, rows in self.runs.items()}, self.folder)
        if self.stopped:
            print("adain: stopped; the best result so far is kept", file=sys.stderr)


def unique_names(paths: Iterable[Path]) -> dict[Path, str]:
    """Return a name for each path: its stem, with a number if an earlier path has the same."""
    names = dict[Path, str]()
    for path in paths:
        name = path.stem
        number = 1
        while name in names.values():
            number += 1
            name = f"{path.stem}-{number}"
        names[path] = name
    return names


def write_losses(runs: Mapping[str, Sequence[Sequence[Mapping[str, float]]]], folder: Path) -> None:
    """Write the losses of optimizations over their steps: losses.csv, losses.png, and TensorBoard events in `folder`.

    `runs` holds rows, as `OptimizationRecorder` collects them, of one or more images by name. The mean over the images
    is written, up to the length of the shortest run.
    """
    from torch.utils.tensorboard import SummaryWriter

    means = {name: _mean_run(images) for name, images in runs.items()}
    table = [{"run": name, **row} for name, rows in means.items() for row in rows]
    write_csv(table, folder / "losses.csv")
    _write_curves(means, folder / "losses.png")
    for name, rows in means.items():
        events = folder / "events" / re.sub(r"[^\w.,=+ -]+", "_", name)
        with SummaryWriter(str(events), purge_step=0) as board:
            for row in rows:
                for loss in LOSSES:
                    board.add_scalar(f"loss/{loss}", row[loss], int(row["step"]))


def _write_curves(runs: Mapping[str, Sequence[Mapping[str, float]]], path: Path) -> None:
    """Plot the first three losses of each run over its steps."""
    import matplotlib.figure

    legend_rows = ceil_div(len(runs), LEGEND_COLUMNS) if len(runs) > 1 else 0
    figure = matplotlib.figure.Figure(figsize=(10, 3.2 + 0.2 * legend_rows), layout="constrained")
    for axis, loss in zip(figure.subplots(1, 3), LOSSES, strict=False):
        for name, rows in runs.items():
            # Runs with the same settings share their first steps, so the shorter one is drawn on top.
            order = 2 + 1 / (1 + len(rows))
            axis.plot([row["step"] for row in rows], [row[loss] for row in rows], label=name, zorder=order)
        positive = any(row[loss] > 0 for rows in runs.values() for row in rows)
        axis.set(title=f"{loss} loss", xlabel="step", yscale="log" if positive else "linear")
    if legend_rows:
        lines, names = axis.get_legend_handles_labels()
        figure.legend(lines, names, loc="outside lower center", ncols=LEGEND_COLUMNS, fontsize="small", frameon=False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=90)


def _mean_run(images: Sequence[Sequence[Mapping[str, float]]]) -> list[dict[str, float]]:
    """Return the mean over images at each step, up to the length of the shortest run."""
    return [_mean(rows) for rows in zip(*images, strict=False)]


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    means = dict[str, float]()
    for name in rows[0]:
        values = [row[name] for row in rows]
        mean = statistics.fmean(values)
        is_whole = mean.is_integer() and all(isinstance(value, int) for value in values)  # a step, or a size
        means[name] = int(mean) if is_whole else mean
    return means
