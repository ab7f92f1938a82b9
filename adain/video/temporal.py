"""Steadiness of painted videos: statistics averaged over time, and what was painted before carried along the motion."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

CUT = 0.3  # share of a picture found in the one before, below which a new scene begins
MISFIT = 0.1  # difference in brightness, of 1, at which a pixel is hardly the one it is taken for
STRAY = 0.5  # pixels, squared, by which the way there and back may miss its start; more where the way is long
LEAST = 128  # pixels of the shorter side that the search needs
SMALLEST = 16  # pixels a side below which it cannot search, and each frame is on its own
AROUND = 13  # pixels a side in which contrast is kept
MOST = 2.5  # by which it is raised or lowered
FINEST = 0.47  # of its share is what the finest octave takes: sampled on and on, and a little beside, it dulls most
POWERS = 0.7, 0.5, 0.5  # of the energies' ratio, finest octave first: 0.5 keeps contrast, more makes up for lost edges


class Average:
    """A `StatisticsFn` that averages statistics over time, exponentially, with weight `keep` for the past.

    Each statistic is known by its turn since `rewind`, to be called after each frame; `forget` begins anew.
    """

    def __init__(self, keep: float):
        self.keep, self.turn = keep, 0
        self.known: list[Any] = []

    def __call__(self, statistic: Callable[[Tensor], Any], features: Tensor) -> Any:
        """The average so far, this one included."""
        found = statistic(features)
        if self.turn < len(self.known):
            past = self.known[self.turn]
            found = tuple(now.lerp(before, self.keep) for now, before in zip(found, past, strict=True))
            self.known[self.turn] = found
        else:
            self.known.append(found)
        self.turn += 1
        return found

    def rewind(self) -> None:
        """The next statistic is the first again."""
        self.turn = 0

    def forget(self) -> None:
        """Nothing is known."""
        self.known, self.turn = [], 0


@dataclass(frozen=True)
class Motion:
    """Where a frame's pixels were in the frame before."""

    places: np.ndarray
    """(H, W, 2), float32: columns and rows of the frame before."""
    trust: np.ndarray
    """(H, W), float32: from 0, not there or not found, to 1."""

    def carry(self, before: Tensor, painted: Tensor, steady: float) -> Tensor:
        """`painted` with the share `steady` x `trust` of what was painted before; both (1, 3, H, W) in [0, 1].

        The mean of two paintings is duller than either, and what is carried on and on blurs: each octave of detail is
        brought to the contrast that it has in `painted`, around each pixel, channel by channel.
        """
        new = to_array(painted)
        # Cubic: a linear resampler would blur what is carried on and on.
        old = sampled(to_array(before), self.places, cv2.INTER_CUBIC)
        mixed = new + (steady * self.trust)[..., None] * (old - new)
        details, wanted = _octaves(mixed), _octaves(new)
        details[0] = cv2.addWeighted(details[0], FINEST, wanted[0], 1 - FINEST, 0)
        result = details.pop()
        for detail, like, power in reversed(list(zip(details, wanted[:-1], POWERS, strict=True))):
            gain = cv2.pow(_contrast(like) / _contrast(detail), power).clip(1 / MOST, MOST)
            result = cv2.pyrUp(result, dstsize=detail.shape[1::-1]) + detail * gain
        return torch.from_numpy(result.clip(0, 1)).permute(2, 0, 1)[None].to(painted)


def motions(frames: Iterable[Tensor]) -> Iterator[tuple[Tensor, Motion | None]]:
    """Each frame, (1, 3, H, W) in [0, 1], with the motion from the one before; None where a scene begins."""
    search = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    before, sides = np.empty(0), None
    for frame in frames:
        gray = _gray(frame)
        known = frame.shape == sides and min(gray.shape) >= SMALLEST
        yield frame, _motion(search, before, gray, frame.shape[2:]) if known else None
        before, sides = gray, frame.shape


def _motion(search: Any, before: np.ndarray, now: np.ndarray, sides: Sequence[int]) -> Motion | None:
    """By dense inverse search (Kroeger et al. 2016), trusted where there and back again leads to the start.

    And where the pixels found look alike: the first check alone would let through what changes in its place.
    """
    height, width = now.shape
    way, back = search.calc(now, before, None), search.calc(before, now, None)
    places = way + places_of(height, width)
    returned = sampled(back, places)
    miss, length = (np.square(x).sum(-1) for x in (way + returned, way))
    unlike = cv2.blur(cv2.absdiff(now, sampled(before, places)), (3, 3)).astype(np.float32) / (255 * MISFIT)
    trust = np.exp(-miss / (STRAY + 0.02 * length) - np.square(unlike))
    inside = (places >= 0).all(-1) & (places <= (width - 1, height - 1)).all(-1)
    trust = (trust * inside).astype(np.float32)
    if trust.mean() < CUT:
        return None
    full = sides[1], sides[0]
    scale = np.array([sides[1] / width, sides[0] / height], np.float32)
    return Motion(cv2.resize(way, full) * scale + places_of(*sides), cv2.resize(trust, full))


def _gray(frame: Tensor) -> np.ndarray:
    """Brightness, (h, w), uint8, at half the size if that is enough: motion is smooth, and noise goes."""
    values = cv2.cvtColor((to_array(frame) * 255).round().astype(np.uint8), cv2.COLOR_RGB2GRAY)
    scale = min(1, max(0.5, LEAST / min(values.shape)))
    height, width = (max(1, round(side * scale)) for side in values.shape)
    return np.asarray(cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA))


def sampled(values: np.ndarray, places: np.ndarray, how: int = cv2.INTER_LINEAR) -> np.ndarray:
    """The values at those places, (H, W, C) or (H, W); beyond the border as at it."""
    columns, rows = np.moveaxis(places.astype(np.float32), -1, 0).copy()
    return np.asarray(cv2.remap(values, columns, rows, how, borderMode=cv2.BORDER_REPLICATE))


def places_of(height: int, width: int) -> np.ndarray:
    """(H, W, 2): each pixel's column and row."""
    return np.stack(np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)), -1)


def to_array(picture: Tensor) -> np.ndarray:
    """(H, W, 3), as OpenCV takes it."""
    return np.ascontiguousarray(picture[0].permute(1, 2, 0).float().cpu().numpy())


def _octaves(values: np.ndarray) -> list[np.ndarray]:
    """The details of each octave, finest first, and what is left (Burt & Adelson 1983)."""
    found = []
    for _ in POWERS:
        smaller = np.asarray(cv2.pyrDown(values))
        found.append(values - cv2.pyrUp(smaller, dstsize=values.shape[1::-1]))
        values = smaller
    return [*found, values]


def _contrast(detail: np.ndarray) -> np.ndarray:
    """The mean square around each pixel."""
    return np.asarray(cv2.blur(np.square(detail), (AROUND, AROUND))) + 1e-5  # where there is nothing, nothing is done
