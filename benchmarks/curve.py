"""Draw a run's losses: `python -m benchmarks.curve RUN [RUN ...] OUTPUT.png`, runs of one training in their order."""

import sys

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

LOSSES = ("content", "style", "reconstruction")


def main(runs: list[str], output: str) -> None:
    figure, axes = plt.subplots(1, len(LOSSES), figsize=(10, 3), constrained_layout=True)
    offset = 0
    for run in runs:
        board = EventAccumulator(run, size_guidance={"scalars": 0})
        board.Reload()
        for axis, loss in zip(axes, LOSSES, strict=True):
            for side, style in (("train", {"linewidth": 0.6, "alpha": 0.5}), ("val", {"marker": "."})):
                tag = f"{side}/{loss}"
                if tag in board.Tags()["scalars"]:
                    points = [(offset + event.step + 1, event.value) for event in board.Scalars(tag)]
                    label = side if run == runs[0] else None
                    axis.plot(*zip(*points, strict=True), color=f"C{side == 'val':d}", label=label, **style)
            axis.set(title=f"{loss} loss", xlabel="step", yscale="log")
        offset += board.Scalars("train/loss")[-1].step + 1
    axes[0].legend()
    figure.savefig(output, dpi=90)


if __name__ == "__main__":
    main(sys.argv[1:-1], sys.argv[-1])
