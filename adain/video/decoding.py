"""Decoding: the frames of a video, upright and in sRGB, with their timestamps."""

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
from adain.imaging.options import MAX_PIXELS, ReadOptions, check_size
from adain.imaging.photo import to_float
from adain.utils.extras import require_extra
from adain.utils.files import check_regular
from adain.video.formats import is_truncated

with require_extra("video", "stylizing videos"):
    import av
    from av.video.reformatter import Colorspace, Interpolation

log = logging.getLogger(__name__)

COPIED_STREAMS = ("audio", "subtitle", "attachment")
"""Types of the streams that are copied without decoding."""

ONLY_FILES = {"protocol_whitelist": "file"}
"""Options of FFmpeg: a playlist, which names other files, must not make it connect to a network."""

# PyAV has names for these constants of FFmpeg since version 18, which needs Python 3.11.
SWS_FULL_CHR_H_INT = 0x2000
SWS_ACCURATE_RND = 0x40000
SWS_CS_BT2020 = 9

SWSCALE = Interpolation.LANCZOS | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT

MATRICES: dict[int, int] = {
    1: Colorspace.ITU709,
    4: Colorspace.FCC,
    5: Colorspace.ITU601,
    6: Colorspace.ITU601,
    7: Colorspace.SMPTE240M,
    9: SWS_CS_BT2020,
}
"""The names in libswscale of the YUV matrices, by their numbers in frames (ISO/IEC 23091-2)."""


class Frame(NamedTuple):
    """An upright frame, and what is needed to write it at its place."""

    pixels: Tensor
    """(1, 3, H, W), RGB in [0, 1]; transparent pixels are blended with white."""
    pts: int
    """Presentation timestamp in the time base of the stream."""
    duration: int
    """Duration in the time base of the stream; 0 if unknown."""
    packets: list[Any]
    """Packets of the copied streams that come before the frame."""


def frames(
    path: str | Path, size: int | None = None, max_pixels: int = MAX_PIXELS, truncated: bool = False
) -> Iterator[Tensor]:
    """Yield the frames of a video one by one: (1, 3, H, W), RGB in [0, 1], float32, upright.

    Args:
        path: A video in any format that FFmpeg decodes.
        size: Shorter side of the frames in pixels; by default that of the video.
        max_pixels: The largest number of pixels of a frame.
        truncated: Stop where the file is corrupt or ends too early, instead of raising OSError.

    Raises:
        ValueError: The size is below 1.
        OSError: The file does not exist, is not a video, or its frames are too large; during iteration, the file is
            corrupt or ends too early.
    """
    check_size(size)
    with open_video(path, size, ReadOptions(max_pixels, truncated)) as video:
        for frame in video:
            yield frame.pixels


def is_video(path: str | Path) -> bool:
    """Return whether a file can be read as a video; a still image is not one."""
    try:
        with open_video(path, None, ReadOptions(max_pixels=0)):
            return True
    except OSError:
        return False


class VideoReader:
    """An open video: an iterator over its frames.

    Attributes:
        trailing_packets: Packets of the copied streams since the last frame.
        sides: (width, height) of the frames in pixels, before they are turned upright; None before the first frame.
        matrix: The YUV matrix of the first frame, as libswscale names it.
        tags: Color primaries and transfer characteristic of the first frame.
        sides_swapped: Whether the latest frame was turned by a quarter.

    Args:
        path: The file, for messages.
        container: The file, as PyAV opened it.
        size: Shorter side of the frames in pixels; None for that of the video.
        options: Which videos are accepted; `max_pixels` is that of a frame, 0 for any, and with `truncated` the video
            ends where the file is corrupt or ends too early.

    Raises:
        OSError: The file is not a video, or its frames are too large.
    """

    def __init__(self, path: Path, container: Any, size: int | None, options: ReadOptions):
        self.path = path
        self.container = container
        self.size = size
        self.truncated = options.truncated
        self.max_pixels = options.max_pixels
        self.stream: Any = self._video_stream()
        context = self.stream.codec_context
        if context.width and context.height:  # some headers do not say
            self._check_frame_size(context.width, context.height)
        self.stream.thread_type = "AUTO"
        self.copied_streams = [stream for stream in container.streams if stream.type in COPIED_STREAMS]
        self.rate = self.stream.average_rate or self.stream.guessed_rate or Fraction(25)
        self.time_base = self.stream.time_base or 1 / self.rate
        self.trailing_packets: list[Any] = []
        self.sides: tuple[int, int] | None = None

    def _video_stream(self) -> Any:
        """Return the first video stream that is not a cover image."""
        streams = []
        for stream in self.container.streams.video:
            if not stream.disposition & stream.disposition.attached_pic:
                streams.append(stream)
        is_still_image = self.container.format.name.endswith(("_pipe", "image2"))
        if not streams or is_still_image:
            raise OSError(f"{self.path} is not a video: it contains no moving images")
        if streams[0].codec_context is None:
            raise OSError(f"{self.path}: no decoder for its video; convert it, or repair its header")
        return streams[0]

    def _check_frame_size(self, width: int, height: int) -> None:
        """Raise OSError if a frame has more than `max_pixels` pixels, before or after it is resized."""
        if not self.max_pixels:
            return
        if width * height > self.max_pixels:
            raise OSError(f"{self.path}: frames of {width} x {height} exceed the limit of {self.max_pixels} pixels")
        reader.check_result((width, height), self.size, self.max_pixels)

    def __iter__(self) -> Iterator[Frame]:
        last_pts = None
        for frame in self._decode():
            self._check_frame_size(frame.width, frame.height)  # it may differ from that in the header
            if frame.pts is not None:
                pts = frame.pts
            elif last_pts is None:
                pts = 0
            else:
                pts = last_pts + (frame.duration or round(1 / (self.rate * self.time_base)))
            if last_pts is not None:
                pts = max(pts, last_pts + 1)  # encoders require increasing timestamps
            last_pts = pts
            packets = self.trailing_packets
            self.trailing_packets = []
            yield Frame(self._pixels(frame), pts, frame.duration or 0, packets)

    def _decode(self) -> Iterator[Any]:
        """Yield the frames as PyAV decodes them; append packets of the copied streams to `trailing_packets`."""
        end = 0.0  # in seconds, of the packets so far
        try:
            for packet in self.container.demux(self.stream, *self.copied_streams):
                if packet.dts is not None and packet.pts is not None:
                    end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
                if packet.stream is self.stream:
                    yield from packet.decode()
                elif packet.dts is not None:
                    self.trailing_packets.append(packet)
            self._check_complete(end)
        except av.FFmpegError as error:
            if not self.truncated:
                raise OSError(
                    f"{self.path} is corrupt after {end:.1f} s ({error.strerror}); "
                    "--truncated stylizes the frames before that"
                ) from error
            log.warning("%s is corrupt after %.1f s (%s)", self.path, end, error.strerror)

    def _check_complete(self, end: float) -> None:
        """Compare the end of the packets, in seconds, with the duration in the header.

        Raises:
            OSError: The file is truncated, and that is not allowed.
        """
        start = self.container.start_time or 0
        missing = ((self.container.duration or 0) + start) / av.time_base - end
        if missing <= 1:
            return
        if is_truncated(self.path) and not self.truncated:
            raise OSError(
                f"{self.path} is truncated: {missing:.0f} s are missing; --truncated stylizes the frames that exist"
            )
        log.warning(
            "%s ends %.0f s earlier than its header says; the result is as long as the frames", self.path, missing
        )

    def _pixels(self, frame: Any) -> Tensor:
        """Return a frame as (1, 3, H, W), RGB in [0, 1], resized and upright."""
        components = frame.format.components
        matrix = _color_matrix(frame)
        if self.sides is None:
            self.sides = photo.scaled((frame.width, frame.height), self.size)
            self.matrix = matrix
            self.tags = (frame.color_primaries, frame.color_trc)
        has_alpha = any(component.is_alpha for component in components) or frame.format.has_palette
        is_deep = components[0].bits > 8
        if is_deep and has_alpha:
            rgb_format = "rgba64le"
        elif is_deep:
            rgb_format = "rgb48le"
        elif has_alpha:
            rgb_format = "rgba"
        else:
            rgb_format = "rgb24"
        scaled = frame.reformat(*self.sides, rgb_format, matrix, interpolation=SWSCALE, threads=1)
        self.sides_swapped, values = _upright(frame, scaled.to_ndarray())
        image = to_float(torch.from_numpy(np.ascontiguousarray(values)).permute(2, 0, 1)[None])
        if not has_alpha:
            return image
        alpha = image[:, 3:]
        return image[:, :3] * alpha + 1 - alpha


def _color_matrix(frame: Any) -> int:
    """Return the YUV matrix of a frame; for an untagged frame the one that players assume for its size."""
    tagged = MATRICES.get(frame.colorspace)
    if tagged is not None:
        return tagged
    is_yuv = not frame.format.is_rgb and len(frame.format.components) > 1
    is_standard_definition = frame.height <= 576 and frame.width < 1280
    return Colorspace.ITU601 if is_yuv and is_standard_definition else Colorspace.ITU709


def _upright(frame: Any, values: np.ndarray) -> tuple[bool, np.ndarray]:
    """Turn and mirror a frame as its display matrix says.

    Args:
        frame: The frame as PyAV decoded it.
        values: Its values, (H, W, C).

    Returns:
        Whether height and width are swapped, and the upright values.
    """
    data = frame.side_data.get("DISPLAYMATRIX")
    if data:
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data))
    else:
        a, b, c, d = 1, 0, 0, 1
    swapped = abs(b) > abs(a)
    if swapped:
        values = values.swapaxes(0, 1)
        horizontal, vertical = c, b
    else:
        horizontal, vertical = a, d
    row_step = -1 if vertical < 0 else 1
    column_step = -1 if horizontal < 0 else 1
    return swapped, values[::row_step, ::column_step]


@contextmanager
def open_video(path: str | Path, size: int | None, options: ReadOptions) -> Iterator[VideoReader]:
    """Open a video for reading, and close it on exit; the arguments are those of `VideoReader`.

    Raises:
        OSError: The file does not exist or is not a video, or its frames are too large.
    """
    try:
        check_regular(path)
        # FFmpeg takes what precedes a colon for a protocol, as in 12:30.mp4, unless a slash comes first.
        absolute = str(Path(path).absolute())
        container = av.open(absolute, options=ONLY_FILES, metadata_errors="replace")
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except (av.FFmpegError, OSError) as error:
        raise OSError(f"{path} is not a readable video ({error.strerror or error})") from error
    with container:
        yield VideoReader(Path(path), container, size, options)
