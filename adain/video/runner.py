"""Videos: decoded, painted and encoded at the same time, each frame at its own time, with the sound that they had."""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from adain.functional.statistics import compute_statistics
from adain.imaging import photo, reader
from adain.imaging.reader import MAX_PIXELS
from adain.inference import full_size, pipeline, preparation, style_encoding
from adain.inference.options import Color, Picture, Style, StyleSize
from adain.inference.pipeline import Precision
from adain.methods import Method
from adain.utils.extras import require_extra
from adain.video.formats import check_suffix

with require_extra("video", "painting videos"):
    from adain.video import temporal
from adain.utils.prefetch import prefetch
from adain.video.decoding import Frame, open_clip
from adain.video.encoding import write_clip


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
    """Paint frames one after the other, (1, 3, H, W), RGB in [0, 1], as `adain.stylize` would, but steadily.

    Args:
        frames: each of them (1, 3, H, W), RGB in [0, 1], on the CPU. Frames are taken in advance, in another thread, as
            `adain.video.temporal` needs them.
        style: as `adain.stylize` takes it, encoded once; with `color` coral once a scene, in the colors of its
            first frame.
        method: as `adain.stylize` takes it, but none that optimizes.
        steady: how much of a frame is carried over from the one before, along the motion, where that can be trusted;
            at 0 each frame is painted on its own, exactly as `adain.stylize` does.
        style_size: as `adain.stylize` takes it; `content` is the first frame's.
        color: as `adain.stylize` takes it.
        work_size: as `adain.stylize` takes it.
        mask: as `adain.stylize` takes it, the same for all frames.
        device: as `adain.stylize` takes it.
        precision: as `adain.stylize` takes it.
        read_options: which files of styles and masks are accepted.
        options: whatever else `adain.stylize` takes, but its size.

    Raises:
        ValueError: a steadiness out of range, a method that optimizes, or as `adain.stylize`.
        OSError: a picture that cannot be read.
    """
    if not 0 <= steady <= 1:
        raise ValueError(f"steady lies between 0 (each frame on its own) and 1, not at {steady}")
    ready = method if isinstance(method, Method) else preparation.prepare(method, device, precision)
    if ready.iterative:
        raise ValueError(f"{type(ready).__name__} takes minutes for a frame; paint videos with a method of one pass")
    styles = style_encoding.listed(style)
    masks = style_encoding.listed(mask)
    for i, one in enumerate(masks):
        if isinstance(one, str | Path):
            masks[i] = reader.read(one, max_pixels=read_options.max_pixels, truncated=read_options.truncated)
    options |= {"mask": None if mask is None else masks, "color": "style" if color == "coral" else color}
    options["work_size"] = work_size

    def painted() -> Iterator[Tensor]:
        average, codes, before = temporal.Average(steady), None, None
        still = ((frame, None) for frame in frames)
        for frame, motion in prefetch(temporal.motions(frames)) if steady else still:
            if motion is None:
                average.forget()
            if codes is None or (motion is None and color == "coral"):
                encode = style_encoding.encoder(ready, frame, style_size, color, read_options, work_size)
                codes = [encode(one) for one in styles] if ready.takes_style else styles or None
            result = pipeline.stylize(
                frame, codes, ready, statistics_fn=average if steady else compute_statistics, **options
            )
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
    photo.check_size(size)
    read_options = reader.ReadOptions(max_pixels, truncated)
    with open_clip(content, size, max_pixels, truncated) as clip:
        waiting = deque[Frame]()

        def pixels() -> Iterator[Tensor]:
            for frame in clip:
                waiting.append(frame._replace(pixels=torch.empty(0)))
                yield frame.pixels

        # Both are closed before the file is, so that no thread still reads it.
        with closing(prefetch(pixels())) as read:
            painted = prefetch(stylize_frames(read, style, method, read_options=read_options, **options))
            bar = tqdm(painted, path.name, clip.stream.frames or None, unit=" frames", disable=quiet)
            with closing(painted):
                write_clip(path, clip, (waiting.popleft()._replace(pixels=picture) for picture in bar))
