"""Temporal smoothing of stylized videos: averaged statistics, and previous results warped along the motion."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

SCENE_CUT_TRUST = 0.3  # mean trust in the motion below which a new scene begins
BRIGHTNESS_TOLERANCE = 0.1  # difference in brightness, in [0, 1], above which a match is hardly trusted
ROUND_TRIP_TOLERANCE = 0.5  # squared pixels by which forward and backward flow may differ; plus a share of the flow
SEARCH_SIDE = 128  # pixels, shorter side that the flow search needs
SMALLEST_SIDE = 16  # pixels, shorter side below which there is no flow search and frames are independent
CONTRAST_WINDOW = 13  # pixels, side of the window in which local contrast is preserved
LARGEST_GAIN = 2.5  # the factor by which contrast is raised or lowered at most
# The finest octave is blurred most, by repeated resampling and by small errors of the flow, so it takes only this part
# of the share that is carried over.
FINEST_OCTAVE_SHARE = 0.47
# Powers of the ratio of energies, finest octave first. 0.5 preserves the contrast; more makes up for lost edges.
GAIN_POWERS = (0.7, 0.5, 0.5)


class AverageStatistics:
    """A `StatisticsFn` that returns exponential moving averages of statistics over the frames.

    Statistics are identified by their order within a frame.

    Args:
        decay: The weight of the past, from 0 to 1.
    """

    def __init__(self, decay: float):
        self.decay = decay
        self.averages: list[Any] = []
        self.position = 0  # of the next statistic in the frame

    def __call__(self, statistic: Callable[[Tensor], Any], features: Tensor) -> Any:
        """Return the average of the statistic, the current frame included."""
        average = statistic(features)
        if self.position < len(self.averages):
            past = self.averages[self.position]
            average = tuple(now.lerp(before, self.decay) for now, before in zip(average, past, strict=True))
            self.averages[self.position] = average
        else:
            self.averages.append(average)
        self.position += 1
        return average

    def end_frame(self) -> None:
        """Treat the next statistic as the first of a frame."""
        self.position = 0

    def reset(self) -> None:
        """Forget all averages, at the start of a scene."""
        self.averages = []
        self.position = 0


@dataclass(frozen=True)
class Motion:
    """Where the pixels of a frame were in the previous frame."""

    places: np.ndarray
    """(H, W, 2), float32: column and row in the previous frame."""
    trust: np.ndarray
    """(H, W), float32: from 0 (outside the previous frame, or no match) to 1."""

    def carry(self, previous: Tensor, stylized: Tensor, steady: float) -> Tensor:
        """Blend a stylized frame with the previous result, which is warped along the motion.

        The previous result has the share `steady` x `trust`. A blend of two images has less contrast than either, and
        repeated resampling blurs. So each octave of detail is brought back to its local contrast in `stylized`,
        channel by channel.

        Args:
            previous: The previous result, (1, 3, H, W) in [0, 1].
            stylized: The stylized frame, of the same shape.
            steady: The largest share of the previous result, from 0 to 1.
        """
        new = to_array(stylized)
        # Cubic interpolation: with a linear one, repeated resampling would blur more.
        old = sampled(to_array(previous), self.places, cv2.INTER_CUBIC)
        blended = new + (steady * self.trust)[..., None] * (old - new)
        details = _laplacian_pyramid(blended)
        new_details = _laplacian_pyramid(new)
        details[0] = cv2.addWeighted(details[0], FINEST_OCTAVE_SHARE, new_details[0], 1 - FINEST_OCTAVE_SHARE, 0)
        result = details[-1]
        for octave in reversed(range(len(GAIN_POWERS))):
            detail = details[octave]
            energy_ratio = _local_energy(new_details[octave]) / _local_energy(detail)
            gain = cv2.pow(energy_ratio, GAIN_POWERS[octave]).clip(1 / LARGEST_GAIN, LARGEST_GAIN)
            result = cv2.pyrUp(result, dstsize=detail.shape[1::-1]) + detail * gain
        return torch.from_numpy(result.clip(0, 1)).permute(2, 0, 1)[None].to(stylized)


def motions(frames: Iterable[Tensor]) -> Iterator[tuple[Tensor, Motion | None]]:
    """Yield each frame, (1, 3, H, W) in [0, 1], with the motion from the previous one; None where a scene begins."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    previous_gray = np.empty(0)
    previous_shape = None
    for frame in frames:
        gray = _gray(frame)
        motion = None
        if frame.shape == previous_shape and min(gray.shape) >= SMALLEST_SIDE:
            motion = _motion(search, previous_gray, gray, frame.shape[2:])
        yield frame, motion
        previous_gray = gray
        previous_shape = frame.shape


def _motion(search: Any, previous: np.ndarray, current: np.ndarray, sides: Sequence[int]) -> Motion | None:
    """Find the motion by dense inverse search (DIS, Kroeger et al. 2016); None at a scene cut.

    The flow is trusted where forward and backward flow agree and the matched pixels have the same brightness. The first
    check alone would accept what changes without moving.

    Args:
        search: The DIS algorithm.
        previous: Brightness of the previous frame, (h, w), uint8.
        current: Brightness of the frame, of the same shape.
        sides: Height and width of the frame in full size.
    """
    height, width = current.shape
    flow = search.calc(current, previous, None)
    backward_flow = search.calc(previous, current, None)
    places = flow + places_of(height, width)
    round_trip = flow + sampled(backward_flow, places)
    round_trip_error = np.square(round_trip).sum(-1)
    squared_length = np.square(flow).sum(-1)
    difference = cv2.absdiff(current, sampled(previous, places))
    mismatch = cv2.blur(difference, (3, 3)).astype(np.float32) / (255 * BRIGHTNESS_TOLERANCE)
    trust = np.exp(-round_trip_error / (ROUND_TRIP_TOLERANCE + 0.02 * squared_length) - np.square(mismatch))
    inside = (places >= 0).all(-1) & (places <= (width - 1, height - 1)).all(-1)
    trust = (trust * inside).astype(np.float32)
    if trust.mean() < SCENE_CUT_TRUST:
        return None
    full_height, full_width = sides
    full_size = (full_width, full_height)
    scale = np.array([full_width / width, full_height / height], np.float32)
    full_flow = cv2.resize(flow, full_size) * scale
    return Motion(full_flow + places_of(full_height, full_width), cv2.resize(trust, full_size))


def _gray(frame: Tensor) -> np.ndarray:
    """Return the brightness of a frame, (h, w), uint8, at half the size if that is large enough for the search.

    Motion is smooth, so half the size suffices, and it reduces noise.
    """
    values = cv2.cvtColor((to_array(frame) * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY)
    scale = min(1, max(0.5, SEARCH_SIDE / min(values.shape)))
    height, width = (max(1, round(side * scale)) for side in values.shape)
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA))


def sampled(values: np.ndarray, places: np.ndarray, how: int = cv2.INTER_LINEAR) -> np.ndarray:
    """Return an array sampled at given places; outside of it, the border is repeated.

    Args:
        values: (H, W, C) or (H, W).
        places: (h, w, 2): column and row of each sample.
        how: The interpolation, as OpenCV numbers it.
    """
    columns, rows = np.moveaxis(places.astype(np.float32), -1, 0).copy()
    return np.asarray(cv2.remap(values, columns, rows, how, borderMode=cv2.BORDER_REPLICATE))


def places_of(height: int, width: int) -> np.ndarray:
    """Return the column and row of each pixel: (H, W, 2), float32."""
    return np.stack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)), -1)


def to_array(image: Tensor) -> np.ndarray:
    """Return an image (1, 3, H, W) as OpenCV takes it: (H, W, 3), float32."""
    return np.ascontiguousarray(image[0].permute(1, 2, 0).float().cpu().numpy())


def _laplacian_pyramid(values: np.ndarray) -> list[np.ndarray]:
    """Return the details of each octave, finest first, and the remaining image (Burt & Adelson 1983)."""
    levels = []
    for _ in GAIN_POWERS:
        smaller = np.asarray(cv2.pyrDown(values))
        levels.append(values - cv2.pyrUp(smaller, dstsize=values.shape[1::-1]))
        values = smaller
    levels.append(values)
    return levels


def _local_energy(detail: np.ndarray) -> np.ndarray:
    """Return the mean square in a window around each pixel, plus a constant that avoids gain where there is none."""
    return np.asarray(cv2.blur(np.square(detail), (CONTRAST_WINDOW, CONTRAST_WINDOW))) + 1e-5
