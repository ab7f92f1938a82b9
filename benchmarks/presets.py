"""The recipes of configs/presets on the three pairs of the experiments: `python -m benchmarks.presets`.

Prints the machine, the minutes, and a table, and writes docs/experiments/presets.webp: the results with their loss
curves.
"""

import time
from pathlib import Path

from jsonargparse import ArgumentParser

from adain.evaluation.evaluate import evaluate
from adain.evaluation.grid import Variant
from adain.evaluation.report import markdown
from adain.inference.options import StyleOptions, StyleSize
from adain.methods.gatys import Gatys
from benchmarks.experiments import ROOT, experiment_pairs, save_figure
from benchmarks.timing import machine


def read_preset(path: Path) -> Variant:
    """The variant that a file of configs/presets describes."""
    parser = ArgumentParser()
    parser.add_argument("--method", type=str)
    parser.add_argument("--size", type=int)
    parser.add_argument("--style_size", type=StyleSize)
    parser.add_class_arguments(Gatys, "gatys", skip={"callback"})
    values = parser.parse_path(str(path))
    options = StyleOptions(style_size=values.style_size)
    return Variant(path.stem, values.method, vars(values.gatys), options, values.size)


def main() -> None:
    """Print the machine and the table; write the image."""
    variants = [read_preset(path) for path in sorted((ROOT / "configs" / "presets").glob("*.yaml"))]
    output = ROOT / "out" / "experiments" / "presets"
    start = time.perf_counter()
    rows = evaluate(variants, experiment_pairs(), output, memory=False)
    print(f"{machine()}; {(time.perf_counter() - start) / 60:.0f} minutes\n")
    print(markdown(rows), end="")
    save_figure(output, "presets")


if __name__ == "__main__":
    main()
