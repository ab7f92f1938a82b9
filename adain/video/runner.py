"""Stylizing videos: decoded, stylized, and encoded at the same time, with the frame times and sound of the content."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from tqdm import tqdm

from adain.functional.statistics import compute_statistics
from adain.imaging.options import DEFAULT_READ_OPTIONS, ReadOptions, check_size
from adain.inference import pipeline, preparation, style_encoding
from adain.inference.changes import StyleChanges
from adain.inference.image_types import ImageLike, Style
from adain.inference.masks import read_mask
from adain.inference.options import DEFAULT_STYLE_OPTIONS, StyleOptions, override
from adain.methods import Method
from adain.utils.checks import check_names
from adain.utils.extras import require_extra
from adain.utils.precision import Precision
from adain.video.formats import check_suffix

with require_extra("video", "stylizing videos"):
    from adain.video import temporal
from adain.utils.prefetch import prefetch
from adain.video.decoding import Frame, VideoReader, open_video
from adain.video.encoding import write_video

if TYPE_CHECKING:
    from typing_extensions import Unpack  # that of `typing` needs Python 3.11


def stylize_frames(
    frames: Iterable[Tensor],
    style: Style | Sequence[Style] | None = None,
    method: str | Path | Method = "adain",
    *,
    steady: float = 0.8,
    options: StyleOptions = DEFAULT_STYLE_OPTIONS,
    read_options: ReadOptions = DEFAULT_READ_OPTIONS,
    device: str = "auto",
    precision: Precision = "auto",
    **changes: "Unpack[StyleChanges]",
) -> Iterator[Tensor]:
    """Stylize frames in order, with temporal stability, and yield (1, 3, H, W), RGB in [0, 1].

    Args:
        frames: Each (1, 3, H, W), RGB in [0, 1], on the CPU. They are taken in advance, in another thread, as
            `adain.video.temporal` needs them.
        style: As `adain.stylize` takes it. It is encoded once, for the first frame; with the color `coral` once for
            each scene, for its first frame.
        method: As `adain.stylize` takes it, but not one that optimizes.
        steady: How much of a frame is carried over from the one before, along the motion, where that is reliable; from
            0 to 1. At 0 each frame is stylized alone, exactly as by `adain.stylize`.
        options: How frames are stylized; masks are the same for all frames.
        read_options: Which files of styles and masks are accepted.
        device: As `adain.prepare` takes it.
        precision: As `adain.prepare` takes it.
        changes: Fields of `StyleOptions` by name, which override `options`.

    Raises:
        ValueError: An option is unknown, `steady` is out of range, the method optimizes, or as `adain.stylize`.
        OSError: An image cannot be read.
    """
    if not 0 <= steady <= 1:
        raise ValueError(f"steady must be between 0 (each frame alone) and 1, got {steady:g}")
    options, unknown = override(options, changes)
    check_names(unknown, stylize_frames, StyleOptions)
    ready = preparation.prepare_once(method, device, precision)
    if ready.iterative:
        raise ValueError(f"{type(ready).__name__} takes minutes for a frame; use a feed-forward method, such as adain")
    if options.regions is not None:
        raise ValueError("Expected no regions for a video, as they would change from frame to frame; leave them out")
    if options.mask is not None:
        options = replace(options, mask=_loaded(options.mask, read_options))
    styler = FrameStyler(ready, style, steady, options, read_options)
    return styler.stylize(frames)


def _loaded(masks: Any, read_options: ReadOptions) -> list[ImageLike]:
    """Load the masks, so that files are read once for all frames."""
    loaded = []
    for mask in style_encoding.as_list(masks):
        loaded.append(read_mask(mask, read_options) if isinstance(mask, str | Path) else mask)
    return loaded


class FrameStyler:
    """Stylizes frames in order; arguments as of `stylize_frames`."""

    def __init__(
        self,
        method: Method,
        style: Style | Sequence[Style] | None,
        steady: float,
        options: StyleOptions,
        read_options: ReadOptions,
    ):
        self.method = method
        self.styles = style_encoding.as_list(style)
        self.steady = steady
        self.options = options
        self.read_options = read_options
        self.codes: list[Any] | None = None

    def stylize(self, frames: Iterable[Tensor]) -> Iterator[Tensor]:
        """Stylize each frame, and carry over what is stable from the one before."""
        average = temporal.AverageStatistics(self.steady)
        before = None
        for frame, motion in self._with_motion(frames):
            new_scene = motion is None
            if new_scene:
                average.reset()
            if self.codes is None or (new_scene and self.options.color == "coral"):
                self._encode(frame)
            result = self._stylize_frame(frame, average)
            average.end_frame()
            if motion is not None and before is not None:
                carried = motion.carry(before, result, self.steady)
                result = self._carried_where_stylized(frame, result, carried)
            yield result
            before = result

    def _with_motion(self, frames: Iterable[Tensor]) -> Iterator[tuple[Tensor, Any]]:
        """Yield each frame and its motion from the one before, which is None where a scene begins."""
        if self.steady:
            yield from prefetch(temporal.motions(frames))
        else:
            for frame in frames:
                yield frame, None

    def _encode(self, frame: Tensor) -> None:
        """Encode the styles for a frame: in its size or its colors, if the options ask for that."""
        if not self.method.takes_style:
            self.codes = self.styles
            return
        encode = style_encoding.encoder_for(self.method, frame, self.options, self.read_options)
        self.codes = [encode(style) for style in self.styles]

    def _stylize_frame(self, frame: Tensor, average: Any) -> Tensor:
        # The codes have the size and the colors already.
        color = "style" if self.options.color == "coral" else self.options.color
        options = replace(self.options, style_size=None, color=color)
        statistics_fn = average if self.steady else compute_statistics
        return pipeline.stylize(frame, self.codes or None, self.method, options=options, statistics_fn=statistics_fn)

    def _carried_where_stylized(self, frame: Tensor, result: Tensor, carried: Tensor) -> Tensor:
        """Return the carried result, but the frame itself where no mask covers it, or where alpha 0 keeps it."""
        if self.options.mask is not None:
            unchanged = (result == frame).all(1)[:, None]
            return torch.where(unchanged, result, carried)
        return result if torch.equal(result, frame) else carried


def stylize_video(
    content: str | Path,
    style: Style | Sequence[Style] | None,
    output: str | Path,
    method: str | Path | Method = "adain",
    *,
    size: int | None = None,
    options: StyleOptions = DEFAULT_STYLE_OPTIONS,
    read_options: ReadOptions = DEFAULT_READ_OPTIONS,
    quiet: bool = True,
    **changes: Any,
) -> None:
    """Stylize a video: the result has its size, frame times, sound, and subtitles.

    The format is that of the suffix of `output`, one of `adain.video.formats.WRITTEN`. The file is written completely
    or not at all. Frames have 8 bits per channel, with the content's primaries and matrix. Streams that the format
    cannot hold are left out, with a warning.

    Args:
        content: The video.
        style: As `stylize_frames` takes it.
        output: The file to write.
        method: As `stylize_frames` takes it.
        size: Shorter side of the result in pixels (default: the content's own).
        options: How frames are stylized.
        read_options: Which videos, styles, and masks are accepted.
        quiet: Show no progress bar.
        changes: Fields of the options by name, which override these; all others are arguments of `stylize_frames`.

    Raises:
        ValueError: As `stylize_frames` and `adain.video.formats.check_suffix`.
        OSError: As `adain.video.decoding.frames`, or `output` cannot be written.
    """
    options, changes = override(options, changes)
    read_options, arguments = override(read_options, changes)
    path = check_suffix(output)
    check_size(size)
    with open_video(content, size, read_options) as video:
        pending = deque[Frame]()
        # Both generators are closed before the file is, so that no thread still reads it.
        with closing(prefetch(_read_pixels(video, pending))) as decoded:
            stylized = prefetch(
                stylize_frames(decoded, style, method, options=options, read_options=read_options, **arguments)
            )
            progress = tqdm(stylized, path.name, video.stream.frames or None, unit=" frames", disable=quiet or None)
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
