"""How much painted videos flicker: against motion that is known, in generated clips, or that optical flow finds."""

import inspect
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from adain import clips, images, inference, metrics, steady, video
from adain.backbones import Backbone
from adain.contact_sheet import Tile, thumbnail, write_sheet
from adain.grid import mean_row, write_figures

JUDGED = 4  # every so many frames S and C are taken
PACE = 24  # frames in which generated motion goes from one end to the other: 9 pixels a frame at most, at 256
SHOWN = 6  # frames in a row of the sheet


@dataclass(frozen=True)
class Frame:
    """A frame (1, 3, H, W), and where its pixels were in the one before, as `metrics.warping_error` takes it."""

    pixels: Tensor
    flow: Tensor | None = None
    """None where there is none before."""
    visible: Tensor | None = None


def generate(
    photo: Tensor, figure: Tensor, count: int = 24, side: int = 256, noise: float = 0.01, seed: int = 0
) -> Iterator[Frame]:
    """Frames of `side` x 1.5 `side` pixels in which a camera pans, turns and zooms over a photo, and a figure passes.

    Half way is a cut: photo and figure change parts. Both are (1, 3, H, W) in [0, 1]; `noise` is the deviation of the
    sensor's, without which much of what flickers would not. The motion is known exactly.
    """
    random, half = np.random.default_rng(seed), count // 2
    for scene, length in (((photo, figure), half), ((figure, photo), count - half)):
        layers, before = [steady.to_array(one) for one in scene], None
        for step in range(length):
            moment = (step - (length - 1) / 2) / PACE
            views = _views(layers, (side, side * 3 // 2), moment)
            places = [steady.places_of(side, side * 3 // 2) @ view[:, :2].T + view[:, 2] for view in views]
            seen = [steady.sampled(*pair, cv2.INTER_CUBIC) for pair in zip(layers, places, strict=True)]
            cover = _cover(places[1], layers[1].shape)
            pixels = seen[0] + cover[..., None] * (seen[1] - seen[0])
            pixels = (pixels + random.normal(0, noise, pixels.shape)).clip(0, 1).astype(np.float32)
            way = _way(before, views, cover) if before else (None, None)
            yield Frame(torch.from_numpy(pixels).permute(2, 0, 1)[None], *way)
            before = views, cover


def _views(layers: Sequence[np.ndarray], sides: tuple[int, int], moment: float) -> list[np.ndarray]:
    """From pixels of the frame to those of the photo and of the figure, (2, 3) each; `moment` is 0 half way."""
    (height, width), (photo, figure) = sides, [np.array(layer.shape[1::-1], float) for layer in layers]
    scale = 0.6 * min(photo / (width, height)) * (1 + 0.25 * moment)
    camera = _similarity(scale, 6 * moment, (width / 2, height / 2), photo * (0.5 + 0.16 * moment, 0.5 + 0.08 * moment))
    at = width * (0.5 - 0.5 * moment), height * 0.55 + 0.05 * height * np.sin(6 * moment)
    return [camera, _similarity(min(figure) / (0.6 * height), -20 * moment, at, figure / 2)]


def _similarity(scale: float, degrees: float, origin: Sequence[float], target: Any) -> np.ndarray:
    """What turns and scales about `origin`, and brings it to `target`."""
    matrix = cv2.getRotationMatrix2D((0, 0), degrees, scale)
    matrix[:, 2] = target - matrix[:, :2] @ np.array(origin)
    return matrix


def _cover(places: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """How far the figure, an ellipse, covers each pixel that lies at these places of it."""
    centre = np.array(shape[1::-1]) / 2
    inside = 1 - np.linalg.norm((places - centre) / (0.8 * centre), axis=-1)
    edge = 2 * np.abs(places[0, 1] - places[0, 0]).max() / min(shape[:2])  # about a pixel of the frame
    return (inside / edge + 0.5).clip(0, 1).astype(np.float32)


def _way(before: Any, views: Sequence[np.ndarray], cover: np.ndarray) -> tuple[Tensor, Tensor]:
    """Flow and visibility, from the views and the cover before."""
    old_views, old_cover = before
    height, width = cover.shape
    here, places = steady.places_of(height, width), []
    for old, new in zip(old_views, views, strict=True):
        back = cv2.invertAffineTransform(old)
        places.append(((here @ new[:, :2].T + new[:, 2]) @ back[:, :2].T + back[:, 2]).astype(np.float32))
    there = np.where(cover[..., None] > 0.5, places[1], places[0])
    was = steady.sampled(old_cover, there)
    least, most = np.minimum(cover, was), np.maximum(cover, was)
    same = (least > 0.99) | (most < 0.01)  # a pixel at the edge is of both
    visible = same & (there >= 0).all(-1) & (there <= (width - 1, height - 1)).all(-1)
    return torch.from_numpy(there - here).permute(2, 0, 1)[None], torch.from_numpy(visible)[None, None]


def follow(frames: Iterable[Tensor]) -> Iterator[Frame]:
    """The frames of any video, with the motion that optical flow finds, where it can be trusted."""
    for frame, motion in steady.motions(frames):
        if motion is None:
            yield Frame(frame)
        else:
            flow = torch.from_numpy(motion.places - steady.places_of(*frame.shape[2:])).permute(2, 0, 1)[None]
            yield Frame(frame, flow, torch.from_numpy(motion.trust > 0.5)[None, None])


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
    alpha_blend: inference.AlphaBlend = "residual",
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
        ValueError: no videos nor pictures, or as `adain.video.stylize_frames`.
        OSError: a file that cannot be read.
    """
    styles, sources = images.files(Path(style)), _sources(Path(content))
    network, default = metrics.judge(), default_steadiness()
    own = settings or {}
    ready = {name: inference.prepare(name, device, **own.get(name, {})) for name in methods}
    figures, sheet = [], list[list[Tile]]()
    for name, path in itertools.product(sources, styles):
        frames = list(itertools.islice(sources[name](count), count))
        judge = _Judge(network, frames, images.load_picture(path, metrics.SIDE))
        runs: list[tuple[str, float, Any]] = [("content", 0.0, None)]
        runs += [(label, amount, method) for label, method in ready.items() for amount in (0.0, default)]
        for label, amount, method in runs:
            start = time.perf_counter()
            pixels = [frame.pixels for frame in frames]
            look = {"style": path, "style_size": metrics.SIDE} if method and method.styled else {}
            strength = {"alpha": alpha, "alpha_blend": alpha_blend}
            options: dict[str, Any] = {"method": method, "steady": amount, **strength, **look}
            painted = list(video.stylize_frames(pixels, **options)) if method else pixels
            seconds = (time.perf_counter() - start) / len(frames) if method else None
            title = f"{label}, steady {amount:g}" if method else label
            figures.append({"method": title, "content": name, "style": path.name, **judge(painted), "seconds": seconds})
            if name == next(iter(sources)) and path == styles[0]:
                sheet.append([(thumbnail(images.to_image(one)), title) for one in painted[1 : SHOWN + 1]])
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
    return inspect.signature(video.stylize_frames).parameters["steady"].default


def _sources(content: Path) -> dict[str, Callable[[int], Iterator[Frame]]]:
    """By name, what gives the frames of each video, at `metrics.SIDE`, and of each clip that is to be generated."""
    if not content.exists():
        raise FileNotFoundError(f"{content}: no such file")
    paths = sorted(path for path in content.rglob("*") if path.is_file()) if content.is_dir() else [content]
    moving = clips.videos(map(str, paths))
    found: dict[str, Callable[[int], Iterator[Frame]]] = {name: partial(_read, name) for name in sorted(moving)}
    still = images.files(content) if len(moving) < len(paths) else []
    still = [path for path in still if str(path) not in moving]
    for path, other in zip(still, still[1:] + still[:1], strict=True):
        found[path.name] = partial(_generated, path, other)
    return found


def _read(path: str, count: int) -> Iterator[Frame]:
    return follow(itertools.islice(video.frames(path, metrics.SIDE), count))


def _generated(path: Path, other: Path, count: int) -> Iterator[Frame]:
    return generate(images.load_picture(path), images.load_picture(other), count, metrics.SIDE)


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
