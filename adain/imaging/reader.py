"""Reading: image files of any format to tensors, upright and in sRGB."""

import logging
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyvips
from PIL import Image, ImageChops, ImageCms, ImageOps
from torch import Tensor

from adain.imaging.color_profiles import to_srgb
from adain.imaging.photo import WHITE, Photo, as_batch, check_size, image_array, resize, scaled
from adain.utils.errors import ContentError

log = logging.getLogger(__name__)


MAX_PIXELS = 512 * 1024**2
"""The most pixels a picture may have, unless more are asked for: twice 16384 x 16384."""

BROKEN = (SyntaxError, IndexError, TypeError, RuntimeError, struct.error)  # what Pillow's readers raise besides

UNREADABLE = (OSError, ValueError, EOFError, *BROKEN, Image.DecompressionBombError, pyvips.Error)
"""What is raised for pictures that are truncated, broken, huge or no pictures at all."""

STALE = {*range(254, 270), *range(273, 282), 284, 301, *range(317, 348), *range(512, 533), 700, 33723, 34377, 34675}
"""EXIF tags for how the file was laid out, turned or colored, which the picture read is no longer."""

Source = str | Path | bytes | Image.Image
"""A path (`-` is standard input), a file's bytes, or a picture in memory."""


@dataclass(frozen=True)
class ReadOptions:
    """Which picture files are accepted, see `load`."""

    max_pixels: int = MAX_PIXELS
    truncated: bool = False


DEFAULT_READING = ReadOptions()


def load(source: Source, size: int | None = None, max_pixels: int = MAX_PIXELS, truncated: bool = False) -> Photo:
    """The picture with all that its file carries; `size` sets its shorter side in pixels (Lanczos).

    16 bits a channel of a PNG or TIFF are kept, but not their EXIF. A broken color profile is left out, and of several
    frames or pages the first is taken, each with a warning. `truncated` takes what there is of a file cut short.

    Raises:
        ValueError: a size below 1.
        ContentError: a size that would make more than `max_pixels`.
        OSError: no such file, no readable picture in it, or one of more than `max_pixels`; the message names it.
    """
    check_size(size)
    with _open(source, max_pixels, truncated) as image:
        check_result(image.size, size, max_pixels)
        # In other formats ";16" means 16 bits a pixel.
        if image.format in ("PNG", "TIFF") and ";16" in str(image.tile):
            return _load_deep(image, size, truncated)
        profile = bool(image.info.get("icc_profile"))
        # Decoded no smaller than twice the size, so that Lanczos has the last word.
        exif = _decode(image, size and 2 * size, truncated)
        image, alpha = _colors(image)
        mask = as_batch(image_array(resize(alpha, size))) if alpha else None
        return Photo(as_batch(image_array(resize(image, size))), mask, exif, profile)


def load_picture(
    source: Source, size: int | None = None, max_pixels: int = MAX_PIXELS, truncated: bool = False
) -> Tensor:
    """The picture as (1, 3, H, W), RGB in [0, 1]; arguments and errors as in `load`."""
    pixels = load(source, size, max_pixels, truncated).pixels
    return pixels.float().div_(WHITE[pixels.dtype])


def read(
    source: Source, shrink: int | None = None, max_pixels: int = MAX_PIXELS, truncated: bool = False
) -> Image.Image:
    """The picture in 8 bits a channel for Pillow, upright, in sRGB, transparency laid over white.

    `shrink` allows a JPEG to be decoded at a fraction of its size, with the shorter side still at least that. The
    rest is as in `load`.
    """
    with _open(source, max_pixels, truncated) as image:
        _decode(image, shrink, truncated)
        return _colors(image)[0]


@contextmanager
def _open(source: Source, max_pixels: int, truncated: bool) -> Iterator[Any]:
    """The picture, not yet decoded; what goes wrong until it is closed becomes an OSError with its name."""
    name = str(source) if isinstance(source, str | Path) else "picture"
    name = "standard input" if name == "-" else name
    try:
        if isinstance(source, Image.Image):
            yield _checked(source, name, max_pixels).copy()
        else:
            with _file(source, truncated) as file:
                yield _checked(_identify(file), name, max_pixels)  # not kept here: once decoded, it may be large
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such file") from None
    except PermissionError:
        raise PermissionError(f"{name} cannot be read (permission denied)") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{name} is a folder; name a picture") from None
    except ContentError:
        raise
    except UNREADABLE as error:
        raise OSError(f"{name} is not a readable picture ({' '.join(str(error).split())})") from error


def _file(source: str | Path | bytes, truncated: bool) -> BinaryIO:
    if not isinstance(source, bytes):
        if str(source) != "-" and not truncated:
            return Path(source).open("rb")
        source = sys.stdin.buffer.read() if str(source) == "-" else Path(source).read_bytes()
    # A progressive JPEG shows nothing before it has come to an end.
    return BytesIO(source + b"\xff\xd9" if truncated and source.startswith(b"\xff\xd8") else source)


def _identify(file: BinaryIO) -> Any:
    """Pillow's `Image.open` without its limit on pixels, which is the whole process's: ours comes with each call."""
    prefix = file.read(16)
    Image.preinit()  # the common formats first
    Image.init()
    for factory, accept in list(Image.OPEN.values()):
        with suppress(*BROKEN):  # not this format
            accepted = accept is None or accept(prefix)
            if accepted and not isinstance(accepted, str):  # a string says why not
                file.seek(0)
                return factory(file, "")
    raise OSError("of no format known")


def _checked(image: Any, name: str, max_pixels: int) -> Any:
    if image.width * image.height > max_pixels:
        wrong = f"{image.width} x {image.height} is over the limit of {max_pixels} pixels"
        raise Image.DecompressionBombError(f"{wrong}; unless it is a decompression bomb, raise --max-pixels")
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a camera's JPEG with a preview
        log.warning("%s is animated or has several pages; only the first is used", name)
    return image


def _decode(image: Any, shrink: int | None, truncated: bool) -> bytes | None:
    """Decode the picture and turn it upright, in place; its EXIF without what is stale."""
    if shrink:
        image.draft("RGB", (shrink, shrink))
    try:
        image.load()
    except UNREADABLE:
        if not truncated:
            raise
        image.tile = []  # nothing left to decode: what has been stays, and Pillow's global switch is not needed
        image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
        exif = image.getexif()
        for tag in STALE & exif.keys():
            del exif[tag]
        return exif.tobytes() if exif else None
    except Exception as error:  # every kind of damage raises its own
        log.warning("EXIF is broken and left out (%s)", error)
        return None


def _colors(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colors in sRGB over white, and the transparency in mode L if there is any."""
    if image.mode[0] in "IF":  # deep gray, which Pillow would clip at 255; only the values tell what is white
        values = np.asarray(image)
        tops = (65535, 2**32) if image.mode[0] == "I" else (1, 255, 65535, values.max())
        if not np.isfinite(values).all():
            raise ValueError("expected finite values, got NaN or infinity")
        white = next(top for top in tops if values.max() <= top)
        image = Image.fromarray((values * (255 / white)).clip(0, 255).round().astype(np.uint8))
    mode, alpha = {"1": "L", "L": "L", "LA": "L", "La": "L", "CMYK": "CMYK"}.get(image.mode, "RGB"), None
    found = to_srgb(image.info.get("icc_profile"), mode)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image, alpha = image.convert("RGB"), image.getchannel("A")
    if found:
        space, transform = found
        image = ImageCms.applyTransform(image if image.mode == space else image.convert(space), transform) or image
    image = image if image.mode == "RGB" else image.convert("RGB")
    if alpha:
        image.paste((255, 255, 255), mask=ImageChops.invert(alpha))
    return image, alpha


def _load_deep(image: Any, size: int | None, truncated: bool) -> Photo:
    """As `load`, for the formats of which Pillow would cut the channels to 8 bits."""
    image.fp.seek(0)
    deep = pyvips.Image.new_from_buffer(image.fp.read(), "", memory=True, fail_on="none" if truncated else "error")
    deep = deep.autorot()
    profile = deep.get("icc-profile-data") if deep.get_typeof("icc-profile-data") else None
    if found := to_srgb(profile, {1: "L", 4: "CMYK"}.get(deep.bands - deep.hasalpha(), "RGB")):
        deep = deep.colourspace("rgb16") if found[0] == "RGB" else deep
        deep = deep.icc_transform("srgb", intent="relative", black_point_compensation=True, depth=16)
    deep = deep.colourspace("rgb16")
    if deep.hasalpha():
        deep = deep.flatten(background=[65535], max_alpha=65535).bandjoin(deep[3])
    if size:
        width, height = scaled((deep.width, deep.height), size)
        deep = deep.resize(width / deep.width, vscale=height / deep.height)
    alpha = as_batch(deep[3].numpy()) if deep.bands == 4 else None
    return Photo(as_batch(deep[:3].numpy()), alpha, profile=bool(profile))


def check_result(sides: tuple[int, int], size: int | None, max_pixels: int = MAX_PIXELS) -> None:
    """ContentError if a picture of those sides has more than `max_pixels` once its shorter side is at `size`."""
    width, height = scaled(sides, size)
    if width * height > max_pixels:
        raise ContentError(
            f"the result would have {width} x {height} pixels, over the limit of {max_pixels};"
            " use a smaller --size, or raise --max-pixels"
        )
