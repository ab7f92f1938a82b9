"""Recording an optimization: a progress bar, losses as CSV, events and curves, snapshots."""

import re
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

LOSSES = ("total", "content", "style", "tv")


class OptimizationRecorder:
    """A callback for `Gatys`, and a context: on leaving it the records are written, also after Ctrl-C.

    The first Ctrl-C ends the optimization, whose picture is then the best it has reached; the second does not wait.

    Args:
        folder: where losses.csv, losses.png, events and snapshots go; None keeps no records.
        snapshot_every: steps between snapshots, 0 for none.
        quiet: no progress bar.

    Attributes:
        name: of the picture at work, to be set before each of several.
        runs: losses after each step, by name.
    """

    def __init__(self, folder: str | Path | None = None, snapshot_every: int = 0, quiet: bool = False):
        if snapshot_every and folder is None:
            raise ValueError("snapshots need a folder; name one with --log")
        self.folder = Path(folder) if folder else None
        self.snapshot_every, self.quiet = snapshot_every, quiet
        self.name, self.runs = "picture", defaultdict[str, list[dict[str, float]]](list)
        self.bar = tqdm(disable=True)
        self.stopped = False

    def __enter__(self) -> "OptimizationRecorder":
        self.release = catch_interrupt(self._stop)
        return self

    def _stop(self) -> None:
        self.stopped = True

    def __call__(self, progress: Progress) -> None:
        """Note one step."""
        if progress.step == 1:
            self.bar.close()
            title = f"{self.name}, {progress.size} px"
            self.bar = tqdm(total=progress.steps, desc=title, disable=self.quiet, leave=False)
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
            print("adain: stopped; what was reached is kept", file=sys.stderr)


def unique_names(paths: Iterable[Path]) -> dict[Path, str]:
    """A name for each path: its stem, with a number from the second of its kind on."""
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
    """The losses of optimizations over their steps: losses.csv, losses.png and events in `folder`.

    `runs` holds rows, as `OptimizationRecorder` collects them, of one or more images by name. The mean over the images
    is written, up to the length of the shortest run.
    """
    import matplotlib.figure
    from torch.utils.tensorboard import SummaryWriter

    means = {name: [_mean(rows) for rows in zip(*pictures, strict=False)] for name, pictures in runs.items()}
    write_csv([{"run": name, **row} for name, rows in means.items() for row in rows], folder / "losses.csv")
    figure = matplotlib.figure.Figure(figsize=(10, 3.2), layout="constrained")
    for axis, loss in zip(figure.subplots(1, 3), LOSSES, strict=False):
        for name, rows in means.items():
            axis.plot([row["step"] for row in rows], [row[loss] for row in rows], label=name)
        positive = any(row[loss] > 0 for rows in means.values() for row in rows)
        axis.set(title=f"{loss} loss", xlabel="step", yscale="log" if positive else "linear")
    if len(means) > 1:
        axis.legend(fontsize="x-small")
    with atomic_path(folder / "losses.png") as temporary:
        figure.savefig(temporary, dpi=90)
    for name, rows in means.items():
        with SummaryWriter(str(folder / "events" / re.sub(r"[^\w.,=+ -]+", "_", name)), purge_step=0) as board:
            for row in rows:
                for loss in LOSSES:
                    board.add_scalar(f"loss/{loss}", row[loss], int(row["step"]))


def _mean(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}
