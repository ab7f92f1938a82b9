"""Encoding: stylized frames to a video file, with sound and subtitles."""

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
from adain.video.formats import WRITTEN

with require_extra("video", "painting videos"):
    import av
    from av.video.reformatter import ColorRange

    pass
from adain.video.decoding import SWSCALE, Clip, Frame

log = logging.getLogger(__name__)


STALE = ("major_brand", "minor_version", "compatible_brands", "encoder", "creation_time")
"""Metadata of the old file's layout."""


def write_clip(path: Path, clip: Clip, painted: Iterator[Frame]) -> None:
    """Encode the painted frames, with copies of what came between them."""
    first = next(painted, None)
    if first is None:
        raise OSError(f"{clip.path} holds no frames")
    try:
        with atomic_path(path) as temporary, av.open(str(temporary), "w") as output:
            stream, copies = _prepare(output, path.suffix.lower(), clip, first)
            for frame in chain([first], painted):
                _copy(output, copies, frame.packets)
                picture = _encodable(frame.pixels, stream.format.name, clip.matrix)
                picture.pts, picture.duration, picture.time_base = frame.pts, frame.duration, clip.time_base
                output.mux(stream.encode(picture))
            output.mux(stream.encode())
            _copy(output, copies, clip.rest)
    except av.FFmpegError as error:
        mend = f"; of {clip.path}'s sound, .mkv holds most kinds" if clip.copied and path.suffix != ".mkv" else ""
        raise OSError(f"cannot write {path} ({error.strerror}){mend}") from error


def _prepare(output: Any, suffix: str, clip: Clip, first: Frame) -> tuple[Any, dict[Any, Any]]:
    """The stream to encode to, and a copy for each stream that goes along."""
    (codec, options), (height, width) = WRITTEN[suffix], first.pixels.shape[2:]
    # H.264 halves colors in whole pixels only: odd sides keep theirs, rather than the picture losing a row.
    odd = codec == "libx264" and (height % 2 or width % 2)
    pixels = "pal8" if codec == "gif" else "yuv444p" if odd else "yuv420p"
    shape = {"width": width, "height": height, "pix_fmt": pixels}
    stream = output.add_stream(codec, clip.rate, options, time_base=clip.time_base, **shape)
    aspect = clip.stream.sample_aspect_ratio
    if aspect:
        stream.codec_context.sample_aspect_ratio = 1 / aspect if clip.turned else aspect
    stream.metadata.update({key: text for key, text in clip.stream.metadata.items() if key not in STALE})
    if codec != "gif":
        sample = _encodable(first.pixels[..., :2, :2], pixels, clip.matrix)
        context = stream.codec_context
        context.colorspace, context.color_range = sample.colorspace, sample.color_range
        context.color_primaries, context.color_trc = clip.tags
    output.metadata.update({key: text for key, text in clip.container.metadata.items() if key not in STALE})
    output.set_chapters(clip.container.chapters())
    copies = {}
    for source in clip.copied:
        try:
            copies[source] = output.add_stream_from_template(source)
        except (ValueError, av.FFmpegError):
            log.warning("%s cannot hold the %s of %s, which is left out", suffix, source.type, clip.path)
    return stream, copies


def _copy(output: Any, copies: dict[Any, Any], packets: Iterable[Any]) -> None:
    for packet in packets:
        if packet.stream in copies:
            packet.stream = copies[packet.stream]
            output.mux(packet)


def _encodable(picture: Tensor, format: str, matrix: Any) -> Any:
    """The picture as an encoder takes it: of limited range, or with a palette of its own."""
    image = photo.to_image(picture)
    if format == "pal8":
        image = image.quantize()
        colors = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        palette = np.full((256, 4), 255, np.uint8)  # opaque
        palette[: len(colors), 1:] = colors
        pair: Any = np.asarray(image), palette
        return av.VideoFrame.from_ndarray(pair, "pal8")
    frame = av.VideoFrame.from_ndarray(np.asarray(image), "rgb24")
    target = {"dst_colorspace": matrix, "dst_color_range": ColorRange.MPEG}
    return frame.reformat(format=format, interpolation=SWSCALE, threads=1, **target)
