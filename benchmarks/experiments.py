"""The experiments of docs/experiments.md: `make experiments`, or `python -m benchmarks.experiments NAME`.

Runs the sweep of configs/experiments/NAME.yaml, writes its contact sheet with its loss curves below as
docs/experiments/NAME.webp, and prints the machine, the minutes, and the table.
"""

import sys
import time
from pathlib import Path

from PIL import Image

from adain.cli.main import main as adain
from adain.evaluation.contact_sheet import CELL, GAP, Tile, thumbnail
from adain.evaluation.grid import Pair, listed_pairs
from adain.imaging import reader
from adain.utils.files import atomic_path
from adain.utils.rounding import ceil_div
from benchmarks.timing import machine

ROOT = Path(__file__).parents[1]
WIDTH = 1280  # of the images of the page, in pixels
QUALITY = 60  # of WebP
FIXED_COLUMNS = 2  # of a contact sheet: content and style
MOST_COLUMNS = 8  # side by side on the page


def experiment_pairs() -> list[Pair]:
    """The three pairs of a portrait, a building, and a landscape."""
    examples = ROOT / "examples"
    return listed_pairs(examples / "content", examples / "style", ROOT / "configs" / "experiments" / "pairs.csv")


def pair_tiles(pair: Pair) -> list[Tile]:
    """The tiles of a content and a style, with which a row of a contact sheet starts."""
    return [(thumbnail(reader.read(path)), path.stem) for path in pair]


def stack(images: list[Image.Image]) -> Image.Image:
    """The images below each other, all resized to `WIDTH`."""
    resized = []
    for image in images:
        size = (WIDTH, round(image.height * WIDTH / image.width))
        resized.append(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    stacked = Image.new("RGB", (WIDTH, sum(image.height for image in resized)), "white")
    top = 0
    for image in resized:
        stacked.paste(image, (0, top))
        top += image.height
    return stacked


def save_image(images: list[Image.Image], path: Path) -> None:
    """Write the images below each other as a WebP file, whose path is relative to the repository."""
    with atomic_path(ROOT / path) as temporary:
        stack(images).save(temporary, format="WebP", quality=QUALITY, method=6)


def parts_of(sheet: Image.Image) -> list[Image.Image]:
    """The contact sheet; or if it has too many columns, parts of it, each with the columns of content and style."""
    step = CELL[0] + GAP
    columns = sheet.width // step
    if columns <= MOST_COLUMNS:
        return [sheet]
    results = columns - FIXED_COLUMNS
    count = ceil_div(results, MOST_COLUMNS - FIXED_COLUMNS)
    wide = ceil_div(results, count)
    fixed = sheet.crop((0, 0, FIXED_COLUMNS * step, sheet.height))
    parts = []
    for first in range(FIXED_COLUMNS, columns, wide):
        last = min(first + wide, columns)
        part = Image.new("RGB", (fixed.width + wide * step + GAP, sheet.height), "white")
        part.paste(fixed, (0, 0))
        part.paste(sheet.crop((first * step, 0, last * step, sheet.height)), (fixed.width, 0))
        parts.append(part)
    return parts


def save_figure(output: Path, name: str) -> None:
    """Write the contact sheet and the loss curves that `adain sweep` left in `output` as an image of the page."""
    images = parts_of(Image.open(output / "sheet.png"))
    if (output / "losses.png").is_file():
        images.append(Image.open(output / "losses.png"))
    save_image(images, Path("docs") / "experiments" / f"{name}.webp")


def main(name: str) -> int:
    """Run one experiment; the exit code is that of `adain sweep`."""
    output = ROOT / "out" / "experiments" / name
    start = time.perf_counter()
    code = adain(["sweep", "--config", f"configs/experiments/{name}.yaml", "--output", str(output)])
    if code:
        return code
    minutes = (time.perf_counter() - start) / 60
    print(f"{machine()}; {minutes:.0f} minutes")
    save_figure(output, name)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
