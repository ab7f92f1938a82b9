"""Generated video clips with known motion."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import torch
from torch import Tensor

from adain.video import temporal

MOTION_FRAMES = 24
"""Number of frames of a full movement. At 256 px, this is at most 9 pixels per frame."""


@dataclass(frozen=True)
class Frame:
    """A frame with its motion from the previous one, as `metrics.warping_error` takes it.

    Attributes:
        pixels: (1, 3, H, W), RGB in [0, 1].
        flow: Backward optical flow, (1, 2, H, W); None without a previous frame of the same scene.
        visible: (1, 1, H, W), bool: which pixels are visible in the previous frame; None if `flow` is.
    """

    pixels: Tensor
    flow: Tensor | None = None
    visible: Tensor | None = None


def generate(
    photo: Tensor, figure: Tensor, count: int = 24, side: int = 256, noise: float = 0.01, seed: int = 0
) -> Iterator[Frame]:
    """Yield frames in which a camera pans, rotates, and zooms over one image while part of another passes by.

    Halfway through the clip there is a scene cut, where the two images change roles. The motion is known exactly.

    Args:
        photo: Background of the first scene, (1, 3, H, W) in [0, 1].
        figure: Foreground of the first scene, (1, 3, H, W) in [0, 1].
        count: Number of frames.
        side: Height of the frames in pixels; the width is 1.5 times as large.
        noise: Standard deviation of the sensor noise. Much flicker appears only with noise.
        seed: Seed of the noise.
    """
    rng = np.random.default_rng(seed)
    half = count // 2
    for background, foreground, length in ((photo, figure, half), (figure, photo, count - half)):
        scene = _Scene(temporal.to_array(background), temporal.to_array(foreground), side, side * 3 // 2)
        previous: _Layout | None = None
        for step in range(length):
            layout = scene.layout((step - (length - 1) / 2) / MOTION_FRAMES)
            clean = scene.render(layout)
            pixels = (clean + rng.normal(0, noise, clean.shape)).clip(0, 1).astype(np.float32)
            frame = Frame(torch.from_numpy(pixels).permute(2, 0, 1)[None])
            if previous:
                flow, visible = _motion(previous, layout)
                frame = replace(frame, flow=flow, visible=visible)
            yield frame
            previous = layout


@dataclass(frozen=True)
class _Layout:
    """How the two images of a scene appear in a frame.

    Attributes:
        transforms: Similarity transforms from pixels (column, row) of the frame to those of the background and of the
            foreground, (2, 3) each.
        cover: (H, W), how much the foreground covers each pixel of the frame, from 0 to 1.
    """

    transforms: tuple[np.ndarray, np.ndarray]
    cover: np.ndarray


@dataclass(frozen=True)
class _Scene:
    """A background image, and a foreground image of which an ellipse passes by, (h, w, 3) each.

    Attributes:
        background: The background image.
        foreground: The foreground image.
        height: Height of the frames in pixels.
        width: Width of the frames in pixels.
    """

    background: np.ndarray
    foreground: np.ndarray
    height: int
    width: int

    def layout(self, moment: float) -> _Layout:
        """Return the layout of a frame; `moment` is 0 in the middle of a movement, which takes 1 in all."""
        to_foreground = self._foreground_transform(moment)
        positions = _transformed(temporal.places_of(self.height, self.width), to_foreground)
        cover = _ellipse_cover(positions, self.foreground.shape)
        return _Layout((self._background_transform(moment), to_foreground), cover)

    def render(self, layout: _Layout) -> np.ndarray:
        """Return the frame without noise, (H, W, 3)."""
        grid = temporal.places_of(self.height, self.width)
        to_background, to_foreground = layout.transforms
        background = temporal.sampled(self.background, _transformed(grid, to_background), cv2.INTER_CUBIC)
        foreground = temporal.sampled(self.foreground, _transformed(grid, to_foreground), cv2.INTER_CUBIC)
        return background + layout.cover[..., None] * (foreground - background)

    def _background_transform(self, moment: float) -> np.ndarray:
        """Return the camera, which pans, rotates, and zooms."""
        size = _size(self.background)
        scale = 0.6 * min(size / (self.width, self.height)) * (1 + 0.25 * moment)
        center = (self.width / 2, self.height / 2)
        target = size * (0.5 + 0.16 * moment, 0.5 + 0.08 * moment)
        return _similarity(scale, 6 * moment, center, target)

    def _foreground_transform(self, moment: float) -> np.ndarray:
        """Return the movement of the foreground, which crosses the frame, bobs, and rotates."""
        size = _size(self.foreground)
        column = self.width * (0.5 - 0.5 * moment)
        row = self.height * 0.55 + 0.05 * self.height * np.sin(6 * moment)
        return _similarity(min(size) / (0.6 * self.height), -20 * moment, (column, row), size / 2)


def _size(image: np.ndarray) -> np.ndarray:
    """Return the width and height of an image."""
    return np.array(image.shape[1::-1], float)


def _similarity(scale: float, degrees: float, origin: Sequence[float], target: np.ndarray) -> np.ndarray:
    """Return the transform that scales and rotates about `origin`, and moves it to `target`."""
    matrix = cv2.getRotationMatrix2D((0, 0), degrees, scale)
    matrix[:, 2] = target - matrix[:, :2] @ np.array(origin)
    return matrix


def _transformed(positions: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """Apply a (2, 3) transform to positions (H, W, 2)."""
    return positions @ transform[:, :2].T + transform[:, 2]


def _ellipse_cover(positions: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return how much an ellipse in the middle of the foreground covers each pixel of a frame, (H, W).

    Args:
        positions: Position of each pixel in the foreground image, (H, W, 2).
        shape: Height and width of the foreground image.
    """
    center = np.array(shape[1::-1]) / 2
    inside = 1 - np.linalg.norm((positions - center) / (0.8 * center), axis=-1)
    edge = 2 * np.abs(positions[0, 1] - positions[0, 0]).max() / min(shape[:2])  # about a pixel of the frame
    return (inside / edge + 0.5).clip(0, 1).astype(np.float32)


def _motion(previous: _Layout, current: _Layout) -> tuple[Tensor, Tensor]:
    """Return the flow and visibility of the current frame."""
    height, width = current.cover.shape
    grid = temporal.places_of(height, width)
    candidates = []  # previous positions in the case of background and of foreground
    for old, new in zip(previous.transforms, current.transforms, strict=True):
        back = cv2.invertAffineTransform(old)
        candidates.append(_transformed(_transformed(grid, new), back).astype(np.float32))
    in_background, in_foreground = candidates
    positions = np.where(current.cover[..., None] > 0.5, in_foreground, in_background)
    previous_cover = temporal.sampled(previous.cover, positions)
    lowest = np.minimum(current.cover, previous_cover)
    highest = np.maximum(current.cover, previous_cover)
    same_layer = (lowest > 0.99) | (highest < 0.01)  # pixels at the edge belong to both layers
    inside = (positions >= 0).all(-1) & (positions <= (width - 1, height - 1)).all(-1)
    flow = torch.from_numpy(positions - grid).permute(2, 0, 1)[None]
    return flow, torch.from_numpy(same_layer & inside)[None, None]


def follow(frames: Iterable[Tensor]) -> Iterator[Frame]:
    """Yield the frames of any video with their optical flow, and which pixels it is reliable for.

    Args:
        frames: (1, 3, H, W) in [0, 1] each.
    """
    for frame, motion in temporal.motions(frames):
        if motion is None:
            yield Frame(frame)
            continue
        flow = torch.from_numpy(motion.places - temporal.places_of(*frame.shape[2:])).permute(2, 0, 1)[None]
        visible = torch.from_numpy(motion.trust > 0.5)[None, None]
        yield Frame(frame, flow, visible)
