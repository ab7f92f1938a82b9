"""A folder stylized in one run, beside a loop that stylizes picture by picture: `python -m benchmarks.folder`.

Both run in one process with the method loaded and the style encoded once, read files and write files, and take turns.
Before anything is printed, both must agree.
"""

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

import adain
from adain.batch.runner import stylize_folder
from adain.imaging import reader, writer
from adain.utils import memory
from benchmarks.timing import machine, take_turns

ROOT = Path(__file__).parents[1]
STYLE = ROOT / "examples" / "style" / "starry_night.jpg"


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--pictures", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--method", default="adain")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    memory.keep_freed()
    with tempfile.TemporaryDirectory() as name:
        content, run, loop = (Path(name) / part for part in ("content", "run", "loop"))
        content.mkdir()
        paths = make_contents(content, options.pictures, options.size)
        ready = adain.prepare(options.method, options.device)

        def one_run() -> None:
            shutil.rmtree(run, ignore_errors=True)  # what is done would not be done again
            failed = stylize_folder(content, STYLE, run, "all", ready, style_size=options.size, quiet=True)
            assert not failed

        def one_by_one() -> None:
            code = adain.encode_style(ready, STYLE, options.size)
            for path in paths:
                photo = adain.stylize(reader.load(path), code, ready)
                writer.save(photo.pixels, loop / f"{path.stem}__{STYLE.stem}.png", like=photo)

        times = take_turns({"a loop over the pictures": one_by_one, "one run for the folder": one_run}, options.rounds)
        for path in sorted(loop.iterdir()):
            a, b = (np.asarray(Image.open(folder / path.name)).astype(int) for folder in (loop, run))
            assert abs(a - b).mean() <= 1, f"{path.name} differs"
    print(f"{machine()}; {options.method}, {options.size} px, {options.pictures} pictures")
    print("| | pictures a second | times as fast |\n| --- | --- | --- |")
    for name, seconds in times.items():
        ratio = seconds.ratio(times["a loop over the pictures"])
        print(f"| {name} | {options.pictures / seconds.median:.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
