"""A folder painted in one run, beside one process for each picture: `python -m benchmarks.folder [--size 512]`.

Both start anew, read files and write files; of the single processes a few are timed, and their median counts. Before
anything is printed, both must agree.
"""

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).parents[1]
STYLE = ROOT / "examples" / "style" / "starry_night.jpg"
FOLDER = """
import sys
from adain.folder import paint_folder

content, style, output, method, size, device = sys.argv[1:]
sys.exit(bool(paint_folder(content, style, output, "all", method, size=int(size), style_size=int(size), device=device)))
"""


def make_contents(folder: Path, pictures: int, size: int) -> list[Path]:
    """Crops of the examples, as files of `size` pixels a side."""
    sources = sorted((ROOT / "examples" / "content").iterdir())
    rng, paths = np.random.default_rng(0), []
    for i in range(pictures):
        image = Image.open(sources[i % len(sources)]).convert("RGB")
        side = min(image.size) * 3 // 4
        left, top = (int(rng.integers(room - side + 1)) for room in image.size)
        paths.append(folder / f"{i:04}.jpg")
        image.resize((size, size), box=(left, top, left + side, top + side)).save(paths[-1], quality=95)
    return paths


def seconds(*arguments: str | Path) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *map(str, arguments)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def row(name: str, each: float, ratio: float) -> None:
    print(f"{name:32} {each:9.3f} {1 / each:12.2f} {ratio:7.2f}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--pictures", type=int, default=24)
    parser.add_argument("--single", type=int, default=5, help="pictures that are painted one by one")
    parser.add_argument("--method", default="adain")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        content, output, single = (Path(name) / part for part in ("content", "output", "single"))
        content.mkdir()
        paths = make_contents(content, options.pictures, options.size)
        flags = ("--size", options.size, "--style-size", options.size, "--method", options.method)
        flags += ("--device", options.device, "--quiet", "--style", STYLE)
        times = [
            seconds("infer.py", "--content", path, "--output", single / f"{path.stem}.png", *map(str, flags))
            for path in paths[: options.single]
        ]
        settings = (options.method, options.size, options.device)
        folder = seconds("-c", FOLDER, content, STYLE, output, *map(str, settings)) / options.pictures
        for path in paths[: options.single]:
            pair = (single / f"{path.stem}.png", output / f"{path.stem}__{STYLE.stem}.png")
            a, b = (np.asarray(Image.open(one)).astype(int) for one in pair)
            assert abs(a - b).mean() <= 1, f"{path.name} differs"
    each = statistics.median(times)
    gpu = torch.cuda.is_available() and options.device in ("auto", "cuda")
    machine = torch.cuda.get_device_name() if gpu else f"{len(os.sched_getaffinity(0))} cores {platform.machine()}"
    print(f"torch {torch.__version__}, {machine}, {options.method}, {options.size} px, {options.pictures} pictures")
    print(f"{'':32} {'s/picture':>9} {'pictures/s':>12} {'ratio':>7}")
    row("one process for each picture", each, 1)
    row("one run for the folder", folder, each / folder)
