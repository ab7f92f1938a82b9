"""Color profiles: the transforms that bring images to sRGB."""

import logging
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageChops, ImageCms

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SrgbTransform:
    """A color transform to sRGB, and the mode of the images that it takes."""

    mode: str
    transform: ImageCms.ImageCmsTransform


@lru_cache(maxsize=32)
def srgb_transform(profile: bytes | None, mode: str) -> SrgbTransform | None:
    """Return the transform that brings images of `mode` with this ICC profile to sRGB; None if none is needed."""
    if not profile:
        return None
    try:
        found = _build(profile, mode)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError) as error:
        log.warning("A damaged color profile is ignored (%s)", error)
        return None
    # Most profiles are sRGB under one of many names. Skipping them saves time and a rounding of all values.
    return found if _changes_colors(found) else None


def _build(data: bytes, mode: str) -> SrgbTransform:
    profile = ImageCms.ImageCmsProfile(BytesIO(data))
    space = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[profile.profile.xcolor_space.strip()]
    if space != mode and (space, mode) != ("RGB", "L"):
        raise ValueError(f"it is for {space}, not {mode}")
    srgb = ImageCms.createProfile("sRGB")
    intent = ImageCms.Intent.RELATIVE_COLORIMETRIC
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    return SrgbTransform(space, ImageCms.buildTransform(profile, srgb, space, "RGB", intent, flags))


def _changes_colors(found: SrgbTransform) -> bool:
    """Return whether any color of a 9 x 9 x 9 grid changes by more than 1 of 255."""
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)
    before = Image.fromarray(grid).convert(found.mode)
    after = ImageCms.applyTransform(before, found.transform) or before
    difference = ImageChops.difference(after, before.convert("RGB"))
    return bool(np.asarray(difference).max() > 1)
