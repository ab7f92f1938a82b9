"""Listing the images of a folder."""

from pathlib import Path

from PIL import Image


def files(folder: Path) -> list[Path]:
    """Every file below `folder` that is named like a picture, sorted; ValueError if there is none.

    A file in its place is returned alone.
    """
    if folder.is_file():
        return [folder]
    readable = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = [path for path in folder.rglob("*") if path.suffix.lower() in readable and not path.name.startswith(".")]
    if not files:
        raise ValueError(f"{folder} holds no pictures, nor do its subfolders")
    return sorted(files)
