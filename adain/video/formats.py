"""Video formats: what is written, and whether a file is complete."""

from pathlib import Path

H264 = "libx264", {"crf": "18"}

WRITTEN: dict[str, tuple[str, dict[str, str]]] = {
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".mkv"), H264),
    ".webm": ("libvpx-vp9", {"crf": "24", "b": "0", "deadline": "good", "cpu-used": "4", "row-mt": "1"}),
    ".gif": ("gif", {}),
}
"""The formats written, each with its encoder and what that is told. Anything that FFmpeg decodes is read."""


def check_suffix(path: str | Path) -> Path:
    """The path, if a video can be written to it; ValueError that names the suffixes allowed otherwise."""
    path = Path(path)
    if path.suffix.lower() not in WRITTEN:
        raise ValueError(f"cannot write {path.name}: a video's name must end in one of {', '.join(WRITTEN)}")
    return path


def suffix(path: Path) -> str:
    """In what format a video is written by default: its own, or .mp4."""
    return path.suffix if path.suffix.lower() in WRITTEN else ".mp4"


def is_cut_short(path: Path) -> bool:
    """Whether a file is smaller than the sizes of its parts, in Matroska (and WebM), AVI, and MP4 (and MOV) files.

    FFmpeg takes the end of such a file for the end of the video. False for other formats.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(4096)
        if start.startswith(b"RIFF") and len(start) >= 8:
            return int.from_bytes(start[4:8], "little") + 8 > size
        if start.startswith(b"\x1a\x45\xdf\xa3"):
            return _end_of_segment(start) > size
        if start[4:8] != b"ftyp":
            return False
        position = 0
        while position < size:  # a box has its length, its name, and for length 1 its length in 8 bytes
            file.seek(position)
            box = file.read(16)
            length = int.from_bytes(box[:4], "big")
            if length == 1:
                length = int.from_bytes(box[8:16], "big")
            if length == 0:  # up to the end of the file
                return False
            if length < 8:
                return True
            position += length
        return position > size


def _end_of_segment(start: bytes) -> int:
    """Where the segment of a Matroska file ends (RFC 9559); 0 if it does not say."""
    found = start.find(b"\x18\x53\x80\x67")
    if found < 0 or found + 12 > len(start) or not start[found + 4]:
        return 0
    width = 9 - start[found + 4].bit_length()  # of the size, in bytes, by its leading zero bits (RFC 8794)
    marked = int.from_bytes(start[found + 4 : found + 4 + width], "big")
    length = marked - (1 << 7 * width)
    unknown = (1 << 7 * width) - 1
    return 0 if length == unknown else found + 4 + width + length
