"""Flicker of stylized videos, along the known motion of generated clips or the optical flow of other videos.

The metrics of a video are as follows; lower is better for all of them.

- S and C are those of `metrics.scores`, for every fourth frame.
- Flicker is the `metrics.warping_error` in thousandths.
- Seconds are per frame, and include the computation of optical flow.
- S ratio and flicker ratio are relative to the same method frame by frame. Less flicker is an improvement only if S is
  not worse.
"""

import inspect
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adain.batch.jobs import without_results
from adain.evaluation import metrics
from adain.evaluation.contact_sheet import Tile, thumbnail, write_sheet
from adain.evaluation.grid import images_of
from adain.evaluation.report import FIGURES, mean_row, write_figures
from adain.evaluation.synthetic_clips import Frame, follow, generate
from adain.imaging import listing, photo, reader
from adain.inference import preparation
from adain.inference.options import AlphaBlend
from adain.methods import Method
from adain.models.backbones import Backbone
from adain.utils.files import check_not_inputs
from adain.video import decoding, detection, runner

SCORED_EVERY = 4
"""S and C are computed for one of so many frames."""

SHEET_FRAMES = 6
"""Number of frames in a row of the contact sheet."""


def flicker(stylized: Sequence[Tensor], frames: Sequence[Frame]) -> float:
    """Return the mean warping error of stylized frames in thousandths; lower is better.

    Args:
        stylized: The stylized frames, (1, 3, H, W) in [0, 1] each.
        frames: The content frames, with their motion.
    """
    errors = []
    for (previous, current), frame in zip(itertools.pairwise(stylized), frames[1:], strict=True):
        if frame.flow is not None and frame.visible is not None:
            errors.append(metrics.warping_error(previous, current, frame.flow, frame.visible))
    return 1000 * float(np.mean(errors))


@dataclass(frozen=True)
class _Run:
    """A method on a video with one amount of temporal smoothing. Without a method, the content is left unchanged."""

    title: str
    """The name of the run in tables and on the contact sheet."""
    method: Method | None = None
    steady: float = 0.0

    def stylize(self, frames: Sequence[Tensor], style: Path, alpha: float, alpha_blend: AlphaBlend) -> list[Tensor]:
        """Return the stylized frames, or the frames themselves without a method."""
        if self.method is None:
            return list(frames)
        options: dict[str, Any] = {"steady": self.steady, "alpha": alpha, "alpha_blend": alpha_blend}
        if self.method.takes_style:
            options |= {"style": style, "style_size": metrics.EVAL_SIZE}
        return list(runner.stylize_frames(frames, method=self.method, **options))


@dataclass(frozen=True)
class _SmoothingPair:
    """The runs of a method that are compared: frame by frame, and with temporal smoothing."""

    frame_by_frame: _Run
    smoothed: _Run


def evaluate_videos(
    methods: Sequence[str],
    content: str | Path,
    style: str | Path,
    output: str | Path,
    alpha: float = 1.0,
    alpha_blend: AlphaBlend = "residual",
    device: str = "auto",
    count: int = 24,
    settings: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Evaluate methods on videos, frame by frame (steady 0) and with the default temporal smoothing.

    Returns a row of means for each, after that of the unchanged content. See the module for the metrics.

    Args:
        methods: Names of methods, or files of weights.
        content: A video, an image, or a folder of both. The first `count` frames of each video are used. From each
            image, a clip is generated, in which the next image passes by.
        style: A style image, or a folder of them.
        output: Folder for figures.csv, figures.json, table.md, and sheet.png, which shows each run in a row.
        alpha: Strength of the style, as in `adain.stylize`.
        alpha_blend: How `alpha` is applied, as in `adain.stylize`.
        device: Device, as in `adain.prepare`.
        count: Number of frames of each clip.
        settings: Arguments by method name, for methods without weights.

    Raises:
        ValueError: There are neither videos nor images, an input would be overwritten, or as
            `adain.video.runner.stylize_frames`.
        OSError: A file cannot be read.
    """
    styles = images_of(style, output)
    clips = _clips(Path(content), Path(output))
    check_not_inputs([Path(output) / name for name in (*FIGURES, "sheet.png")], [*clips, *styles, *methods])
    network = metrics.evaluation_backbone()
    pairs = _smoothing_pairs(methods, device, settings or {})
    runs = [_Run("content")]
    for pair in pairs:
        runs += [pair.frame_by_frame, pair.smoothed]
    rows = []
    sheet: list[list[Tile]] = []
    for number, (name, path) in enumerate(itertools.product(clips, styles)):
        frames = list(itertools.islice(clips[name](count), count))
        meter = _Meter(network, frames, reader.load_image(path, metrics.EVAL_SIZE))
        for run in runs:
            start = time.perf_counter()
            stylized = run.stylize([frame.pixels for frame in frames], path, alpha, alpha_blend)
            seconds = (time.perf_counter() - start) / len(frames) if run.method else None
            labels = {"method": run.title, "content": name, "style": path.name}
            rows.append({**labels, **meter.measure(stylized), "seconds": seconds})
            if number == 0:
                sheet.append(_sheet_row(stylized, run.title))
    table = _table(rows, pairs)
    write_sheet(sheet, Path(output) / "sheet.png")
    write_figures(rows, table, Path(output))
    return table


def default_steadiness() -> float:
    """Return the default temporal smoothing of videos."""
    return inspect.signature(runner.stylize_frames).parameters["steady"].default


def _smoothing_pairs(
    methods: Sequence[str], device: str, settings: Mapping[str, Mapping[str, Any]]
) -> list[_SmoothingPair]:
    """Return the runs of each method, and prepare the methods."""
    default = default_steadiness()
    pairs = []
    for name in dict.fromkeys(methods):
        method = preparation.prepare(name, device, **settings.get(name, {}))
        frame_by_frame = _Run(f"{name}, steady 0", method, 0.0)
        smoothed = _Run(f"{name}, steady {default:g}", method, default)
        pairs.append(_SmoothingPair(frame_by_frame, smoothed))
    return pairs


def _sheet_row(stylized: Sequence[Tensor], title: str) -> list[Tile]:
    row: list[Tile] = []
    for image in stylized[1 : SHEET_FRAMES + 1]:
        row.append((thumbnail(photo.to_image(image)), title))
    return row


def _table(rows: Sequence[dict[str, Any]], pairs: Sequence[_SmoothingPair]) -> list[dict[str, Any]]:
    """Return a row of means for each run, with the ratios of smoothed runs to those frame by frame."""
    rows_by_title: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        rows_by_title.setdefault(row["method"], []).append(row)
    means = {title: mean_row(rows_of_run) for title, rows_of_run in rows_by_title.items()}
    for row in means.values():
        row |= {"S ratio": None, "flicker ratio": None}
    for pair in pairs:
        frame_by_frame = means[pair.frame_by_frame.title]
        smoothed = means[pair.smoothed.title]
        for name in ("S", "flicker"):
            smoothed[f"{name} ratio"] = smoothed[name] / frame_by_frame[name]
    return list(means.values())


def _clips(content: Path, output: Path) -> dict[str, Callable[[int], Iterator[Frame]]]:
    """Return functions that give the frames of each clip at `metrics.EVAL_SIZE`, by name.

    The clips are the videos of a folder, and one generated clip for each of its images, without those in `output`.
    """
    found = listing.files(content, accepts=_is_clip, expected="videos or images")
    paths = without_results(found, content, output)
    videos = detection.videos(paths)
    clips: dict[str, Callable[[int], Iterator[Frame]]] = {}
    for path in sorted(videos):
        clips[str(path)] = partial(_read, path)
    images = [path for path in paths if path not in videos]
    for path, following in zip(images, images[1:] + images[:1], strict=True):
        clips[str(path)] = partial(_generate, path, following)
    return clips


def _is_clip(path: Path) -> bool:
    """Return whether a clip is made of a file: an image or a video."""
    return listing.is_image(path) or bool(detection.videos([path]))


def _read(path: Path, count: int) -> Iterator[Frame]:
    """Yield the first frames of a video with their optical flow."""
    return follow(itertools.islice(decoding.frames(path, metrics.EVAL_SIZE), count))


def _generate(background: Path, foreground: Path, count: int) -> Iterator[Frame]:
    """Yield the frames of a clip generated from two images."""
    return generate(reader.load_image(background), reader.load_image(foreground), count, metrics.EVAL_SIZE)


class _Meter:
    """Computes the metrics of a stylized clip."""

    def __init__(self, network: Backbone, frames: Sequence[Frame], style: Tensor):
        self.network = network
        self.frames = frames
        with torch.inference_mode():
            self.style_features = network(style)
            self.content_features = {}  # by the index of the frame, from the last frame backwards
            for i in range(len(frames) - 1, 0, -SCORED_EVERY):
                self.content_features[i] = network(frames[i].pixels)

    def measure(self, stylized: Sequence[Tensor]) -> dict[str, float]:
        """Return S, C, and flicker of the stylized frames."""
        scores = []
        with torch.inference_mode():
            for i, content_features in self.content_features.items():
                features = self.network(stylized[i])
                scores.append(metrics.scores(features, content_features, self.style_features))
        row = {}
        for name in ("S", "C"):
            row[name] = geometric_mean(max(score[name], 1e-9) for score in scores)  # 0 has no geometric mean
        row["flicker"] = flicker(stylized, self.frames)
        return row
