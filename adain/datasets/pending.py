"""Samples to photos that wait to be stylized: reading, resizing, cropping, and grouping."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from adain.datasets.draws import Draw, draw
from adain.datasets.formats import split_suffix, suffix_by_content
from adain.datasets.options import ResultOptions
from adain.datasets.samples import Sample
from adain.imaging import reader, writer
from adain.imaging.options import ReadOptions
from adain.imaging.photo import Photo

WINDOW_BATCHES = 8
"""Batches' worth of images among which those of one size are looked for."""

WINDOW_PIXELS = 2**26
"""Pixels after which no more images are looked at."""


@dataclass(frozen=True)
class Pending:
    """A photo that waits to be stylized."""

    sample: Sample
    name: str
    suffix: str
    photo: Photo
    draw: Draw
    original: bytes | None = None
    """The file of the image, if that is the result: it is neither stylized, nor resized, nor cropped."""


def prepare(sample: Sample, styles: int, options: ResultOptions, read_options: ReadOptions) -> list[Pending]:
    """Read the image of a sample, and draw for each result that is made of it.

    Args:
        sample: The sample.
        styles: Number of styles to draw from.
        options: What is made of the image.
        read_options: Which images are accepted.

    Raises:
        ValueError: A size gives too many pixels.
        OSError: The image cannot be read.
    """
    image = sample.image
    if isinstance(image, OSError):
        raise image
    photo = reader.load(image, options.size, read_options)
    if options.crop and min(photo.pixels.shape[2:]) < options.crop:
        photo = reader.load(image, options.crop, read_options)
    suffix = _suffix_of(sample, options)
    unchanged = options.size is None and options.crop is None and suffix == sample.suffix
    found = []
    for number in range(options.per_content):
        drawn = draw(sample.key, number, styles, options)
        name = sample.name if options.per_content == 1 else f"{sample.name}-{number}"
        one = crop(photo, options.crop, drawn) if options.crop else photo
        original = None
        if unchanged and not drawn.is_stylized:
            original = image if isinstance(image, bytes) else Path(image).read_bytes()
        found.append(Pending(sample, name, suffix, one, drawn, original))
    return found


def _suffix_of(sample: Sample, options: ResultOptions) -> str:
    """Return the suffix of the results of a sample: that of the options, else its own, if that can be written."""
    before, own = split_suffix(sample.suffix)
    if not own and isinstance(sample.image, bytes):
        own = suffix_by_content(sample.image)
    if options.suffix:
        own = options.suffix
    return before + (own if own.lower() in writer.SUFFIXES else ".png")


def crop(photo: Photo, side: int, drawn: Draw) -> Photo:
    """Return the square of that side in pixels at the drawn position, with the transparency of the photo."""
    height, width = photo.pixels.shape[2:]
    top = int(drawn.top * (height - side + 1))
    left = int(drawn.left * (width - side + 1))

    def square(planes: Tensor) -> Tensor:
        return planes[..., top : top + side, left : left + side]

    alpha = None if photo.alpha is None else square(photo.alpha)
    return replace(photo, pixels=square(photo.pixels), alpha=alpha)


def windows(photos: Iterable[Pending], batch_size: int) -> Iterator[list[Pending]]:
    """Group consecutive photos, among which those of one size share batches."""
    window: list[Pending] = []
    pixels = 0
    for one in photos:
        window.append(one)
        pixels += pixel_count(one)
        if len(window) >= WINDOW_BATCHES * batch_size or pixels >= WINDOW_PIXELS:
            yield window
            window, pixels = [], 0
    if window:
        yield window


def batches(window: list[Pending], batch_size: int) -> Iterator[list[int]]:
    """Split a window into batches of photos to stylize, of one size and type: their positions in the window."""
    kinds: dict[str, list[int]] = {}
    for position, one in enumerate(window):
        if one.draw.is_stylized:
            pixels = one.photo.pixels
            kinds.setdefault(f"{tuple(pixels.shape)} {pixels.dtype}", []).append(position)
    for positions in kinds.values():
        for start in range(0, len(positions), batch_size):
            yield positions[start : start + batch_size]


def pixel_count(one: Pending) -> int:
    """Return the number of pixels of a photo."""
    return one.photo.pixels[0, 0].numel()
