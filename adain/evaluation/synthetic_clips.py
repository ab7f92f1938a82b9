"""Generated video clips, whose motion is known."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from adain.video import temporal

PACE = 24  # frames in which generated motion goes from one end to the other: 9 pixels a frame at most, at 256


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
        layers, before = [temporal.to_array(one) for one in scene], None
        for step in range(length):
            moment = (step - (length - 1) / 2) / PACE
            views = _views(layers, (side, side * 3 // 2), moment)
            places = [temporal.places_of(side, side * 3 // 2) @ view[:, :2].T + view[:, 2] for view in views]
            seen = [temporal.sampled(*pair, cv2.INTER_CUBIC) for pair in zip(layers, places, strict=True)]
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
    center = np.array(shape[1::-1]) / 2
    inside = 1 - np.linalg.norm((places - center) / (0.8 * center), axis=-1)
    edge = 2 * np.abs(places[0, 1] - places[0, 0]).max() / min(shape[:2])  # about a pixel of the frame
    return (inside / edge + 0.5).clip(0, 1).astype(np.float32)


def _way(before: Any, views: Sequence[np.ndarray], cover: np.ndarray) -> tuple[Tensor, Tensor]:
    """Flow and visibility, from the views and the cover before."""
    old_views, old_cover = before
    height, width = cover.shape
    here, places = temporal.places_of(height, width), []
    for old, new in zip(old_views, views, strict=True):
        back = cv2.invertAffineTransform(old)
        places.append(((here @ new[:, :2].T + new[:, 2]) @ back[:, :2].T + back[:, 2]).astype(np.float32))
    there = np.where(cover[..., None] > 0.5, places[1], places[0])
    was = temporal.sampled(old_cover, there)
    least, most = np.minimum(cover, was), np.maximum(cover, was)
    same = (least > 0.99) | (most < 0.01)  # a pixel at the edge is of both
    visible = same & (there >= 0).all(-1) & (there <= (width - 1, height - 1)).all(-1)
    return torch.from_numpy(there - here).permute(2, 0, 1)[None], torch.from_numpy(visible)[None, None]


def follow(frames: Iterable[Tensor]) -> Iterator[Frame]:
    """The frames of any video, with the motion that optical flow finds, where it can be trusted."""
    for frame, motion in temporal.motions(frames):
        if motion is None:
            yield Frame(frame)
        else:
            flow = torch.from_numpy(motion.places - temporal.places_of(*frame.shape[2:])).permute(2, 0, 1)[None]
            yield Frame(frame, flow, torch.from_numpy(motion.trust > 0.5)[None, None])
