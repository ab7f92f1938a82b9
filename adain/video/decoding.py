"""Decoding: frames of a video, upright and in sRGB, with their times."""

import logging
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from adain.imaging import photo, reader
from adain.imaging.options import MAX_PIXELS, check_size
from adain.imaging.photo import to_float
from adain.utils.extras import require_extra
from adain.video.formats import is_cut_short

with require_extra("video", "painting videos"):
    import av
    from av.video.reformatter import Colorspace, Interpolation

    pass


log = logging.getLogger(__name__)


COPIED = ("audio", "subtitle", "attachment")
"""Kinds of streams that are passed on as they are."""

SWSCALE = Interpolation.LANCZOS | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

MATRICES = {1: Colorspace.ITU709, 4: Colorspace.FCC, 7: Colorspace.SMPTE240M, 9: Colorspace.BT2020}
MATRICES |= dict.fromkeys((5, 6), Colorspace.ITU601)
"""What libswscale calls the matrices that frames are tagged with, as ISO/IEC 23091-2 numbers them."""


class Frame(NamedTuple):
    """A frame, upright, and what it takes to write it in its place."""

    pixels: Tensor
    """(1, 3, H, W), RGB in [0, 1]; transparency is laid over white."""
    pts: int
    """Its time, and `duration` its length, in the time base of its stream; 0 if unknown."""
    duration: int
    packets: list[Any]
    """Of the other streams, that came before it."""


def frames(
    path: str | Path, size: int | None = None, max_pixels: int = MAX_PIXELS, truncated: bool = False
) -> Iterator[Tensor]:
    """The frames of a video one by one, (1, 3, H, W), RGB in [0, 1], float32, upright.

    Args:
        path: of any format that the library decodes.
        size: shorter side of the frames in pixels; by default as it is.
        max_pixels: of a frame; more are refused.
        truncated: stop where a file is broken or cut short, instead of refusing it there.

    Raises:
        ValueError: a size below 1.
        OSError: no such file, no moving pictures in it, frames too large; or, when it comes to it, what is broken.
    """
    check_size(size)
    with open_clip(path, size, max_pixels, truncated) as clip:
        for frame in clip:
            yield frame.pixels


def moves(path: str | Path) -> bool:
    """Whether a file holds moving pictures."""
    try:
        with open_clip(path, None, 0, False):
            return True
    except OSError:
        return False


class Clip:
    """A video that is open: an iterator of its frames; `rest` are packets that came after the last."""

    def __init__(self, path: Path, container: Any, size: int | None, max_pixels: int, truncated: bool):
        self.path, self.container, self.size, self.truncated = path, container, size, truncated
        streams = [s for s in container.streams.video if not s.disposition & s.disposition.attached_pic]
        if not streams or container.format.name.endswith(("_pipe", "image2")):
            raise OSError(f"{path} holds no moving pictures")
        self.stream: Any = streams[0]
        context = self.stream.codec_context
        if max_pixels and context.width * context.height > max_pixels:
            raise OSError(f"{path}: frames of {context.width} x {context.height} are over the limit of {max_pixels}")
        if max_pixels:
            reader.check_result((context.width, context.height), size, max_pixels)
        self.stream.thread_type = "AUTO"
        self.copied = [stream for stream in container.streams if stream.type in COPIED]
        self.rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self.time_base = self.stream.time_base or 1 / self.rate
        self.rest: list[Any] = []
        self.sides: tuple[int, int] | None = None

    def __iter__(self) -> Iterator[Frame]:
        last = None
        for frame in self._decoded():
            step = frame.duration or round(1 / (self.rate * self.time_base))
            pts = frame.pts if frame.pts is not None else 0 if last is None else last + step
            last = pts if last is None else max(pts, last + 1)  # encoders want them to rise
            packets, self.rest = self.rest, []
            yield Frame(self._pixels(frame), last, frame.duration or 0, packets)

    def _decoded(self) -> Iterator[Any]:
        """The frames as they are; what other streams have in between goes to `rest`."""
        packets, end, start = self.container.demux(self.stream, *self.copied), 0.0, self.container.start_time or 0
        try:
            for packet in packets:
                if packet.dts is not None and packet.pts is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream is self.stream:
                    yield from packet.decode()
                elif packet.dts is not None:
                    self.rest.append(packet)
            wanting = ((self.container.duration or 0) + start) / av.time_base - end
            if wanting > 1 and is_cut_short(self.path) and not self.truncated:
                raise OSError(f"{self.path} is cut short by {wanting:.0f} s; --truncated paints what there is")
            if wanting > 1:
                log.warning(
                    "%s ends %.0f s before its header says; the result is as long as the frames", self.path, wanting
                )
        except av.FFmpegError as error:
            if not self.truncated:
                reason = (
                    f"{self.path} is broken after {end:.1f} s ({error.strerror}); --truncated paints what comes before"
                )
                raise OSError(reason) from error
            log.warning("%s is broken after %.1f s (%s)", self.path, end, error.strerror)

    def _pixels(self, frame: Any) -> Tensor:
        parts, matrix = frame.format.components, MATRICES.get(frame.colorspace)
        yuv = not frame.format.is_rgb and len(parts) > 1
        if matrix is None:  # as players guess
            matrix = Colorspace.ITU601 if yuv and frame.height <= 576 and frame.width < 1280 else Colorspace.ITU709
        if self.sides is None:
            self.sides = photo.scaled((frame.width, frame.height), self.size)
            self.matrix, self.tags = matrix, (frame.color_primaries, frame.color_trc)
        alpha, deep = any(part.is_alpha for part in parts) or frame.format.has_palette, parts[0].bits > 8
        name = f"rgb{'a' * alpha}{'64le' if deep and alpha else '48le' if deep else '' if alpha else '24'}"
        scaled = frame.reformat(*self.sides, name, matrix, interpolation=SWSCALE, threads=1)
        self.turned, values = _upright(frame, scaled.to_ndarray())
        picture = to_float(torch.from_numpy(np.ascontiguousarray(values)).permute(2, 0, 1)[None])
        return picture[:, :3] * picture[:, 3:] + 1 - picture[:, 3:] if alpha else picture


def _upright(frame: Any, values: np.ndarray) -> tuple[bool, np.ndarray]:
    """Whether the frame's display matrix swaps the sides; and the values (H, W, C) as it turns and mirrors them."""
    data = frame.side_data.get("DISPLAYMATRIX")
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)) if data else (1, 0, 0, 0, 1)
    turned = abs(b) > abs(a)
    values, across, down = (values.swapaxes(0, 1), c, b) if turned else (values, a, d)
    return turned, values[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


@contextmanager
def open_clip(path: str | Path, size: int | None, max_pixels: int, truncated: bool) -> Iterator[Clip]:
    """Open a video for reading; it is closed on exit. Raises OSError if it cannot be read."""
    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"{path}: no such file") from None
        raise OSError(f"{path} is not a readable video ({error.strerror})") from error
    with container:
        yield Clip(Path(path), container, size, max_pixels, truncated)
