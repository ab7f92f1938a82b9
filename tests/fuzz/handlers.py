"""What the worker does with a file. Each handler returns a result in words, or raises OSError or ValueError."""

import itertools
import tempfile
from pathlib import Path

import torch
from PIL import Image

from adain.cli import main
from adain.imaging import reader, writer
from adain.imaging.options import ReadOptions
from adain.inference import pipeline, preparation
from adain.methods import style_codes, weights

MAX_PIXELS = 2**20
FRAMES = 50

METHOD = preparation.prepare("adain-lite", "cpu", "fp32")
PHOTO = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))


def read_image(path: str, size: int | None, truncated: bool) -> str:
    """Read an image, write it with its metadata, and compare the sizes."""
    photo = reader.load(path, size, ReadOptions(MAX_PIXELS, truncated))
    height, width = photo.pixels.shape[2:]
    assert photo.pixels.shape[:2] == (1, 3)
    assert photo.pixels.dtype in (torch.uint8, torch.uint16)
    assert 0 < height * width <= MAX_PIXELS
    assert size is None or min(height, width) == size
    if photo.alpha is not None:
        assert photo.alpha.shape == (1, 1, height, width)
        assert photo.alpha.dtype == photo.pixels.dtype
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.png", "a.jpg"):
            if max(height, width) < 16384:  # more than a JPEG may have
                writer.save(photo.pixels, Path(folder) / name, like=photo)
                with Image.open(Path(folder) / name) as written:
                    assert written.size == (width, height)
    return f"{width} x {height}"


def run_command(words: list[str]) -> str:
    """Run the `adain` command; returns its exit code."""
    try:
        return str(main.main(words))
    except SystemExit as stop:
        return str(stop.code)


def load_weights(path: str) -> str:
    """Load a file of weights, and stylize with them."""
    method = weights.load(path)
    with torch.inference_mode():
        result = pipeline.stylize(PHOTO, PHOTO if method.takes_style else None, method)
    assert result.shape == PHOTO.shape
    assert result.isfinite().all()
    return type(method).__name__


def load_code(path: str) -> str:
    """Load a style code, and stylize with it."""
    code = style_codes.load_code(path, METHOD)
    result = pipeline.stylize(PHOTO, code, METHOD)
    assert result.shape == PHOTO.shape
    assert result.isfinite().all()
    return "code"


def read_video(path: str) -> str:
    """Decode the first frames of a video."""
    from adain.video import decoding

    sizes = set()
    for frame in itertools.islice(decoding.frames(path, 8, MAX_PIXELS), FRAMES):
        assert frame.shape[:2] == (1, 3)
        sizes.add(tuple(frame.shape[2:]))
    assert len(sizes) <= 1
    return str(sizes)


HANDLERS = {
    "image": read_image,
    "command": run_command,
    "weights": load_weights,
    "code": load_code,
    "video": read_video,
}


def warm_up() -> None:
    """Import everything, and start the threads, before memory is measured."""
    import adain.video.decoding  # noqa: F401

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.png"
        pixels = torch.zeros(1, 3, 1024, 1024, dtype=torch.uint16)
        writer.save(pixels, path)
        read_image(str(path), 8, False)
        words = ["stylize", "--content", str(path), "--style", str(path), "--method", "adain-lite", "--device", "cpu"]
        assert run_command([*words, "--output", str(Path(folder) / "b.png"), "--quiet", "--size", "8"]) == "0"
