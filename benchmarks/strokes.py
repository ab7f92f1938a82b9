"""Whether a preview predicts the print: `python -m benchmarks.strokes`.

For each pair, `infer.py` stylizes the content at a shorter side of 512 px, and at 2048 px (and 4096 px) with
`--work-size content`, where the network processes the full size, and with the default. The table has the SSIM (Wang
et al. 2004; higher is better) between the small result and the downsampled large one, and the seconds and the peak
memory of the large one, measured in a process of its own with reading, writing, and start. Large photos are not at
hand, so the example photos are enlarged, and have no detail beyond their own size.
"""

import argparse
import tempfile
from functools import cache
from itertools import product
from pathlib import Path
from statistics import mean

from PIL import Image

from adain.evaluation import metrics
from adain.evaluation.report import markdown
from adain.imaging import photo, reader
from adain.inference.full_size import DEFAULT_SIZE
from benchmarks.large import measured
from benchmarks.timing import machine

ROOT = Path(__file__).parents[1]
CONTENTS = [ROOT / "examples" / "content" / name for name in ("astronaut.png", "chelsea.png", "summer_palace.jpg")]
STYLES = [ROOT / "examples" / "style" / name for name in ("starry_night.jpg", "wave.jpg")]


def enlarged(path: Path, size: int) -> Image.Image:
    """The image with its shorter side at `size` pixels (bicubic)."""
    with Image.open(path) as image:
        return image.convert("RGB").resize(photo.scaled(image.size, size), Image.Resampling.BICUBIC)


def stylized(content: Image.Image, style: Path, method: str, *flags: str) -> tuple[Image.Image, float, float]:
    """The result of `infer.py`, its seconds and its peak MiB."""
    with tempfile.TemporaryDirectory() as folder:
        photo, result = Path(folder) / "photo.png", Path(folder) / "result.png"
        content.save(photo, compress_level=1)
        words = ["--method", method, "--content", photo, "--style", style, "--output", result, "--quiet", *flags]
        seconds, peak = measured(["infer.py", *map(str, words)])
        return reader.read(result), seconds, peak


@cache
def preview(content: Path, style: Path, method: str, size: int) -> Image.Image:
    """The result at a shorter side of 512 px of the content that was enlarged to `size` pixels."""
    return stylized(photo.resize(enlarged(content, size), DEFAULT_SIZE), style, method)[0]


def compared(pairs: list[tuple[Path, Path]], method: str, size: int, work_size: str) -> dict[str, object]:
    """The row of a method, a size and a work size: means over the pairs, and the highest peak."""
    similarities, seconds, peaks = [], [], []
    for content, style in pairs:
        expected = preview(content, style, method, size)
        flags = [] if work_size == "default" else ["--work-size", work_size]
        result, time, peak = stylized(enlarged(content, size), style, method, *flags)
        small = result.resize(expected.size, Image.Resampling.LANCZOS)
        similarities.append(metrics.ssim(photo.to_tensor(small), photo.to_tensor(expected)))
        seconds.append(time)
        peaks.append(peak)
    row: dict[str, object] = {"method": method, "shorter side": str(size), "work size": work_size}
    return row | {"SSIM": mean(similarities), "seconds": f"{mean(seconds):.1f}", "MiB": f"{max(peaks):.0f}"}


def main() -> None:
    """Print a row for each method, size and work size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["adain", "adain-lite"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[2048, 4096], help="shorter sides in pixels")
    parser.add_argument("--work-sizes", nargs="+", default=["content", "default"])
    parser.add_argument("--contents", nargs="+", type=Path, default=CONTENTS)
    parser.add_argument("--styles", nargs="+", type=Path, default=STYLES)
    options = parser.parse_args()
    pairs = [*product((path.resolve() for path in options.contents), (path.resolve() for path in options.styles))]
    print(f"{machine()}; {len(pairs)} pairs; the example photos are enlarged")
    table = []
    for method, size, work_size in product(options.methods, options.sizes, options.work_sizes):
        table.append(compared(pairs, method, size, work_size))
        print(table[-1], flush=True)
    print(markdown(table), end="")


if __name__ == "__main__":
    main()
