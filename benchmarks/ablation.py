"""The paper's Fig. 6, repeated: trains a decoder with each norm and each seed, and compares their losses.

`python -m benchmarks.ablation CONTENT STYLE OUTPUT.png [--seeds 3] [--steps 2000]` trains with configs/adain-cpu.yaml,
but without its reconstruction loss, which the paper does not have. It prints a table of the last losses on the held-out
pairs, and draws the losses over the steps. A seed decides the initial weights, the batches, and the held-out pairs, so
the norms are compared on the same pairs. Runs are kept in runs/ablation, and runs that are complete are not repeated.
Flags that are not listed by `--help` go to `train.py`.
"""

import argparse
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import mean

from adain.evaluation.report import markdown
from benchmarks.curve import loss_panels, open_run
from benchmarks.timing import machine

NORMS = ("none", "instance", "batch", "layer")
LOSSES = ("content", "style")
RUNS = Path("runs/ablation")
VALIDATIONS = 10

Curve = list[tuple[int, float]]
"""Steps, and the loss on the held-out pairs after each of them."""


def read_curves(folder: Path) -> dict[str, Curve]:
    """The curve of each loss of the newest run in a folder; empty before its first validation."""
    runs = sorted(folder.glob("lightning_logs/*"), key=lambda run: run.stat().st_mtime)
    if not runs:
        return {}
    board = open_run(runs[-1])
    if "val/style" not in board.Tags()["scalars"]:
        return {}
    return {loss: [(event.step + 1, event.value) for event in board.Scalars(f"val/{loss}")] for loss in LOSSES}


def train(norm: str, seed: int, options: argparse.Namespace, flags: Sequence[str]) -> dict[str, Curve]:
    """The curves of a run, which is trained unless it is complete."""
    folder = RUNS / f"{norm}-{seed}"
    curves = read_curves(folder)
    if curves and curves["style"][-1][0] >= options.steps:
        return curves
    command = [sys.executable, "train.py", "fit", "--config", "configs/adain-cpu.yaml"]
    command += ["--data.content", options.content, "--data.style", options.style, "--data.seed", str(seed)]
    command += ["--seed_everything", str(seed), "--model.method.norm", norm, "--trainer.max_steps", str(options.steps)]
    command += ["--model.loss.reconstruction_weight", "0"]
    command += ["--trainer.val_check_interval", str(max(1, options.steps // VALIDATIONS))]
    subprocess.run([*command, "--trainer.default_root_dir", str(folder), *flags], check=True)
    return read_curves(folder)


def describe(values: Sequence[float]) -> str:
    """Mean, and range of several values."""
    spread = f" ({min(values):.3f} to {max(values):.3f})" if len(values) > 1 else ""
    return f"{mean(values):.3f}{spread}"


def draw(runs: dict[str, list[dict[str, Curve]]], output: str) -> None:
    """A panel for each loss on the held-out pairs, a color for each norm, a line for each seed."""
    with loss_panels("step", output, LOSSES) as panels:
        for color, (norm, seeds) in enumerate(runs.items()):
            for number, curves in enumerate(seeds):
                for loss, axis in panels.items():
                    label = norm if number == 0 else None
                    axis.plot(*zip(*curves[loss], strict=True), color=f"C{color}", linewidth=1, label=label)


def main() -> None:
    """Train, print the table, and draw the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("content", help="folder of photos")
    parser.add_argument("style", help="folder of paintings")
    parser.add_argument("output", help="PNG file of the figure")
    parser.add_argument("--seeds", type=int, default=3, help="number of runs of each norm")
    parser.add_argument("--steps", type=int, default=2000, help="of each run")
    options, flags = parser.parse_known_args()
    runs: dict[str, list[dict[str, Curve]]] = {norm: [] for norm in NORMS}
    for seed in range(options.seeds):
        for norm in NORMS:
            runs[norm].append(train(norm, seed, options, flags))
    print(f"{machine()}; {options.steps} steps; number of seeds: {options.seeds}")
    rows = []
    for norm, seeds in runs.items():
        last = {loss: describe([curves[loss][-1][1] for curves in seeds]) for loss in LOSSES}
        rows.append({"norm": norm, **last})
    print(markdown(rows), end="")
    draw(runs, options.output)


if __name__ == "__main__":
    main()
