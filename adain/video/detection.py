"""Detecting which inputs are videos."""

import mimetypes
from collections.abc import Iterable
from pathlib import Path

from adain.utils.extras import require_extra
from adain.video.formats import WRITTEN


def videos(content: Iterable[str | Path], output: str | None = None) -> set[Path]:
    """Return the contents that are videos, by their names or, for names of unknown type, by their contents.

    Animated images, such as GIF files, count as videos if the output is a video.

    Args:
        content: File names.
        output: File name of the result, if there is one.

    Raises:
        ValueError: There are videos, but the packages to read them are not installed.
    """
    writes_video = output is not None and (_kind(output) == "video" or Path(output).suffix.lower() in WRITTEN)
    found = set()
    for name in content:
        kind = _kind(name)
        if kind == "video" or (writes_video and kind == "image") or (not kind and _is_video_file(name)):
            found.add(Path(name))
    if found:
        with require_extra("video", "stylizing videos"):
            import av  # noqa: F401
            import cv2  # noqa: F401
    return found


def _kind(name: str | Path) -> str:
    """Return the media type that a file name suggests, such as `video` or `image`; empty if it suggests none."""
    media_type, _ = mimetypes.guess_type(str(name))
    return (media_type or "").partition("/")[0]


def _is_video_file(name: str | Path) -> bool:
    """Return whether a file is a video; False if it does not exist or the packages to read videos are not installed."""
    if not Path(name).is_file():
        return False
    try:
        from adain.video.decoding import is_video
    except ValueError:  # raised by `require_extra`
        return False
    return is_video(name)
