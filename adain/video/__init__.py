"""Videos: formats, decoding, temporal smoothing, and encoding."""

from typing import TYPE_CHECKING

from adain.utils.lazy import lazy_attributes, lazy_names

if TYPE_CHECKING:  # for editors and type checkers, which cannot follow the lazy imports below
    from adain.video.decoding import frames
    from adain.video.runner import stylize_frames, stylize_video

__all__ = ["frames", "stylize_frames", "stylize_video"]

_HOMES = {
    "frames": "adain.video.decoding",
    "stylize_frames": "adain.video.runner",
    "stylize_video": "adain.video.runner",
}

if not TYPE_CHECKING:
    # Importing another module of this package does not load the video libraries.
    __getattr__ = lazy_attributes(__name__, _HOMES)
    __dir__ = lazy_names(__name__, _HOMES)
