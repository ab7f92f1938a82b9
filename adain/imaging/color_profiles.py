"""Color profiles: the transforms that bring images to sRGB."""

import logging
from functools import lru_cache
from io import BytesIO

import numpy as np
from PIL import Image, ImageChops, ImageCms

log = logging.getLogger(__name__)


@lru_cache(maxsize=32)
def to_srgb(data: bytes | None, mode: str) -> tuple[str, ImageCms.ImageCmsTransform] | None:
    """What brings a picture of `mode` to sRGB, and the mode it is for; None without a profile or if it is sRGB."""
    if not data:
        return None
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        space = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[profile.profile.xcolor_space.strip()]
        if space != mode and (space, mode) != ("RGB", "L"):
            raise ValueError(f"it is for {space}, not {mode}")
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), space, "RGB", intent, flags)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError) as error:
        log.warning("a color profile is broken and left out (%s)", error)
        return None
    # Most profiles are sRGB under one of many names: what changes nothing shall cost neither time nor a rounding.
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    probe = Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)).convert(space)
    after = ImageCms.applyTransform(probe, transform) or probe
    change = np.asarray(ImageChops.difference(after, probe.convert("RGB"))).max()
    return (space, transform) if change > 1 else None
