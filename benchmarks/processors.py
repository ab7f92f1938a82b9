"""How much results depend on the processor: `python -m benchmarks.processors [--methods adain-lite adain]`.

A photo is stylized in processes that may use fewer instructions of the processor than it has, other numbers of threads,
or other arithmetic, as on another processor. Each result is compared with the one of this processor in float32.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.folder import ROOT, STYLE
from benchmarks.timing import machine

CONTENT = ROOT / "examples" / "content" / "astronaut.png"

OTHERS: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "the same, again": ({}, ()),
    "1 thread": ({"OMP_NUM_THREADS": "1"}, ()),
    "without Winograd": ({"ADAIN_WINOGRAD": "0"}, ()),
    "without AVX": ({"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"}, ()),
    "bfloat16": ({}, ("--precision", "bf16")),
}
"""The variables of the environment and the flags of each way to compute."""


def main() -> None:
    """Print a row for each method and way to compute."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["adain-lite", "adain"])
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    print(f"{machine()}; {options.size} px, levels of 8 bits")
    print("| method | computed with | largest difference | mean difference |\n| --- | --- | --- | --- |")
    for method in options.methods:
        here = stylized(method, options.size, {}, ())
        for name, (environment, flags) in OTHERS.items():
            difference = np.abs(stylized(method, options.size, environment, flags) - here)
            print(f"| {method} | {name} | {difference.max():.0f} | {difference.mean():.4f} |", flush=True)


def stylized(method: str, size: int, environment: dict[str, str], flags: tuple[str, ...]) -> np.ndarray:
    """Return the values (H, W, 3), from 0 to 255, of a result of `infer.py`, in float32 unless the flags differ."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "result.png"
        words = ["--content", CONTENT, "--style", STYLE, "--output", output, "--method", method, "--size", size]
        command = [
            sys.executable,
            ROOT / "infer.py",
            *words,
            "--device",
            "cpu",
            "--precision",
            "fp32",
            "--quiet",
            *flags,
        ]
        subprocess.run([*map(str, command)], check=True, env={**os.environ, **environment})
        return np.asarray(Image.open(output), np.float64)


if __name__ == "__main__":
    main()
