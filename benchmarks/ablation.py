"""The paper's Fig. 6: one short training for each norm in the decoder, and their losses in one figure.

`python -m benchmarks.ablation CONTENT STYLE OUTPUT.png [flags of train.py]`; the runs are kept in runs/ablation.
"""

import subprocess
import sys
from pathlib import Path

from benchmarks.curve import draw

NORMS = ("none", "instance", "batch", "layer")
RUNS = Path("runs/ablation")


def main(content: str, style: str, output: str, *flags: str) -> None:
    command = [sys.executable, "train.py", "fit", "--config", "configs/adain-cpu.yaml", "--trainer.max_steps", "400"]
    command += ["--data.content", content, "--data.style", style, "--trainer.val_check_interval", "50", *flags]
    for norm in NORMS:
        subprocess.run([*command, "--model.method.norm", norm, "--trainer.default_root_dir", RUNS / norm], check=True)
    draw({norm: [max(RUNS.glob(f"{norm}/*/*"), key=lambda run: run.stat().st_mtime)] for norm in NORMS}, output)


if __name__ == "__main__":
    main(*sys.argv[1:])
