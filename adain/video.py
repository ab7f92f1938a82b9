"""Videos: decoded, painted and encoded at the same time, each frame at its own time, with the sound that they had."""

import logging
import struct
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from adain import full_size, images, inference, ops
from adain.clips import WRITTEN, check_suffix, is_cut_short
from adain.extras import needing
from adain.methods import Method

with needing("video", "painting videos"):
    import av
    from av.video.reformatter import ColorRange, Colorspace, Interpolation

    from adain import steady as steadiness

log = logging.getLogger(__name__)
T = TypeVar("T")

COPIED = ("audio", "subtitle", "attachment")
"""Kinds of streams that are passed on as they are."""

STALE = ("major_brand", "minor_version", "compatible_brands", "encoder", "creation_time")
"""Metadata of the old file's layout."""

AHEAD = 3  # frames that wait between two stages
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
    path: str | Path, size: int | None = None, max_pixels: int = images.MAX_PIXELS, truncated: bool = False
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
    images.check_size(size)
    with _open(path, size, max_pixels, truncated) as clip:
        for frame in clip:
            yield frame.pixels


def stylize_frames(
    frames: Iterable[Tensor],
    style: inference.Style | Sequence[inference.Style] | None = None,
    method: str | Path | Method = "adain",
    *,
    steady: float = 0.8,
    style_size: inference.StyleSize = None,
    color: inference.Color = "style",
    work_size: full_size.WorkSize = None,
    mask: inference.Picture | Sequence[inference.Picture] | None = None,
    device: str = "auto",
    precision: inference.Precision = "auto",
    reading: images.ReadOptions = images.DEFAULT_READING,
    **options: Any,
) -> Iterator[Tensor]:
    """Paint frames one after the other, (1, 3, H, W), RGB in [0, 1], as `adain.stylize` would, but steadily.

    Args:
        frames: each of them (1, 3, H, W), RGB in [0, 1], on the CPU. What `adain.steady` needs is taken ahead of its
            turn, in another thread.
        style: as `adain.stylize` takes it, encoded once; with `color` coral once a scene, in the colours of its
            first frame.
        method: as `adain.stylize` takes it, but none that optimises.
        steady: how much of a frame is carried over from the one before, along the motion, where that can be trusted;
            at 0 each frame is painted on its own, exactly as `adain.stylize` does.
        style_size: as `adain.stylize` takes it; `content` is the first frame's.
        color: as `adain.stylize` takes it.
        work_size: as `adain.stylize` takes it.
        mask: as `adain.stylize` takes it, the same for all frames.
        device: as `adain.stylize` takes it.
        precision: as `adain.stylize` takes it.
        reading: which files of styles and masks are accepted.
        options: whatever else `adain.stylize` takes, but its size.

    Raises:
        ValueError: a steadiness out of range, a method that optimises, or as `adain.stylize`.
        OSError: a picture that cannot be read.
    """
    if not 0 <= steady <= 1:
        raise ValueError(f"steady lies between 0 (each frame on its own) and 1, not at {steady}")
    ready = method if isinstance(method, Method) else inference.prepare(method, device, precision)
    if ready.iterative:
        raise ValueError(f"{type(ready).__name__} takes minutes for a frame; paint videos with a method of one pass")
    styles = inference.listed(style)
    masks = inference.listed(mask)
    for i, one in enumerate(masks):
        if isinstance(one, str | Path):
            masks[i] = images.read(one, max_pixels=reading.max_pixels, truncated=reading.truncated)
    options |= {"mask": None if mask is None else masks, "color": "style" if color == "coral" else color}
    options["work_size"] = work_size

    def painted() -> Iterator[Tensor]:
        average, codes, before = steadiness.Average(steady), None, None
        still = ((frame, None) for frame in frames)
        for frame, motion in ahead(steadiness.motions(frames)) if steady else still:
            if motion is None:
                average.forget()
            if codes is None or (motion is None and color == "coral"):
                encode = inference.encoder(ready, frame, style_size, color, reading, work_size)
                codes = [encode(one) for one in styles] if ready.styled else styles or None
            result = inference.stylize(frame, codes, ready, measure=average if steady else ops.whole, **options)
            average.rewind()
            if motion is not None and before is not None:
                carried = motion.carry(before, result, steady)
                # What no mask covers, or alpha 0 leaves, is the frame's own, and stays so.
                if mask is not None:
                    result = torch.where((result == frame).all(1)[:, None], result, carried)
                elif not torch.equal(result, frame):
                    result = carried
            yield result
            before = result

    return painted()


def stylize_video(
    content: str | Path,
    style: inference.Style | Sequence[inference.Style] | None,
    output: str | Path,
    method: str | Path | Method = "adain",
    *,
    size: int | None = None,
    max_pixels: int = images.MAX_PIXELS,
    truncated: bool = False,
    quiet: bool = True,
    **options: Any,
) -> None:
    """Paint a video into another, of exactly its size, with its frame times, sound and subtitles.

    It is written in the format of the suffix of `output`, one of `WRITTEN`: wholly, or not at all. Frames are 8 bits a
    channel, in the content's primaries and matrix. What the format cannot hold is left out with a warning.

    Args:
        content: the video.
        style: as `stylize_frames` takes it.
        output: where to.
        method: as `stylize_frames` takes it.
        size: as `frames` takes it.
        max_pixels: as `frames` takes it; of styles and masks too.
        truncated: as `frames` takes it; of styles and masks too.
        quiet: show no progress.
        options: whatever else `stylize_frames` takes.

    Raises:
        ValueError: as `stylize_frames` and `check_suffix` do.
        OSError: as `frames` does, or a path that cannot be written.
    """
    path = check_suffix(output)
    images.check_size(size)
    reading = images.ReadOptions(max_pixels, truncated)
    with _open(content, size, max_pixels, truncated) as clip:
        waiting = deque[Frame]()

        def pixels() -> Iterator[Tensor]:
            for frame in clip:
                waiting.append(frame._replace(pixels=torch.empty(0)))
                yield frame.pixels

        # Both are closed before the file is, so that no thread still reads it.
        with closing(ahead(pixels())) as read:
            painted = ahead(stylize_frames(read, style, method, reading=reading, **options))
            bar = tqdm(painted, path.name, clip.stream.frames or None, unit=" frames", disable=quiet)
            with closing(painted):
                _write(path, clip, (waiting.popleft()._replace(pixels=picture) for picture in bar))


def moves(path: str | Path) -> bool:
    """Whether a file holds moving pictures."""
    try:
        with _open(path, None, 0, False):
            return True
    except OSError:
        return False


def ahead(items: Iterable[T], size: int = AHEAD) -> Generator[T, None, None]:
    """The items, of which a thread of its own makes up to `size` ahead; what it raises is raised here."""
    source, end = iter(items), object()
    pool = ThreadPoolExecutor(1)
    waiting = deque(pool.submit(next, source, end) for _ in range(size))
    try:
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, source, end))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)
        if hasattr(source, "close"):
            source.close()


class _Clip:
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
            images.check_result((context.width, context.height), size, max_pixels)
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
            self.sides = images.scaled((frame.width, frame.height), self.size)
            self.matrix, self.tags = matrix, (frame.color_primaries, frame.color_trc)
        alpha, deep = any(part.is_alpha for part in parts) or frame.format.has_palette, parts[0].bits > 8
        name = f"rgb{'a' * alpha}{'64le' if deep and alpha else '48le' if deep else '' if alpha else '24'}"
        scaled = frame.reformat(*self.sides, name, matrix, interpolation=SWSCALE, threads=1)
        self.turned, values = _upright(frame, scaled.to_ndarray())
        picture = images.numbers(torch.from_numpy(np.ascontiguousarray(values)).permute(2, 0, 1)[None])
        return picture[:, :3] * picture[:, 3:] + 1 - picture[:, 3:] if alpha else picture


def _upright(frame: Any, values: np.ndarray) -> tuple[bool, np.ndarray]:
    """Whether the frame's display matrix swaps the sides; and the values (H, W, C) as it turns and mirrors them."""
    data = frame.side_data.get("DISPLAYMATRIX")
    a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)) if data else (1, 0, 0, 0, 1)
    turned = abs(b) > abs(a)
    values, across, down = (values.swapaxes(0, 1), c, b) if turned else (values, a, d)
    return turned, values[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1]


@contextmanager
def _open(path: str | Path, size: int | None, max_pixels: int, truncated: bool) -> Iterator[_Clip]:
    try:
        container = av.open(str(path))
    except av.FFmpegError as error:
        if isinstance(error, FileNotFoundError):
            raise FileNotFoundError(f"{path}: no such file") from None
        raise OSError(f"{path} is not a readable video ({error.strerror})") from error
    with container:
        yield _Clip(Path(path), container, size, max_pixels, truncated)


def _write(path: Path, clip: _Clip, painted: Iterator[Frame]) -> None:
    """Encode the painted frames, with copies of what came between them."""
    first = next(painted, None)
    if first is None:
        raise OSError(f"{clip.path} holds no frames")
    try:
        with images.replacing(path) as temporary, av.open(str(temporary), "w") as output:
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


def _prepare(output: Any, suffix: str, clip: _Clip, first: Frame) -> tuple[Any, dict[Any, Any]]:
    """The stream to encode to, and a copy for each stream that goes along."""
    (codec, options), (height, width) = WRITTEN[suffix], first.pixels.shape[2:]
    # H.264 halves colours in whole pixels only: odd sides keep theirs, rather than the picture losing a row.
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
    image = images.to_image(picture)
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
