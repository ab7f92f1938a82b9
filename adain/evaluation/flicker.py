"""How much painted videos flicker: against motion that is known, in generated clips, or that optical flow finds."""

import inspect
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adain.evaluation import metrics
from adain.evaluation.contact_sheet import Tile, thumbnail, write_sheet
from adain.evaluation.report import mean_row, write_figures
from adain.evaluation.synthetic_clips import Frame, follow, generate
from adain.imaging import listing, photo, reader
from adain.inference import preparation
from adain.inference.options import AlphaBlend
from adain.models.backbones import Backbone
from adain.video import decoding, detection, runner

JUDGED = 4  # every so many frames S and C are taken

SHOWN = 6  # frames in a row of the sheet


def flicker(painted: Sequence[Tensor], frames: Sequence[Frame]) -> float:
    """The mean warping error of painted frames, in thousandths."""
    pairs = zip(itertools.pairwise(painted), frames[1:], strict=True)
    found = [
        metrics.warping_error(*pair, frame.flow, frame.visible)
        for pair, frame in pairs
        if frame.flow is not None and frame.visible is not None
    ]
    return 1000 * float(np.mean(found))


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
    """Judge methods on videos, frame by frame (steady 0) and at the default; a row of means for each, as `grid` has.

    S and C are those of `metrics.scores`, of every fourth frame; flicker is `metrics.warping_error` in thousandths,
    along the true motion in generated clips and elsewhere along the one that is found; seconds are of a frame, the
    search for motion included. The content itself comes first. Ratios are to the row of frame by frame: less flicker
    tells something only where S is no worse.

    Args:
        methods: names, or files of weights.
        content: a video, or a folder of them, of which the first `count` frames are taken, and of pictures, of which
            clips are generated: each with the next one's picture passing.
        style: a picture, or a folder.
        output: folder for figures.csv, figures.json, table.md and sheet.png, in which frames are in rows.
        alpha: as `adain.stylize` takes it.
        alpha_blend: as `adain.stylize` takes it.
        device: as `adain.prepare` takes it.
        count: frames of each clip.
        settings: arguments by method name, of methods without weights.

    Raises:
        ValueError: no videos nor pictures, or as `adain.video.runner.stylize_frames`.
        OSError: a file that cannot be read.
    """
    styles, sources = listing.files(Path(style)), _sources(Path(content))
    network, default = metrics.evaluation_backbone(), default_steadiness()
    own = settings or {}
    ready = {name: preparation.prepare(name, device, **own.get(name, {})) for name in methods}
    figures, sheet = [], list[list[Tile]]()
    for name, path in itertools.product(sources, styles):
        frames = list(itertools.islice(sources[name](count), count))
        judge = _Judge(network, frames, reader.load_image(path, metrics.EVAL_SIZE))
        runs: list[tuple[str, float, Any]] = [("content", 0.0, None)]
        runs += [(label, amount, method) for label, method in ready.items() for amount in (0.0, default)]
        for label, amount, method in runs:
            start = time.perf_counter()
            pixels = [frame.pixels for frame in frames]
            look = {"style": path, "style_size": metrics.EVAL_SIZE} if method and method.takes_style else {}
            strength = {"alpha": alpha, "alpha_blend": alpha_blend}
            options: dict[str, Any] = {"method": method, "steady": amount, **strength, **look}
            painted = list(runner.stylize_frames(pixels, **options)) if method else pixels
            seconds = (time.perf_counter() - start) / len(frames) if method else None
            title = f"{label}, steady {amount:g}" if method else label
            figures.append({"method": title, "content": name, "style": path.name, **judge(painted), "seconds": seconds})
            if name == next(iter(sources)) and path == styles[0]:
                sheet.append([(thumbnail(photo.to_image(one)), title) for one in painted[1 : SHOWN + 1]])
    titles = dict.fromkeys(figure["method"] for figure in figures)
    table = [mean_row([figure for figure in figures if figure["method"] == title]) for title in titles]
    for row in table:
        row.update({"S ratio": None, "flicker ratio": None})
    for alone, steadied in zip(table[1::2], table[2::2], strict=True):
        for name in ("S", "flicker"):
            steadied[f"{name} ratio"] = steadied[name] / alone[name]
    write_sheet(sheet, Path(output) / "sheet.png")
    write_figures(figures, table, Path(output))
    return table


def default_steadiness() -> float:
    """What videos are painted with unless it is said."""
    return inspect.signature(runner.stylize_frames).parameters["steady"].default


def _sources(content: Path) -> dict[str, Callable[[int], Iterator[Frame]]]:
    """By name, what gives the frames of each video, at `metrics.SIDE`, and of each clip that is to be generated."""
    if not content.exists():
        raise FileNotFoundError(f"{content}: no such file")
    paths = sorted(path for path in content.rglob("*") if path.is_file()) if content.is_dir() else [content]
    moving = detection.videos(map(str, paths))
    found: dict[str, Callable[[int], Iterator[Frame]]] = {name: partial(_read, name) for name in sorted(moving)}
    still = listing.files(content) if len(moving) < len(paths) else []
    still = [path for path in still if str(path) not in moving]
    for path, other in zip(still, still[1:] + still[:1], strict=True):
        found[path.name] = partial(_generated, path, other)
    return found


def _read(path: str, count: int) -> Iterator[Frame]:
    return follow(itertools.islice(decoding.frames(path, metrics.EVAL_SIZE), count))


def _generated(path: Path, other: Path, count: int) -> Iterator[Frame]:
    return generate(reader.load_image(path), reader.load_image(other), count, metrics.EVAL_SIZE)


class _Judge:
    """Figures of a painted clip."""

    def __init__(self, network: Backbone, frames: Sequence[Frame], style: Tensor):
        self.network, self.frames = network, frames
        with torch.inference_mode():
            self.style = network(style)
            self.content = {i: network(frames[i].pixels) for i in range(len(frames) - 1, 0, -JUDGED)}

    def __call__(self, painted: Sequence[Tensor]) -> dict[str, float]:
        with torch.inference_mode():
            found = [metrics.scores(self.network(painted[i]), self.content[i], self.style) for i in self.content]
        means = {name: geometric_mean(max(one[name], 1e-9) for one in found) for name in ("S", "C")}
        return {**means, "flicker": flicker(painted, self.frames)}
