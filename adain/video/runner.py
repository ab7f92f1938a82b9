"""Stylizing videos: decoding, stylizing, and encoding run in parallel; timestamps and audio are preserved."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.imaging import photo, reader
from adain.imaging.reader import MAX_PIXELS
from adain.inference import full_size, pipeline, preparation, style_encoding
from adain.inference.options import Color, Picture, Style, StyleSize
from adain.inference.pipeline import Precision
from adain.methods import Method
from adain.utils.extras import require_extra
from adain.utils.prefetch import prefetch
from adain.video.decoding import Frame, VideoReader, open_video
from adain.video.encoding import write_video
from adain.video.formats import check_suffix

with require_extra("video", "stylizing videos"):
    from adain.video import temporal


def stylize_frames(
    frames: Iterable[Tensor],
    style: Style | Sequence[Style] | None = None,
    method: str | Path | Method = "adain",
    *,
    steady: float = 0.8,
    style_size: StyleSize = None,
    color: Color = "style",
    work_size: full_size.WorkSize = None,
    mask: Picture | Sequence[Picture] | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    read_options: reader.ReadOptions = reader.DEFAULT_READING,
    **options: Any,
) -> Iterator[Tensor]:
    """Yield stylized frames, (1, 3, H, W), RGB in [0, 1], as `adain.stylize` returns them but with less flicker.

    Args:
        frames: frames (1, 3, H, W), RGB in [0, 1], on the CPU. With `steady` above 0, another thread reads a few frames
            ahead and searches for motion.
        style: as `adain.stylize` takes it. It is encoded once; with `color` coral once per scene, in the colors of
            the scene's first frame.
        method: as `adain.stylize` takes it, except for a method that optimizes.
        steady: temporal smoothing, from 0 to 1: the share of each frame that is taken from the previous result along
            the motion, where the motion can be trusted. At 0 each frame is stylized independently, exactly as
            `adain.stylize` does.
        style_size: as `adain.stylize` takes it; `content` is the size of the first frame.
        color: as `adain.stylize` takes it.
        work_size: as `adain.stylize` takes it.
        mask: as `adain.stylize` takes it, the same for all frames.
        device: as `adain.stylize` takes it.
        precision: as `adain.stylize` takes it.
        read_options: which files of styles and masks are accepted.
        options: other options of `adain.stylize`, except for `size`.

    Raises:
        ValueError: `steady` is out of range, the method optimizes, or as `adain.stylize` raises it.
        OSError: an image cannot be read.
    """
    if not 0 <= steady <= 1:
        raise ValueError(f"steady must be between 0 (independent frames) and 1, got {steady}")
    ready = method if isinstance(method, Method) else preparation.prepare(method, device, precision)
    if ready.iterative:
        raise ValueError(f"{type(ready).__name__} takes minutes per frame; choose a feed-forward method for videos")
    if mask is not None:
        options["mask"] = [_read_mask(one, read_options) for one in style_encoding.listed(mask)]
    options["work_size"] = work_size
    encoding = _StyleEncoding(style_encoding.listed(style), style_size, color, read_options, work_size)
    return _stylize_frames(frames, _FrameStylizer(ready, encoding, steady, options))


def _read_mask(mask: Picture, read_options: reader.ReadOptions) -> Picture:
    """Return a mask, read from its file if it is one, so that this is done once for all frames."""
    if isinstance(mask, str | Path):
        return reader.read(mask, max_pixels=read_options.max_pixels, truncated=read_options.truncated)
    return mask


def _stylize_frames(frames: Iterable[Tensor], stylizer: "_FrameStylizer") -> Iterator[Tensor]:
    """Yield the stylized frames; search for motion in another thread if there is temporal smoothing."""
    if not stylizer.steady:
        for frame in frames:
            yield stylizer.stylize(frame, None)
        return
    for frame, motion in prefetch(temporal.motions(frames)):
        yield stylizer.stylize(frame, motion)


@dataclass(frozen=True)
class _StyleEncoding:
    """The styles of a video and how they are encoded; the fields are arguments of `stylize_frames`."""

    styles: list[Style]
    style_size: StyleSize
    color: Color
    read_options: reader.ReadOptions
    work_size: full_size.WorkSize

    def codes(self, method: Method, frame: Tensor) -> list[Any] | None:
        """Return the style codes for a frame; None if there are no styles.

        A method with a trained style gets the styles themselves, which `adain.stylize` then refuses.
        """
        if not method.takes_style:
            return list(self.styles) or None
        encode = style_encoding.encoder(method, frame, self.style_size, self.color, self.read_options, self.work_size)
        return [encode(style) for style in self.styles]


class _FrameStylizer:
    """Stylizes the frames of a video one after the other.

    Args:
        method: a feed-forward method, ready to stylize.
        encoding: the styles.
        steady: as `stylize_frames` takes it.
        options: other options of `adain.stylize`.
    """

    def __init__(self, method: Method, encoding: _StyleEncoding, steady: float, options: dict[str, Any]):
        self.method = method
        self.encoding = encoding
        self.steady = steady
        # The codes of coral styles are recolored already.
        color = "style" if encoding.color == "coral" else encoding.color
        self.options = {**options, "color": color}
        self.average = temporal.AverageStatistics(steady)
        self.codes: list[Any] | None = None
        self.previous: Tensor | None = None

    def stylize(self, frame: Tensor, motion: temporal.Motion | None) -> Tensor:
        """Return the stylized frame.

        Args:
            frame: (1, 3, H, W), RGB in [0, 1].
            motion: the motion from the previous frame; None if a scene begins or frames are independent.
        """
        if motion is None:
            self.average.reset()
        if self.codes is None or (motion is None and self.encoding.color == "coral"):
            self.codes = self.encoding.codes(self.method, frame)
        statistics_fn: StatisticsFn = self.average if self.steady else compute_statistics
        result = pipeline.stylize(frame, self.codes, self.method, statistics_fn=statistics_fn, **self.options)
        self.average.end_frame()
        if motion is not None and self.previous is not None:
            result = self._smooth(frame, result, motion, self.previous)
        self.previous = result
        return result

    def _smooth(self, frame: Tensor, result: Tensor, motion: temporal.Motion, previous: Tensor) -> Tensor:
        """Blend a result with the previous one; pixels that are not stylized keep the values of the frame.

        These are all pixels at alpha 0, and otherwise those that no mask covers.
        """
        carried = motion.carry(previous, result, self.steady)
        if self.options.get("mask") is not None:
            return torch.where((result == frame).all(1)[:, None], result, carried)
        return result if torch.equal(result, frame) else carried


def stylize_video(
    content: str | Path,
    style: Style | Sequence[Style] | None,
    output: str | Path,
    method: str | Path | Method = "adain",
    *,
    size: int | None = None,
    max_pixels: int = MAX_PIXELS,
    truncated: bool = False,
    quiet: bool = True,
    **options: Any,
) -> None:
    """Stylize a video file, and write a video of the same size with the same timestamps, audio, and subtitles.

    The suffix of `output`, one of `WRITTEN`, sets the format. The output file appears only when it is complete. Frames
    have 8 bits per channel, in the primaries and matrix of the content. Streams that the format cannot hold are left
    out with a warning.

    Args:
        content: the video file.
        style: as `stylize_frames` takes it.
        output: the file to write.
        method: as `stylize_frames` takes it.
        size: as `adain.video.decoding.frames` takes it.
        max_pixels: as `adain.video.decoding.frames` takes it; it also applies to styles and masks.
        truncated: as `adain.video.decoding.frames` takes it; it also applies to styles and masks.
        quiet: show no progress bar.
        options: other options of `stylize_frames`.

    Raises:
        ValueError: as `stylize_frames` and `check_suffix` raise it.
        OSError: as `adain.video.decoding.frames` raises it, or the output cannot be written.
    """
    path = check_suffix(output)
    photo.check_size(size)
    read_options = reader.ReadOptions(max_pixels, truncated)
    with open_video(content, size, max_pixels, truncated) as video:
        pending = deque[Frame]()
        # Both generators are closed before the file is, so that no thread still reads it.
        with closing(prefetch(_read_pixels(video, pending))) as pixels:
            stylized = prefetch(stylize_frames(pixels, style, method, read_options=read_options, **options))
            progress = tqdm(stylized, path.name, video.stream.frames or None, unit=" frames", disable=quiet)
            with closing(stylized):
                write_video(path, video, _with_timestamps(progress, pending))


def _read_pixels(video: VideoReader, pending: deque[Frame]) -> Iterator[Tensor]:
    """Yield the pixels of each frame; append the rest of the frame, without pixels, to `pending`."""
    for frame in video:
        pending.append(frame._replace(pixels=torch.empty(0)))
        yield frame.pixels


def _with_timestamps(stylized: Iterable[Tensor], pending: deque[Frame]) -> Iterator[Frame]:
    """Yield frames with stylized pixels, and all else from `pending`."""
    for image in stylized:
        yield pending.popleft()._replace(pixels=image)
