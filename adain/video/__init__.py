"""Videos: formats, decoding, temporal smoothing, and encoding."""

from adain.utils.lazy import lazy_attributes

_HOMES = {
    "frames": "adain.video.decoding",
    "stylize_frames": "adain.video.runner",
    "stylize_video": "adain.video.runner",
}
__all__ = sorted(_HOMES)

# Importing another module of this package does not load the video libraries.
__getattr__ = lazy_attributes(__name__, _HOMES)
