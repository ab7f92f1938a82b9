"""Memory and time over sizes: `python -m benchmarks.large [--sizes 1024 2048 4096] [--methods adain] [--max-memory 2]`.

`infer.py` stylizes each image in its own process. Times include the start, reading, and writing.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from benchmarks.timing import machine

ROOT = Path(__file__).parents[1]
CONTENT, STYLE = ROOT / "examples" / "content" / "chelsea.png", ROOT / "examples" / "style" / "starry_night.jpg"


PEAK = """
import re, runpy, sys
from pathlib import Path

sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
except SystemExit as stop:
    assert not stop.code, stop.code
print(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text()).group(1))
"""
"""Runs a script and prints its peak in KiB. The peak of getrusage would be the parent's, inherited until exec."""


def measured(words: list[str]) -> tuple[float, float]:
    """Seconds and peak MiB of a script in a process of its own; it must succeed."""
    start = time.perf_counter()
    process = subprocess.run([sys.executable, "-c", PEAK, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    if process.returncode:
        raise SystemExit(f"{' '.join(words)} failed")
    return time.perf_counter() - start, int(process.stdout.split()[-1]) / 2**10


def main() -> None:
    """Print a row for each method and size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", default=["1024", "2048", "4096", "7680x4320"], help="sides, or WxH")
    parser.add_argument("--methods", nargs="+", default=["adain", "adain-lite"])
    options, flags = parser.parse_known_args()
    print(f"{machine()}; flags {' '.join(flags) or 'none'}")
    print("| method | size | seconds | MiB | seconds a megapixel |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            width, height = (int(side) for side in (size if "x" in size else f"{size}x{size}").split("x"))
            content = Path(folder) / f"{size}.png"
            Image.open(CONTENT).convert("RGB").resize((width, height)).save(content, compress_level=1)
            for method in options.methods:
                words = ["--method", method, "--content", content, "--style", STYLE, "--output", f"{folder}/out.png"]
                seconds, peak = measured(["infer.py", *map(str, words), "--quiet", *flags])
                pixels = width * height / 1e6
                print(f"| {method} | {size} | {seconds:.1f} | {peak:.0f} | {seconds / pixels:.2f} |", flush=True)


if __name__ == "__main__":
    main()
