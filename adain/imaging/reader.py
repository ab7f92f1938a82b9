"""Reading: image files of any format to tensors, upright and in sRGB."""

import logging
import os
import re
import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyvips
from PIL import Image, ImageChops, ImageCms, ImageOps
from torch import Tensor

from adain.imaging.color_profiles import srgb_transform
from adain.imaging.options import DEFAULT_READ_OPTIONS, MAX_PIXELS, REFUSED_FORMATS, ReadOptions, check_size
from adain.imaging.photo import WHITE, Photo, as_batch, image_array, limited_side, resize_to, scaled
from adain.utils.caught_warnings import caught_warnings
from adain.utils.errors import DECODING_ERRORS, ContentError
from adain.utils.files import check_regular

log = logging.getLogger(__name__)


UNREADABLE = (OSError, *DECODING_ERRORS, Image.DecompressionBombError, pyvips.Error)
"""What is raised for files that are truncated, damaged, too large, or not images."""

NOT_THIS_FORMAT = (SyntaxError, IndexError, TypeError, RuntimeError, struct.error)
"""What the formats of Pillow raise for files of other formats."""

STALE = {*range(254, 270), *range(273, 282), 284, 301, *range(317, 348), *range(512, 533), 700, 33723, 34377, 34675}
"""EXIF tags about the layout, orientation, and colors of the file, which do not apply to the decoded image."""

PROFILE_MODES = {"1": "L", "L": "L", "LA": "L", "La": "L", "CMYK": "CMYK"}
"""The mode whose color profiles fit an image of another mode; RGB for those that are not listed."""

URL = re.compile(r"https?:/", re.IGNORECASE)
"""How a URL starts; a `Path` has only one of its slashes."""

Source = str | Path | bytes | Image.Image
"""A path (`-` is standard input), the bytes of a file, or an image in memory."""


def load(
    source: Source,
    size: int | None = None,
    options: ReadOptions = DEFAULT_READ_OPTIONS,
    max_ratio: float | None = None,
) -> Photo:
    """Read an image with everything that its file carries.

    PNG and TIFF files with 16 bits per channel keep them, but not their EXIF. A damaged color profile is ignored, and
    of several frames or pages the first one is read, each with a warning.

    Args:
        source: A path, bytes, or an image.
        size: Shorter side of the result in pixels (Lanczos); by default the image's own.
        options: Which files are accepted.
        max_ratio: Aspect ratio above which images get a smaller size, with the pixels of one of this ratio.

    Raises:
        ValueError: A size below 1.
        ContentError: A size that gives more than `options.max_pixels`.
        TypeError: The source is something else.
        OSError: No such file, no readable image in it, or one with more than `options.max_pixels`; the message names
            the file.
    """
    check_size(size)
    with _open(source, options) as image:
        if size and max_ratio:
            size = limited_side(image.size, size, max_ratio)
        check_result(image.size, size, options.max_pixels)
        # In other formats ";16" means 16 bits per pixel.
        if image.format in ("PNG", "TIFF") and ";16" in str(image.tile):
            return _load_16_bit(image, size, options.truncated)
        profile = bool(image.info.get("icc_profile"))
        # Decoded at twice the size or more, so that the quality is that of Lanczos.
        exif, sides = _decode(image, size and 2 * size, options.truncated)
        sides = scaled(sides, size)
        image, alpha = _to_rgb(image)
        mask = as_batch(image_array(resize_to(alpha, sides))) if alpha else None
        return Photo(as_batch(image_array(resize_to(image, sides))), mask, exif, profile)


def load_image(
    source: Source,
    size: int | None = None,
    options: ReadOptions = DEFAULT_READ_OPTIONS,
    max_ratio: float | None = None,
) -> Tensor:
    """Read an image as (1, 3, H, W), RGB in [0, 1], float32; arguments and errors as of `load`."""
    pixels = load(source, size, options, max_ratio).pixels
    return pixels.float().div_(WHITE[pixels.dtype])


def load_picture(
    source: Source, size: int | None = None, max_pixels: int = MAX_PIXELS, truncated: bool = False
) -> Tensor:
    """Read an image as `load_image` does. This is its former name."""
    return load_image(source, size, ReadOptions(max_pixels, truncated))


def read(
    source: Source,
    shrink: int | None = None,
    options: ReadOptions = DEFAULT_READ_OPTIONS,
    background: int = 255,
) -> Image.Image:
    """Read an image for Pillow: 8 bits per channel, upright, in sRGB, with transparency over a gray of 0 to 255.

    `shrink` allows a JPEG to be decoded at a fraction of its size, with a shorter side of at least that many pixels.
    The other arguments and errors are as of `load`.
    """
    with _open(source, options) as image:
        _decode(image, shrink, options.truncated)
        return _to_rgb(image, background)[0]


@contextmanager
def _open(source: Source, options: ReadOptions) -> Iterator[Any]:
    """Open an image without decoding it; errors until it is closed become an OSError with its name."""
    if not isinstance(source, str | os.PathLike | bytes | Image.Image):
        raise TypeError(f"Expected an image as a path, bytes, or a Pillow image, got {type(source).__name__}")
    name = _name(source)
    try:
        if isinstance(source, Image.Image):
            yield _checked(source, name, options.max_pixels).copy()
        else:
            with _file(source, options.truncated) as file, _logged_warnings(name):
                # Not kept in a variable here: once decoded, it may be large.
                yield _checked(_identify(file), name, options.max_pixels)
    except FileNotFoundError:
        if URL.match(name):
            raise FileNotFoundError(f"Expected a file, got the URL {name}; download it first") from None
        raise FileNotFoundError(f"{name}: no such file") from None
    except PermissionError:
        raise PermissionError(f"{name} cannot be read (permission denied)") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"Expected an image, got the folder {name}; name a file in it") from None
    except ContentError:
        raise
    except UNREADABLE as error:
        raise OSError(f"{name} is not a readable image ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    """Return on one line why an image cannot be read.

    libvips lists the messages of its threads, as many as there are by then: the first one is the cause.
    """
    text = str(error)
    if isinstance(error, pyvips.Error):
        text = " ".join(text.splitlines()[:2])
    return " ".join(text.split())


@contextmanager
def _logged_warnings(name: str) -> Iterator[None]:
    """Log the warnings of Pillow in one line each. Python would print them with a line of Pillow's code."""
    with caught_warnings() as messages:
        yield
    for message in dict.fromkeys(messages):
        log.warning("%s: %s", name, message)


def _name(source: Source) -> str:
    if not isinstance(source, str | Path):
        return "image"
    return "standard input" if str(source) == "-" else str(source)


def _file(source: str | Path | bytes, truncated: bool) -> BinaryIO:
    if not isinstance(source, bytes):
        if str(source) == "-":
            source = sys.stdin.buffer.read()
        else:
            check_regular(source)
            if not truncated:
                return Path(source).open("rb")
            source = Path(source).read_bytes()
    if truncated and source.startswith(b"\xff\xd8"):
        source += b"\xff\xd9"  # without the marker of its end, nothing of a progressive JPEG is decoded
    return BytesIO(source)


def _identify(file: BinaryIO) -> Any:
    """Open an image with Pillow, without its limit on pixels.

    That limit holds for the whole process; this package has a limit for each call.
    """
    prefix = file.read(16)
    Image.preinit()  # the common formats first
    Image.init()
    for format, (factory, accept) in list(Image.OPEN.items()):
        with suppress(*NOT_THIS_FORMAT):  # not this format
            accepted = accept is None or accept(prefix)
            if accepted and not isinstance(accepted, str):  # a string says why not
                if format in REFUSED_FORMATS:
                    raise OSError(f"{format} files are programs; convert it to PNG")
                file.seek(0)
                try:
                    return factory(file, "")
                except MemoryError:  # only the header has been read
                    raise OSError("its header announces more data than fit into memory") from None
    raise OSError("unsupported format, or not an image")


def _checked(image: Any, name: str, max_pixels: int) -> Any:
    if image.width * image.height > max_pixels:
        wrong = f"{image.width} x {image.height} is over the limit of {max_pixels} pixels"
        raise Image.DecompressionBombError(f"{wrong}; unless it is a decompression bomb, raise --max-pixels")
    if getattr(image, "is_animated", False) and image.format != "MPO":  # an MPO is a camera's JPEG with a preview
        log.warning("%s is animated or has several pages; only the first one is used", name)
    return image


def _decode(image: Any, shrink: int | None, truncated: bool) -> tuple[bytes | None, tuple[int, int]]:
    """Decode the image and rotate it upright, in place.

    Returns:
        Its EXIF without the tags that no longer apply, and its upright sides without the reduction by `shrink`, which
        rounds them.
    """
    whole = image.size
    if shrink:
        image.draft("RGB", (shrink, shrink))
    is_reduced = image.size != whole
    try:
        image.load()
    except UNREADABLE:
        if not truncated:
            raise
        image.tile = []  # nothing is left to decode, so what was decoded stays; Pillow's own option is global
        image.load()
    decoded = image.size  # of some icons, these are not the sides in the header
    exif = _rotate_upright(image)
    if not is_reduced:
        return exif, image.size
    return exif, whole if image.size == decoded else whole[::-1]


def _rotate_upright(image: Any) -> bytes | None:
    """Rotate the image as its EXIF says, in place, and return the EXIF without the tags that no longer apply."""
    try:
        ImageOps.exif_transpose(image, in_place=True)
        exif = image.getexif()
        for tag in STALE & exif.keys():
            del exif[tag]
        return exif.tobytes() if exif else None
    except Exception as error:  # each kind of damage raises another type
        log.warning("Damaged EXIF is ignored (%s)", error)
        return None


def _to_rgb(image: Image.Image, background: int = 255) -> tuple[Image.Image, Image.Image | None]:
    """Convert the image to sRGB, with transparency over a gray; also return the transparency (mode L or None)."""
    if image.mode[0] in "IF":
        image = _deep_gray_to_8_bit(image)
    transform = srgb_transform(image.info.get("icc_profile"), PROFILE_MODES.get(image.mode, "RGB"))
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        image = image.convert("RGB")
    if transform:
        if image.mode != transform.mode:
            image = image.convert(transform.mode)
        image = ImageCms.applyTransform(image, transform.transform) or image
    if image.mode != "RGB":
        image = image.convert("RGB")
    if alpha:
        image.paste((background,) * 3, mask=ImageChops.invert(alpha))
    return image, alpha


def _deep_gray_to_8_bit(image: Image.Image) -> Image.Image:
    """Convert integer or floating-point gray to mode L. Pillow would clip it at 255; white is inferred from the values.

    Raises:
        ValueError: NaN or infinity.
    """
    values = np.asarray(image)
    if not np.isfinite(values).all():
        raise ValueError("expected finite values, got NaN or infinity")
    largest = values.max()
    candidates = (65535, 2**32) if image.mode[0] == "I" else (1, 255, 65535, largest)
    white = next(candidate for candidate in candidates if largest <= candidate)
    return Image.fromarray((values * (255 / white)).clip(0, 255).round().astype(np.uint8))


def _load_16_bit(image: Any, size: int | None, truncated: bool) -> Photo:
    """Load as `load` does, with libvips, files whose channels Pillow would reduce to 8 bits."""
    image.fp.seek(0)
    fail_on = "none" if truncated else "error"
    deep = pyvips.Image.new_from_buffer(image.fp.read(), "", memory=True, fail_on=fail_on)
    deep = deep.autorot()
    profile = deep.get("icc-profile-data") if deep.get_typeof("icc-profile-data") else None
    color_bands = deep.bands - deep.hasalpha()
    transform = srgb_transform(profile, {1: "L", 4: "CMYK"}.get(color_bands, "RGB"))
    if transform:
        if transform.mode == "RGB":
            deep = deep.colourspace("rgb16")
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
    """Raise ContentError if an image of those sides has more than `max_pixels` with a shorter side of `size`."""
    width, height = scaled(sides, size)
    if width * height > max_pixels:
        raise ContentError(
            f"the result would have {width} x {height} pixels, over the limit of {max_pixels}; "
            "use a smaller --size, or raise --max-pixels"
        )
