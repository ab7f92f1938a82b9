"""Regions of JPEG files, decoded without the parts of the file that they do not need.

`PlainJpeg` gives the same pixels as `adain.imaging.reader.read`, in less time.
"""

import struct
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import simplejpeg
from PIL import ExifTags, JpegImagePlugin
from torch import Tensor

from adain.imaging.color_profiles import srgb_transform
from adain.imaging.options import MAX_PIXELS
from adain.imaging.photo import as_batch
from adain.utils.errors import DECODING_ERRORS
from adain.utils.files import check_regular
from adain.utils.rounding import ceil_div

MARKER = b"\xff\xd8"
"""The first bytes of a JPEG file."""

MCU = 16
"""Side in pixels of the blocks of a JPEG whose colors have half the resolution (4:2:0)."""

CONTEXT = 2
"""Pixels around a region on which its colors depend, because those are upsampled."""

BASELINE_SAMPLING = bytes((1, 0x22, 2, 0x11, 3, 0x11))
"""Identifier and sampling factors of the components of a 4:2:0 JPEG, as libjpeg writes them."""

Box = tuple[int, int, int, int]
"""Left, top, right, and bottom in pixels; the last two are outside."""


@dataclass(frozen=True)
class PlainJpeg:
    """A JPEG in RGB that is upright and in sRGB, so that its pixels need no conversion.

    Attributes:
        data: The file.
        size: Width and height in pixels.
    """

    data: bytes
    size: tuple[int, int]

    @classmethod
    def open(cls, source: str | Path | bytes) -> "PlainJpeg | None":
        """Read the header of a file; None if it is not a plain JPEG, or not an image at all."""
        try:
            data = source if isinstance(source, bytes) else _read_jpeg(Path(source))
            image = JpegImagePlugin.JpegImageFile(BytesIO(data))
            upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
            profile = image.info.get("icc_profile")
        except (OSError, *DECODING_ERRORS):  # the reader then reports it
            return None
        plain = image.mode == "RGB" and upright and srgb_transform(profile, "RGB") is None
        return cls(data, image.size) if plain and image.width * image.height <= MAX_PIXELS else None

    def decode(self, box: Box) -> Tensor:
        """Return the pixels of a region: (1, 3, height, width), uint8, channels last in memory.

        Raises:
            ValueError: The file is damaged.
        """
        left, top, right, bottom = box
        smaller = _cut_blocks(self.data, self.size, box)
        data, x, y = smaller or (self.data, 0, 0)
        pixels = simplejpeg.decode_jpeg(data)
        return as_batch(np.ascontiguousarray(pixels[top - y : bottom - y, left - x : right - x]))


def _read_jpeg(path: Path) -> bytes:
    """Return the contents of a file, or only its first bytes if it is no JPEG."""
    check_regular(path)
    with path.open("rb") as file:
        start = file.read(len(MARKER))
        return start + file.read() if start == MARKER else start


def _cut_blocks(data: bytes, size: tuple[int, int], box: Box) -> tuple[bytes, int, int] | None:
    """Return a JPEG of the blocks that cover a region, and the position of its left top corner in the whole image.

    That is possible without decoding if there is a restart marker after each block, as `adain prepare-data` writes
    them. For other files, return None.
    """
    header = _parse_header(data)
    if header is None:
        return None
    size_offset, scan = header
    columns, rows = (ceil_div(side, MCU) for side in size)
    compressed = np.frombuffer(data, np.uint8, offset=scan)
    ends = _block_ends(compressed, columns * rows)
    if ends is None:
        return None
    starts = np.concatenate([[0], ends[:-1] + 2])
    left, top = (max(0, side - CONTEXT) // MCU for side in box[:2])
    right = min(columns, ceil_div(box[2] + CONTEXT, MCU))
    bottom = min(rows, ceil_div(box[3] + CONTEXT, MCU))
    parts = []
    for row in range(top, bottom):
        first, last = row * columns + left, row * columns + right - 1
        parts.append(compressed[starts[first] : ends[last] + 2])
    kept = np.concatenate(parts)
    blocks = (np.arange(top, bottom)[:, None] * columns + np.arange(left, right)).ravel()
    markers = np.cumsum(ends[blocks] - starts[blocks] + 2) - 1
    kept[markers] = 0xD0 + np.arange(len(markers)) % 8  # restart markers count from 0 to 7
    kept[-1] = 0xD9  # end of image
    width = min(right * MCU, size[0]) - left * MCU
    height = min(bottom * MCU, size[1]) - top * MCU
    sides = struct.pack(">HH", height, width)
    return data[:size_offset] + sides + data[size_offset + 4 : scan] + kept.tobytes(), left * MCU, top * MCU


def _parse_header(data: bytes) -> tuple[int, int] | None:
    """Return the offsets of the height and of the compressed data.

    Returns None unless the file is a baseline 4:2:0 JPEG with a restart marker after each block.
    """
    size_offset = restart_interval = 0
    position = len(MARKER)
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker == 0xC0 and data[position + 9 : position + 10] == b"\x03":  # the frame, with three components
            components = data[position + 10 : position + 2 + length]
            sampling = b"".join(components[i : i + 2] for i in range(0, len(components), 3))
            if sampling == BASELINE_SAMPLING:
                size_offset = position + 5
        if marker == 0xDD:
            (restart_interval,) = struct.unpack_from(">H", data, position + 4)
        position += 2 + length
        if marker == 0xDA:
            return (size_offset, position) if size_offset and restart_interval == 1 else None
    return None


def _block_ends(compressed: np.ndarray, count: int) -> np.ndarray | None:
    """Return where the markers after each of `count` blocks are; None if they are not as expected."""
    escapes = np.flatnonzero(compressed[:-1] == 0xFF)
    codes = compressed[escapes + 1]
    ends = escapes[codes != 0]  # a 0 stands after a byte of the data that is 255
    if len(ends) != count or compressed[ends[-1] + 1] != 0xD9:
        return None
    expected = 0xD0 + np.arange(count - 1) % 8
    return ends if np.array_equal(compressed[ends[:-1] + 1], expected) else None
