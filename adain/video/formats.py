"""Video formats: those that can be written, and whether a file is complete."""

from pathlib import Path
from typing import BinaryIO

H264 = "libx264", {"crf": "18"}

WRITTEN: dict[str, tuple[str, dict[str, str]]] = {
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".mkv"), H264),
    ".webm": ("libvpx-vp9", {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}),
    ".gif": ("gif", {}),
}
"""The encoder of each format that can be written, and its options. Every format that FFmpeg decodes can be read."""


def check_suffix(path: str | Path) -> Path:
    """Return the path if its suffix is that of a video format.

    Raises:
        ValueError: No video can be written to this path.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITTEN:
        raise ValueError(f"cannot write {path.name}: the file name of a video must end in one of {', '.join(WRITTEN)}")
    return path


def suffix(path: Path) -> str:
    """Return the suffix of the default output for a video: its own if that can be written, else .mp4."""
    return path.suffix if path.suffix.lower() in WRITTEN else ".mp4"


def is_truncated(path: Path) -> bool:
    """Return whether a Matroska, WebM, AVI, MP4, or MOV file is smaller than the sizes in its headers say.

    FFmpeg reads such a file as if it ended there. False for other formats.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4096)
        if start.startswith(b"RIFF") and len(start) >= 8:
            return int.from_bytes(start[4:8], "little") + 8 > size
        if start.startswith(b"\x1a\x45\xdf\xa3"):
            return _matroska_end(start) > size
        if start[4:8] == b"ftyp":
            return _mp4_is_truncated(file, size)
    return False


def _mp4_is_truncated(file: BinaryIO, size: int) -> bool:
    """Return whether the last box of an MP4 or MOV file ends behind the end of the file, at `size` bytes."""
    position = 0
    while position < size:
        # A box starts with its length and its type; after a length of 1 comes the length in 8 bytes.
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        if length == 0:  # the box extends to the end of the file
            return False
        if length < 8:
            return True
        position += length
    return position > size


def _matroska_end(start: bytes) -> int:
    """Return where the segment of a Matroska file ends (RFC 9559), in bytes; 0 if the header does not say.

    Args:
        start: The first bytes of the file.
    """
    segment = start.find(b"\x18\x53\x80\x67")
    if segment < 0 or segment + 12 > len(start) or not start[segment + 4]:
        return 0
    # The number of leading zero bits tells how many bytes the size takes (RFC 8794).
    width = 9 - start[segment + 4].bit_length()
    marked_length = int.from_bytes(start[segment + 4 : segment + 4 + width], "big")
    length = marked_length - (1 << 7 * width)
    unknown_length = (1 << 7 * width) - 1
    if length == unknown_length:
        return 0
    return segment + 4 + width + length
