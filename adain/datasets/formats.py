"""Names, suffixes, and folders of files."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

SIGNATURES = {b"\xff\xd8": ".jpg", b"\x89PNG": ".png", b"RIFF": ".webp", b"II*\0": ".tif", b"MM\0*": ".tif"}
"""How files of each format start."""


def suffix_by_content(data: bytes) -> str:
    """Return the suffix of an image file by its content; empty if the format is not among `SIGNATURES`."""
    for signature, suffix in SIGNATURES.items():
        if data.startswith(signature):
            return suffix
    return ""


def split_suffix(suffix: str) -> tuple[str, str]:
    """Split the suffix of a member of a tar shard, such as .left.png, into what precedes the format and its suffix."""
    before, dot, last = suffix.rpartition(".")
    return before, dot + last


def safe_name(name: str) -> str:
    """Return a relative path for an untrusted name. It does not leave the folder in which it is used."""
    parts = [part if part != ".." else "_" for part in PurePosixPath(name).parts if part != "/"]
    return "/".join(parts) or "_"


def common_folder(files: Sequence[Path]) -> Path:
    """Return the deepest folder that contains all files."""
    folder = files[0].parent
    while not all(path.is_relative_to(folder) for path in files):
        folder = folder.parent
    return folder
