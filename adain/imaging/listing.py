"""Listing the images of a folder."""

from pathlib import Path

from PIL import Image

from adain.imaging.options import REFUSED_FORMATS


def files(folder: Path) -> list[Path]:
    """The image files in a folder and its subfolders, by suffix, sorted; hidden files are left out.

    A path to a file gives that file alone.

    Raises:
        ValueError: The folder has no images.
    """
    if folder.is_file():
        return [folder]
    formats = Image.registered_extensions()  # this also fills Image.OPEN
    accepted = Image.OPEN.keys() - {*REFUSED_FORMATS}
    readable = {suffix for suffix, format in formats.items() if format in accepted}
    found = []
    for path in folder.rglob("*"):
        if path.suffix.lower() in readable and not path.name.startswith("."):
            found.append(path)
    if not found:
        raise ValueError(f"Expected images in {folder} or its subfolders, found none")
    return sorted(found)
