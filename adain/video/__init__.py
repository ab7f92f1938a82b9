"""Videos: formats, decoding, temporal smoothing, and encoding."""

from importlib import import_module
from typing import Any

_HOMES = {
    "frames": "adain.video.decoding",
    "stylize_frames": "adain.video.runner",
    "stylize_video": "adain.video.runner",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import on first use: importing another module of this package must not load the video libraries."""
    if name not in _HOMES:
        raise AttributeError(f"module 'adain.video' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
