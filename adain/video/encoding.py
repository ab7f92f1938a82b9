"""Encoding: stylized frames to a video file, with audio and subtitles."""

import logging
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from adain.imaging import photo
from adain.utils.extras import require_extra
from adain.utils.files import atomic_path
from adain.video.decoding import SWSCALE, Frame, VideoReader
from adain.video.formats import WRITTEN

with require_extra("video", "stylizing videos"):
    import av
    from av.video.reformatter import ColorRange

log = logging.getLogger(__name__)

DROPPED_METADATA = ("major_brand", "minor_version", "compatible_brands", "encoder", "creation_time")
"""Metadata that describe the layout of the input file."""


def write_video(path: Path, source: VideoReader, frames: Iterator[Frame]) -> None:
    """Encode stylized frames, with copies of the packets between them.

    Args:
        path: The file to write, which appears only when it is complete.
        source: The video that the frames come from.
        frames: The stylized frames.

    Raises:
        OSError: There are no frames, or the file cannot be written.
    """
    first = next(frames, None)
    if first is None:
        raise OSError(f"{source.path} contains no frames")
    try:
        with atomic_path(path) as temporary, av.open(str(temporary), "w") as output:
            suffix = path.suffix.lower()
            stream = _add_video_stream(output, suffix, source, first)
            output.metadata.update(_layout_independent(source.container.metadata))
            output.set_chapters(source.container.chapters())
            copies = _add_copied_streams(output, suffix, source)
            for frame in chain([first], frames):
                _copy(output, copies, frame.packets)
                encodable = _encodable(frame.pixels, stream.format.name, source.matrix)
                encodable.pts = frame.pts
                encodable.duration = frame.duration
                encodable.time_base = source.time_base
                output.mux(stream.encode(encodable))
            output.mux(stream.encode())
            _copy(output, copies, source.trailing_packets)
    except av.FFmpegError as error:
        advice = ""
        if source.copied_streams and path.suffix != ".mkv":
            advice = f"; if this is due to the audio of {source.path}, write .mkv, which holds most audio formats"
        raise OSError(f"cannot write {path} ({error.strerror}){advice}") from error


def _add_video_stream(output: Any, suffix: str, source: VideoReader, first: Frame) -> Any:
    """Add the stream for the frames, with the properties of the source.

    Args:
        output: The file, as PyAV opened it.
        suffix: Of the file, a key of `WRITTEN`.
        source: The video that the frames come from.
        first: The first stylized frame.
    """
    codec, options = WRITTEN[suffix]
    height, width = first.pixels.shape[2:]
    if codec == "gif":
        pixel_format = "pal8"
    elif codec == "libx264" and (height % 2 or width % 2):
        # H.264 subsamples chroma by whole pixels, so an odd size needs full resolution or would lose a row.
        pixel_format = "yuv444p"
    else:
        pixel_format = "yuv420p"
    stream = output.add_stream(
        codec, source.rate, options, time_base=source.time_base, width=width, height=height, pix_fmt=pixel_format
    )
    aspect = source.stream.sample_aspect_ratio
    if aspect:
        stream.codec_context.sample_aspect_ratio = 1 / aspect if source.sides_swapped else aspect
    stream.metadata.update(_layout_independent(source.stream.metadata))
    if codec != "gif":
        sample = _encodable(first.pixels[..., :2, :2], pixel_format, source.matrix)
        context = stream.codec_context
        context.colorspace = sample.colorspace
        context.color_range = sample.color_range
        context.color_primaries, context.color_trc = source.tags
    return stream


def _add_copied_streams(output: Any, suffix: str, source: VideoReader) -> dict[Any, Any]:
    """Add streams for audio, subtitles, and attachments; return them by the streams of the source.

    A stream that the format cannot hold is left out with a warning.
    """
    copies = {}
    for stream in source.copied_streams:
        try:
            copies[stream] = output.add_stream_from_template(stream)
        except (ValueError, av.FFmpegError):
            log.warning("%s cannot hold the %s of %s, which is left out", suffix, stream.type, source.path)
    return copies


def _layout_independent(metadata: dict[str, str]) -> dict[str, str]:
    """Return the metadata without those of the input file's layout."""
    return {key: text for key, text in metadata.items() if key not in DROPPED_METADATA}


def _copy(output: Any, copies: dict[Any, Any], packets: Iterable[Any]) -> None:
    """Write the packets whose streams are copied."""
    for packet in packets:
        if packet.stream in copies:
            packet.stream = copies[packet.stream]
            output.mux(packet)


def _encodable(image: Tensor, pixel_format: str, matrix: Any) -> Any:
    """Return an image as a frame for the encoder: in limited range, or with its own palette for pal8.

    Args:
        image: (1, 3, H, W), RGB in [0, 1].
        pixel_format: As FFmpeg names it.
        matrix: The YUV matrix, as libswscale names it.
    """
    pil_image = photo.to_image(image)
    if pixel_format == "pal8":
        pil_image = pil_image.quantize()
        colors = np.array(pil_image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        palette = np.full((256, 4), 255, np.uint8)  # alpha first, opaque
        palette[: len(colors), 1:] = colors
        indices_and_palette: Any = (np.asarray(pil_image), palette)
        return av.VideoFrame.from_ndarray(indices_and_palette, "pal8")
    frame = av.VideoFrame.from_ndarray(np.asarray(pil_image), "rgb24")
    return frame.reformat(
        format=pixel_format,
        interpolation=SWSCALE,
        threads=1,
        dst_colorspace=matrix,
        dst_color_range=ColorRange.MPEG,
    )
