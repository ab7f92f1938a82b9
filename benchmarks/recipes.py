"""Hours and memory of every recipe in configs/: `python -m benchmarks.recipes [NAME ...] [--steps 12]`.

Each recipe is trained for some steps as users run it, on JPEGs of 640 x 480 pixels cut from the examples, by the device
that the trainer chooses. The hours are those of all its steps at the rate measured, without validation. Flags that are
not listed by `--help` go to `train.py`.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from pytorch_lightning import Callback

from benchmarks.photos import photo_folders
from benchmarks.timing import machine

ROOT = Path(__file__).parents[1]

OWN_FLAGS = {
    "johnson": ["--model.style", "examples/style/starry_night.jpg"],
    "adain-finetune": ["--model.start", "checkpoints/adain.safetensors"],
    "photorealistic": ["--model.start", "checkpoints/adain.safetensors"],
}
"""Files that a recipe needs, according to the comment at its top."""


class Cost(Callback):
    """Prints the pairs of a batch, the pairs a second after the warm-up, and the most memory that was used, in bytes.

    Args:
        warm_up_steps: Number of steps before the clock starts.
    """

    def __init__(self, warm_up_steps: int = 2):
        self.warm_up_steps = warm_up_steps
        self.start = 0.0

    def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
        if trainer.global_step == self.warm_up_steps:
            self.start = self._now()

    def on_train_end(self, trainer: Any, *_: Any) -> None:
        steps = trainer.global_step - self.warm_up_steps
        data = trainer.datamodule
        pairs = data.images_per_batch * data.styles_per_content
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if torch.cuda.is_available():
            memory = torch.cuda.max_memory_reserved()
        cost = {"pairs": pairs, "rate": pairs * steps / (self._now() - self.start), "memory": memory}
        print(f"cost {json.dumps(cost)}", flush=True)

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()


def measure(recipe: Path, folders: Sequence[Path], root: Path, steps: int, flags: Sequence[str]) -> dict[str, float]:
    """Train a recipe for some steps and return what `Cost` prints."""
    words = [sys.executable, "train.py", "fit", "--config", str(recipe), "--data.content", str(folders[0])]
    if yaml.safe_load(recipe.read_text()).get("data", {}).get("style", "") is not None:
        words += ["--data.style", str(folders[1])]
    words += OWN_FLAGS.get(recipe.stem, [])
    words += ["--trainer.max_steps", str(steps), "--trainer.val_check_interval", "1000000", "--data.val_pairs", "0"]
    words += ["--trainer.callbacks+=benchmarks.recipes.Cost", "--trainer.default_root_dir", str(root)]
    words += ["--trainer.enable_progress_bar", "false", *flags]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{recipe.name} failed: {result.stderr}")
    (line,) = (line for line in result.stdout.splitlines() if line.startswith("cost "))
    return json.loads(line.removeprefix("cost "))


def main(words: Sequence[str] | None = None) -> None:
    """Print a row for each recipe."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("names", nargs="*", help="of recipes; all by default")
    parser.add_argument("--steps", type=int, default=12, help="of each recipe, two of them to warm up")
    options, flags = parser.parse_known_args(words)
    recipes = sorted((ROOT / "configs").glob("*.yaml"))
    if options.names:
        recipes = [path for path in recipes if path.stem in options.names]
    print(machine("cuda" if torch.cuda.is_available() else "cpu"))
    print("| recipe | pairs | pairs/s | hours | memory, GB |\n| --- | --- | --- | --- | --- |")
    with photo_folders(32) as folders:
        for recipe in recipes:
            cost = measure(recipe, folders, folders[0].parent / "runs", options.steps, flags)
            pairs = yaml.safe_load(recipe.read_text())["trainer"]["max_steps"] * cost["pairs"]
            hours = pairs / cost["rate"] / 3600
            cells = f"{pairs:,.0f} | {cost['rate']:.2f} | {hours:,.1f} | {cost['memory'] / 1e9:.1f}"
            print(f"| {recipe.stem} | {cells} |", flush=True)


if __name__ == "__main__":
    main()
