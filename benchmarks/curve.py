"""Draw losses: `python -m benchmarks.curve RUN [RUN ...] OUTPUT.png`, the runs of one training in their order.

With `--time`, each run is a training of its own, named after its folder, over the minutes since its first steps.
"""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

LOSSES = ("content", "style", "reconstruction")


def open_run(run: str | Path) -> EventAccumulator:
    """All scalars of a run's TensorBoard events."""
    board = EventAccumulator(str(run), size_guidance={"scalars": 0})
    board.Reload()
    return board


@contextmanager
def loss_panels(xlabel: str, output: str | Path, losses: Sequence[str] = LOSSES) -> Iterator[dict[str, Axes]]:
    """A panel for each loss to draw on, by name; the figure is written at the end of the `with` block."""
    figure, axes = plt.subplots(1, len(losses), figsize=(10, 3), constrained_layout=True)
    yield dict(zip(losses, axes, strict=True))
    for axis, loss in zip(axes, losses, strict=True):
        axis.set(title=f"{loss} loss", xlabel=xlabel, yscale="log")
    axes[0].legend(fontsize="small")
    figure.savefig(output, dpi=90)


def draw_over_time(runs: Sequence[str | Path], output: str | Path) -> None:
    """A panel for each loss on the held-out pairs, a color for each run."""
    with loss_panels("minutes", output) as panels:
        for run in runs:
            board = open_run(run)
            start = board.Scalars("train/loss")[0].wall_time
            for loss, axis in panels.items():
                events = board.Scalars(f"val/{loss}")
                minutes = [(event.wall_time - start) / 60 for event in events]
                label = Path(run).parents[1].name
                axis.plot(minutes, [event.value for event in events], marker=".", label=label)


def draw(runs: Sequence[str | Path], output: str | Path) -> None:
    """A panel for each loss: its batches thin, its held-out pairs with dots.

    Runs that go on from a checkpoint follow their forerunner; those that start from its weights follow too.
    """
    with loss_panels("step", output) as panels:
        offset = last = 0
        for run in runs:
            board = open_run(run)
            steps = [event.step for event in board.Scalars("train/loss")]
            offset += last + 1 if steps[0] < last else 0  # a resumed run counts on by itself
            last = steps[-1]
            for loss, axis in panels.items():
                for side, look in (("train", {"linewidth": 0.6, "alpha": 0.4}), ("val", {"marker": "."})):
                    if f"{side}/{loss}" in board.Tags()["scalars"]:
                        points = [(offset + event.step + 1, event.value) for event in board.Scalars(f"{side}/{loss}")]
                        label = side if run == runs[0] else None
                        axis.plot(*zip(*points, strict=True), color="C0", label=label, **look)


if __name__ == "__main__":
    *runs, output = sys.argv[1:]
    if runs[0] == "--time":
        draw_over_time(runs[1:], output)
    else:
        draw(runs, output)
