"""Options of reading images. This module does not import torch, so that the command line starts fast."""

from dataclasses import dataclass

MAX_PIXELS = 512 * 1024**2
"""Most pixels an image may have by default: twice 16384 x 16384."""

REFUSED_FORMATS = ("EPS",)
"""Formats of Pillow that are not read: EPS files are programs, which Pillow would let Ghostscript run."""


@dataclass(frozen=True)
class ReadOptions:
    """Which image files are accepted.

    Args:
        max_pixels: Largest number of pixels of a content, style, mask or result; larger ones are refused.
        truncated: Use what can be decoded of truncated contents, styles and masks instead of refusing them.
    """

    max_pixels: int = MAX_PIXELS
    truncated: bool = False


DEFAULT_READ_OPTIONS = ReadOptions()


def check_size(size: int | None) -> None:
    """Raise ValueError unless the size is None or at least 1 pixel."""
    if size is not None and size < 1:
        raise ValueError(f"a size must be at least 1 pixel, got {size}")
