"""Writing: tensors to image files, with the transparency and metadata of a photo."""

import struct
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
import torch
import torch.nn.functional as F
from PIL import ImageCms
from torch import Tensor

from adain.imaging.photo import STRIP, WHITE, Photo, image_planes, to_array
from adain.imaging.resampling import strips
from adain.utils.files import atomic_path

JPEG = {"Q": 95, "subsample_mode": "on"}

SUFFIXES: dict[str, dict[str, Any]] = {
    ".png": {"filter": "sub"},
    ".jpg": JPEG,
    ".jpeg": JPEG,
    ".webp": {"Q": 95},
    ".tif": {},
    ".tiff": {},
}
"""The formats that can be written, with their options of libvips. Every format that Pillow supports can be read."""

WITH_16_BITS = (".png", ".tif", ".tiff")
"""Formats that can hold 16 bits per channel."""

WITHOUT_ALPHA = (".jpg", ".jpeg")
"""Formats that cannot hold transparency."""


def save(image: Tensor, path: str | Path, like: Photo | None = None) -> None:
    """Write an image in the format of the path's suffix, completely or not at all.

    Args:
        image: (3, H, W) or (1, 3, H, W): floats in [0, 1] or uint8, written with 8 bits per channel; or uint16, written
            with 16 where the format can (PNG, TIFF).
        path: Where to write; `-` is a PNG on standard output.
        like: The source of transparency (of any size) and EXIF (none in a TIFF). If it had a color profile, that of
            sRGB is embedded. With transparency, `image` is what is seen over white, as `Photo.pixels` is. A JPEG has
            that, and the other formats have the colors that give it.

    Raises:
        TypeError: The image is not a tensor.
        ValueError: A suffix that is not in `SUFFIXES`, or not one image.
        OSError: The path cannot be written.
    """
    path = check_suffix(path)
    suffix = ".png" if str(path) == "-" else path.suffix.lower()
    with _as_os_error(path):
        _write(_for_libvips(image, suffix, like), path, suffix)


def encode(image: Tensor, suffix: str, like: Photo | None = None) -> bytes:
    """Return the bytes of the file that `save` writes to a path with that suffix. It raises the same errors."""
    check_suffix(f"name{suffix}")
    suffix = suffix.lower()
    with _as_os_error(f"an image as {suffix}"):
        return _for_libvips(image, suffix, like).write_to_buffer(suffix, **SUFFIXES[suffix])


@contextmanager
def _as_os_error(name: str | Path) -> Iterator[None]:
    """Raise an error of libvips as an OSError of one line that says what cannot be written."""
    try:
        yield
    except pyvips.Error as error:
        reason = str(error).strip().splitlines()[-1].strip()  # the system's, after the names of libvips's functions
        raise OSError(f"cannot write {name} ({reason})") from error


def _for_libvips(image: Tensor, suffix: str, like: Photo | None) -> pyvips.Image:
    """Return the image with everything that its file will have."""
    like = like or Photo(image)
    planes = image_planes(image)
    deep = planes.dtype == torch.uint16 and suffix in WITH_16_BITS
    dtype = torch.uint16 if deep else torch.uint8
    values = to_array(planes, dtype)
    if like.alpha is not None:
        alpha = _alpha_channel(like.alpha, values.shape[:2], dtype)
        combine = _over_white if suffix in WITHOUT_ALPHA else _with_alpha
        values = combine(values, alpha, WHITE[dtype])
    encoded = pyvips.Image.new_from_array(values, interpretation="rgb16" if deep else "srgb")
    if like.exif:
        encoded.set_type(pyvips.GValue.blob_type, "exif-data", like.exif)
    if like.profile:
        encoded.set_type(pyvips.GValue.blob_type, "icc-profile-data", _srgb_profile())
    return encoded


def _alpha_channel(alpha: Tensor, sides: tuple[int, int], dtype: torch.dtype) -> np.ndarray:
    """Convert the transparency (1, 1, h, w) to an array (H, W, 1), resized to `sides`."""
    if alpha.shape[2:] != sides:
        alpha = F.interpolate(alpha.float().div_(WHITE[alpha.dtype]), sides, mode="bilinear", antialias=True)
    return to_array(alpha[0], dtype)


def _over_white(values: np.ndarray, alpha: np.ndarray, white: int) -> np.ndarray:
    """Return what `_with_alpha` gives over white: `values`, but nowhere darker than black of that transparency."""
    return np.maximum(values, white - alpha)


def _with_alpha(values: np.ndarray, alpha: np.ndarray, white: int) -> np.ndarray:
    """Return colors and transparency (H, W, 4) that give `values` (H, W, 3) over white, as far as any colors do.

    `values` = c * `alpha` + white * (1 - `alpha`) is solved for the colors c. Where nothing is visible, `values` stay.
    """
    combined = np.concatenate((values, alpha), axis=2)
    for rows in strips(len(combined), STRIP):
        colors, opacity = np.split(combined[rows].astype(np.float32), [3], axis=2)
        visible = np.maximum(colors + opacity - white, 0) / np.maximum(opacity, 1) * white
        combined[rows, :, :3] = np.where(opacity > 0, visible.round(), colors)
    return combined


def _write(encoded: pyvips.Image, path: Path, suffix: str) -> None:
    options = SUFFIXES[suffix]
    if str(path) == "-":
        sys.stdout.buffer.write(encoded.write_to_buffer(suffix, **options))
        sys.stdout.buffer.flush()
    else:
        with atomic_path(path) as temporary:
            encoded.write_to_target(pyvips.Target.new_to_file(str(temporary)), suffix, **options)


@lru_cache(maxsize=1)
def _srgb_profile() -> bytes:
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    date = struct.pack(">6H", 2000, 1, 1, 0, 0, 0)  # a fixed date, so that equal images give equal files
    return data[:24] + date + data[36:]


def check_suffix(path: str | Path) -> Path:
    """Return the path if an image can be written to it.

    Otherwise, raise ValueError, which names the supported suffixes.
    """
    path = Path(path)
    if str(path) != "-" and path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"Expected a name that ends in one of {', '.join(SUFFIXES)}, got {path.name}")
    return path
