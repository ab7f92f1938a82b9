"""Whether a preview predicts the print: `python -m benchmarks.strokes`.

For each pair, the SSIM (Wang et al. 2004; higher is better) between the result of the content at a shorter side of
512 px, and the result at 2048 px (and 4096 px) downsampled to 512 px: with `--work-size content`, where the network
sees the full size, and with the default. Then the seconds and the peak memory of `infer.py` at each size, in a process
of its own, reading, writing and start included. Large photos are not at hand: the example photos are enlarged, and
have no detail beyond their own size.
"""

import argparse
import tempfile
from pathlib import Path
from statistics import mean

from PIL import Image

import adain
from adain import images, metrics
from adain.full_size import DEFAULT_SIZE, WorkSize
from adain.grid import markdown
from adain.methods import Method, StyleCode
from benchmarks.large import measured
from benchmarks.timing import machine

ROOT = Path(__file__).parents[1]
CONTENTS = [ROOT / "examples" / "content" / name for name in ("astronaut.png", "chelsea.png", "summer_palace.jpg")]
STYLES = [ROOT / "examples" / "style" / name for name in ("starry_night.jpg", "wave.jpg")]
WORK_SIZES: tuple[WorkSize, ...] = ("content", None)


def enlarged(path: Path, size: int) -> Image.Image:
    """The image with its shorter side at `size` pixels (bicubic)."""
    with Image.open(path) as image:
        return image.convert("RGB").resize(images.scaled(image.size, size), Image.Resampling.BICUBIC)


def similarity(content: Path, code: StyleCode, method: Method, size: int, work_size: WorkSize) -> float:
    """SSIM between the small result and the downsampled large one."""
    large = images.load(enlarged(content, size))
    small = images.load(images.resize(enlarged(content, size), DEFAULT_SIZE))
    preview = images.to_image(adain.stylize(small, code, method).pixels)
    result = images.to_image(adain.stylize(large, code, method, work_size=work_size).pixels)
    result = result.resize(preview.size, Image.Resampling.LANCZOS)
    return metrics.ssim(images.to_tensor(result), images.to_tensor(preview))


def costs(content: Path, method: str, size: int, work_size: WorkSize) -> tuple[float, float]:
    """Seconds and peak MiB of `infer.py`."""
    with tempfile.TemporaryDirectory() as folder:
        photo = Path(folder) / "photo.png"
        enlarged(content, size).save(photo, compress_level=1)
        words = ["--method", method, "--content", photo, "--style", STYLES[0], "--output", f"{folder}/out.png"]
        flags = ["--work-size", work_size] if work_size else []
        return measured(["infer.py", *map(str, [*words, *flags]), "--quiet"])


def main() -> None:
    """Print a table of similarities and one of costs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=["adain", "adain-lite"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[2048, 4096], help="shorter sides in pixels")
    parser.add_argument("--contents", nargs="+", type=Path, default=CONTENTS)
    parser.add_argument("--styles", nargs="+", type=Path, default=STYLES)
    options = parser.parse_args()
    print(f"{machine()}; the example photos are enlarged")
    table = []
    for name in options.methods:
        method = adain.prepare(name)
        codes = [adain.encode_style(method, style) for style in options.styles]
        for size in options.sizes:
            row: dict[str, object] = {"method": name, "shorter side": str(size)}
            for work_size in WORK_SIZES:
                label = f"--work-size {work_size}" if work_size else "default"
                pairs = [(content, code) for content in options.contents for code in codes]
                row[f"SSIM, {label}"] = mean(similarity(*pair, method, size, work_size) for pair in pairs)
                seconds, peak = costs(options.contents[0], name, size, work_size)
                row[f"seconds, {label}"], row[f"MiB, {label}"] = f"{seconds:.1f}", f"{peak:.0f}"
            table.append(row)
            print(row, flush=True)
    print(markdown(table), end="")


if __name__ == "__main__":
    main()
