"""Which files are videos, and what videos are written: known without the libraries that it takes to read them."""

import mimetypes
from collections.abc import Iterable
from pathlib import Path

from adain.extras import needing

H264 = "libx264", {"crf": "18"}
WRITTEN: dict[str, tuple[str, dict[str, str]]] = {
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".mkv"), H264),
    ".webm": ("libvpx-vp9", {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}),
    ".gif": ("gif", {}),
}
"""The formats written, each with its encoder and what that is told. Anything that FFmpeg decodes is read."""


def videos(content: Iterable[str], output: str | None = None) -> set[str]:
    """Those of the contents that are videos: by their names or, where these say nothing, by what is in them.

    Pictures that move count if the output is a video. ValueError if there are any, but not what it takes to read them.
    """
    asked = output is not None and (_kind(output) == "video" or Path(output).suffix.lower() in WRITTEN)
    found = set()
    for name in content:
        kind = _kind(name)
        if kind == "video" or (asked and kind == "image") or (not kind and _moves(name)):
            found.add(name)
    if found:
        with needing("video", "painting videos"):
            import av  # noqa: F401
            import cv2  # noqa: F401
    return found


def check_suffix(path: str | Path) -> Path:
    """The path, if a video can be written to it; ValueError that names the suffixes allowed otherwise."""
    path = Path(path)
    if path.suffix.lower() not in WRITTEN:
        raise ValueError(f"cannot write {path.name}: a video's name must end in one of {', '.join(WRITTEN)}")
    return path


def suffix(path: Path) -> str:
    """In what format a video is written by default: its own, or .mp4."""
    return path.suffix if path.suffix.lower() in WRITTEN else ".mp4"


def _kind(name: str) -> str:
    """`video`, `image` or another, as its name says; empty if it says nothing."""
    return (mimetypes.guess_type(name)[0] or "").partition("/")[0]


def _moves(name: str) -> bool:
    if not Path(name).is_file():
        return False
    try:
        from adain.video import moves
    except ValueError:  # nothing moves where the extra is missing
        return False
    return moves(name)
