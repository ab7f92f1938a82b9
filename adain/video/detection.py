"""Which inputs are videos."""

import mimetypes
from collections.abc import Iterable
from pathlib import Path

from adain.utils.extras import require_extra
from adain.video.formats import WRITTEN


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
        with require_extra("video", "painting videos"):
            import av  # noqa: F401
            import cv2  # noqa: F401
    return found


def _kind(name: str) -> str:
    """`video`, `image` or another, as its name says; empty if it says nothing."""
    return (mimetypes.guess_type(name)[0] or "").partition("/")[0]


def _moves(name: str) -> bool:
    if not Path(name).is_file():
        return False
    try:
        from adain.video.decoding import moves
    except ValueError:  # nothing moves where the extra is missing
        return False
    return moves(name)
