"""Listing the images of a folder."""

from functools import cache
from pathlib import Path

from PIL import Image

from adain.imaging.options import REFUSED_FORMATS

STUBS = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF")
"""Formats that Pillow only identifies, without a decoder on all systems."""


def files(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, by suffix, sorted.

    Hidden files, and those in hidden subfolders, are left out. A path to a file gives that file alone.

    Raises:
        ValueError: The folder has no images.
        OSError: There is no such folder.
    """
    if folder.is_file():
        return [folder]
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder")
    found = []
    for path in folder.rglob("*"):
        if is_image(path) and not _is_hidden(path.relative_to(folder)) and not path.is_dir():
            found.append(path)
    if not found:
        raise ValueError(f"Expected images in {folder} or its subfolders, found none")
    return sorted(found)


def is_image(path: Path) -> bool:
    """Whether the suffix is that of images, in a format that is read."""
    return path.suffix.lower() in _suffixes()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@cache
def _suffixes() -> set[str]:
    formats = Image.registered_extensions()  # this also fills Image.OPEN
    accepted = Image.OPEN.keys() - {*REFUSED_FORMATS, *STUBS}
    return {suffix for suffix, format in formats.items() if format in accepted}
