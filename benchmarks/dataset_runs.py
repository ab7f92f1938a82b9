"""Whole datasets: images per second of `adain stylize-dataset`, beside the way of stylize-datasets.

    python -m benchmarks.dataset_runs

bethgelab/stylize-datasets reads one Pillow image at a time, reads and encodes a random style image of 512 px for it,
stylizes with AdaIN in float32, and saves a JPEG. Here, the plain AdaIN of `benchmarks.textbook` does this, also with
styles at the size of the contents, with as many threads as the other runs have processes. `stylize-dataset` draws from
a bank of the same styles. All read and write JPEG files.

A run of COUNT images and one of three times as many give both the rate, and the seconds that a run takes in addition,
which are those to start processes, or Ray. One image at a time, a quarter as many are read, which is enough for a rate.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torchvision.transforms import v2

from adain.augmentation.bank_building import build_bank
from adain.augmentation.style_bank import save_bank
from adain.datasets.options import EngineOptions, SourceOptions
from adain.datasets.runner import stylize_dataset
from adain.evaluation.report import markdown
from adain.imaging import listing
from adain.inference.preparation import prepare
from benchmarks.datasets import ROOT, OneAtATime
from benchmarks.timing import machine, take_turns

LONGER = 3
"""How many times as many images the longer run has."""

SLOWER = 4
"""The factor by which fewer images are read one at a time."""

SHARDS = 8
"""Units of the shorter run."""


@dataclass(frozen=True)
class Contestant:
    """A way to stylize a folder of photos."""

    call: Callable[[], None]
    images: int
    """How many photos it stylizes."""


def write_photos(content: Path, folder: Path, count: int, size: int) -> None:
    """Write squares of the contents, the same few again and again, as JPEG files."""
    crop = v2.Compose([v2.Resize(size), v2.CenterCrop(size)])
    squares = [crop(Image.open(path).convert("RGB")) for path in listing.files(content)]
    folder.mkdir(parents=True)
    for number in range(count):
        squares[number % len(squares)].save(folder / f"{number:05}.jpg", quality=95)


def one_at_a_time(folder: Path, style: Path, style_size: int, threads: int) -> None:
    """The way of stylize-datasets."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    transform = OneAtATime(style, style_size)
    with tempfile.TemporaryDirectory() as output:
        paths = listing.files(folder)
        for path in paths[: len(paths) // SLOWER]:
            stylized = transform(Image.open(path).convert("RGB"))
            v2.functional.to_pil_image(stylized).save(Path(output, path.name), quality=95)
    torch.set_num_threads(before)


def stylize(folder: Path, bank: Path, method: str, engine: str, workers: int, shard_size: int) -> None:
    """Our way."""
    with tempfile.TemporaryDirectory() as output:
        report = stylize_dataset(
            folder,
            bank,
            output,
            method,
            source_options=SourceOptions(shard_size=shard_size),
            engine_options=EngineOptions(engine=engine, workers=workers, quiet=True),
            device="cpu",
        )
    assert not report.failures


def contestants(
    folder: Path, count: int, banks: dict[str, Path], args: argparse.Namespace, workers: int
) -> dict[str, Contestant]:
    """What is timed on a folder of `count` photos, by name."""
    shard_size = max(1, args.count // SHARDS)
    ways: dict[str, Contestant] = {}
    for size in dict.fromkeys((512, args.size)):
        call = partial(one_at_a_time, folder, args.style, size, workers)
        ways[f"one at a time, style {size} px"] = Contestant(call, count // SLOWER)
    for method, bank in banks.items():
        for engine in args.engines:
            name = f"stylize-dataset, {method}" + (f", {engine}" if engine != "local" else "")
            ways[name] = Contestant(partial(stylize, folder, bank, method, engine, workers, shard_size), count)
    return ways


def main(args: argparse.Namespace) -> None:
    scratch = Path(tempfile.mkdtemp())
    try:
        banks = {}
        for method in ("adain", "adain-lite"):
            banks[method] = scratch / f"{method}.safetensors"
            save_bank(build_bank(args.style, prepare(method, "cpu", "fp32")), banks[method])
        folders = {scratch / "short": args.count, scratch / "long": args.count * LONGER}
        for folder, count in folders.items():
            write_photos(args.content, folder, count, args.size)
        ways: dict[tuple[str, int, str], Contestant] = {}
        for workers in args.workers:
            for folder, count in folders.items():
                for name, way in contestants(folder, count, banks, args, workers).items():
                    ways[name, workers, folder.name] = way
        times = take_turns({key: way.call for key, way in ways.items()}, args.rounds)
    finally:
        shutil.rmtree(scratch)
    about = f"{args.count} and {args.count * LONGER} images of {args.size} px, medians of {args.rounds} rounds"
    print(f"{machine()}; {about}")
    rows = []
    for name in dict.fromkeys(name for name, _, _ in ways):
        row = {"": name}
        for workers in args.workers:
            short, long = ((name, workers, length) for length in ("short", "long"))
            seconds = times[long].median - times[short].median
            rate = (ways[long].images - ways[short].images) / seconds
            row[f"images/s, {workers} processes"] = f"{rate:.2f}"
            row[f"start, s, {workers} processes"] = f"{times[short].median - ways[short].images / rate:.1f}"
        rows.append(row)
    print(markdown(rows), end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--content", type=Path, default=ROOT / "examples" / "content", help="folder of contents")
    parser.add_argument("--style", type=Path, default=ROOT / "examples" / "style", help="folder of styles")
    parser.add_argument("--count", type=int, default=32, help="images of the shorter run")
    parser.add_argument("--size", type=int, default=224, help="side of the contents in pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="numbers of processes")
    parser.add_argument("--engines", nargs="+", default=["local", "ray"], help="local, ray")
    main(parser.parse_args())
