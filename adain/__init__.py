"""Neural style transfer: any photo in the style of any picture.

import adain

picture = adain.stylize("photo.jpg", "painting.jpg", alpha=0.8)  # (1, 3, H, W), RGB in [0, 1]
adain.save(picture, "stylized.png")
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "METHODS": "adain.methods",
    "encode_style": "adain.inference.style_encoding",
    "load": "adain.methods.weights",
    "load_image": "adain.imaging.reader",
    "load_picture": "adain.imaging.reader",
    "prepare": "adain.inference.preparation",
    "save": "adain.imaging.writer",
    "stylize": "adain.inference.pipeline",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import on first use: `adain --help` answers without waiting for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'adain' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
