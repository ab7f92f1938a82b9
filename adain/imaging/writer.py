"""Writing: tensors to image files, with what else a photo carries."""

import struct
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
import torch
import torch.nn.functional as F
from PIL import ImageCms
from torch import Tensor

from adain.imaging.photo import WHITE, Photo, image_planes, to_array
from adain.utils.files import atomic_path

JPEG = {"Q": 95, "background": 255, "subsample_mode": "on"}

SUFFIXES: dict[str, dict[str, Any]] = {".png": {"filter": "sub"}, ".jpg": JPEG, ".jpeg": JPEG, ".webp": {"Q": 95}}
SUFFIXES |= {".tif": {}, ".tiff": {}}
"""The formats written, with the options given to libvips. Anything that Pillow knows is read."""


def save(picture: Tensor, path: str | Path, like: Photo | None = None) -> None:
    """Write the picture in the format of the path's suffix: wholly, or not at all. `-` is a PNG on standard output.

    Args:
        picture: (3, H, W) or (1, 3, H, W): floats in [0, 1] or uint8, written in 8 bits a channel, or uint16, written
            in 16 where the format can (PNG, TIFF).
        path: where to.
        like: where transparency (of any size; laid over white in a JPEG) and EXIF (none in a TIFF) come from. If it
            had a color profile, that of sRGB is embedded.

    Raises:
        ValueError: a suffix outside `SUFFIXES`, or not one picture.
        OSError: a path that cannot be written.
    """
    path, like = check_suffix(path), like or Photo(picture)
    planes = image_planes(picture)
    suffix = path.suffix.lower() if str(path) != "-" else ".png"
    deep = planes.dtype == torch.uint16 and suffix in (".png", ".tif", ".tiff")
    dtype = torch.uint16 if deep else torch.uint8
    values = to_array(planes, dtype)
    if (alpha := like.alpha) is not None:
        sides = values.shape[:2]
        if alpha.shape[2:] != sides:
            alpha = F.interpolate(alpha.float().div_(WHITE[alpha.dtype]), sides, mode="bilinear", antialias=True)
        values = np.concatenate((values, to_array(alpha[0], dtype)), axis=2)
    image = pyvips.Image.new_from_array(values, interpretation="rgb16" if deep else "srgb")
    for field, data in {"exif-data": like.exif, "icc-profile-data": like.profile and _srgb_profile()}.items():
        if data:
            image.set_type(pyvips.GValue.blob_type, field, data)
    try:
        if str(path) == "-":
            sys.stdout.buffer.write(image.write_to_buffer(suffix, **SUFFIXES[suffix]))
            sys.stdout.buffer.flush()
        else:
            with atomic_path(path) as temporary:
                image.write_to_target(pyvips.Target.new_to_file(str(temporary)), suffix, **SUFFIXES[suffix])
    except pyvips.Error as error:
        *_, reason = str(error).strip().splitlines()  # the last is the system's, after the names of libvips's functions
        raise OSError(f"cannot write {path} ({reason})") from error


@lru_cache(maxsize=1)
def _srgb_profile() -> bytes:
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + data[36:]  # not today: equal pictures, equal files


def check_suffix(path: str | Path) -> Path:
    """The path, if a picture can be written to it, or `-`; ValueError that names the suffixes allowed otherwise."""
    path = Path(path)
    if str(path) != "-" and path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot write {path.name}: the name must end in one of {', '.join(SUFFIXES)}")
    return path
