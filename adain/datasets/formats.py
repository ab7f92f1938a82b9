"""Names, suffixes, and folders of files."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

SIGNATURES = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"II*\0": ".tif", b"MM\0*": ".tif"}
"""How files of each format start."""


def suffix_by_content(data: bytes) -> str:
    """The suffix of the format of a file of an image; empty if it is not among `SIGNATURES`."""
    for signature, suffix in SIGNATURES.items():
        if data.startswith(signature):
            return suffix
    return ""


def split_suffix(suffix: str) -> tuple[str, str]:
    """A suffix such as .left.png, of a member of a tar shard, in two: what precedes the format, and its suffix."""
    before, dot, last = suffix.rpartition(".")
    return before, dot + last


def safe_name(name: str) -> str:
    """A relative path for a name that someone else chose: it does not leave the folder in which it is used."""
    parts = [part if part != ".." else "_" for part in PurePosixPath(name).parts if part != "/"]
    return "/".join(parts) or "_"


def common_folder(files: Sequence[Path]) -> Path:
    """The deepest folder that all files lie in."""
    folder = files[0].parent
    while not all(path.is_relative_to(folder) for path in files):
        folder = folder.parent
    return folder
