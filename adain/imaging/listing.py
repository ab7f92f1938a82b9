"""Listing the images of a folder."""

import logging
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

from PIL import Image

from adain.imaging.options import REFUSED_FORMATS

log = logging.getLogger(__name__)

STUBS = ("BUFR", "GRIB", "HDF5", "MPEG", "WMF")
"""Formats that Pillow only identifies, without a decoder on all systems."""


def log_unreadable(folder: Path, reason: str) -> None:
    """Log that a subfolder cannot be read, as an error: its images are left out."""
    log.error("%s %s; its images are left out", folder, reason)


def is_image(path: Path) -> bool:
    """Return whether the suffix is that of images, in a format that is read."""
    return path.suffix.lower() in _suffixes()


def files(
    folder: Path,
    unreadable: Callable[[Path, str], object] = log_unreadable,
    accepts: Callable[[Path], bool] = is_image,
    expected: str = "images",
) -> list[Path]:
    """Return the image files in a folder and its subfolders, sorted; or the files of another kind.

    Hidden files, and those in hidden subfolders, are left out. Links to files are followed, but those to folders are
    not, with a warning: they may lead out of the folder, or in circles. A path to a file gives that file alone.

    Args:
        folder: The folder, or a file.
        unreadable: Called with each subfolder that cannot be read, and the reason.
        accepts: Whether a file is listed; by default, whether its suffix is that of images.
        expected: What `accepts` looks for, for the error message.

    Raises:
        ValueError: The folder has no such files.
        OSError: There is no such folder, or it cannot be read.
    """
    if folder.is_file():
        return [folder]
    if not folder.exists():
        raise FileNotFoundError(f"{folder}: no such folder")
    found = []
    links = []
    for parent, subfolders, names in os.walk(folder, onerror=lambda error: _report(error, folder, unreadable)):
        subfolders[:] = [name for name in subfolders if not _is_hidden(name)]
        links += [Path(parent, name) for name in subfolders if os.path.islink(os.path.join(parent, name))]
        found += [Path(parent, name) for name in names if not _is_hidden(name) and accepts(Path(parent, name))]
    if links:
        others = f" (and {len(links) - 1} more)" if len(links) > 1 else ""
        log.warning("%s%s: links to folders are not followed; name the folders themselves", min(links), others)
    if not found:
        raise ValueError(f"Expected {expected} in {folder} or its subfolders, found none")
    return sorted(found)


def _report(error: OSError, folder: Path, unreadable: Callable[[Path, str], object]) -> None:
    """Report a subfolder that cannot be read; raise OSError if it is the folder itself."""
    path = Path(error.filename)
    reason = f"cannot be read ({(error.strerror or str(error)).lower()})"
    if path == folder:
        raise type(error)(f"{folder} {reason}") from error
    unreadable(path, reason)


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


@cache
def _suffixes() -> set[str]:
    formats = Image.registered_extensions()  # this also fills Image.OPEN
    accepted = Image.OPEN.keys() - {*REFUSED_FORMATS, *STUBS}
    return {suffix for suffix, format in formats.items() if format in accepted}
