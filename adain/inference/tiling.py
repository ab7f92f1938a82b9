"""Pictures of any size: painted tile by tile, with the statistics of the whole."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from adain.functional import normalization, statistics, whitening
from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.imaging.photo import WHITE, to_float
from adain.methods import EncodedContent, EncoderDecoder, Method, StyleCode

GRID = 8  # pixels, or the stride: tiles start on multiples, so that a pixel of any layer falls wholly into one tile

Statistic = tuple[Tensor, Tensor]
"""What `ops.mean_std` or `ops.covariance` gives."""

Finish = Callable[[Tensor, Tensor], Tensor]
"""What is done to painted colors, given the content's: both (B, 3, H, W) in [0, 1]."""

Look = Callable[[Tensor, "Tile", StatisticsFn], object]
"""Computes a part of what is painted of what a tile sees, of which only the statistics count."""


@dataclass(frozen=True)
class Region:
    """One style's part in a picture.

    `mask` (1, 1, H, W), uint8, of the picture's size, is where it paints; None for everywhere. `residual`, from 0 to
    1, is the weight with which `ops.add_residual` adds back what the network cannot rebuild of the content.
    """

    code: StyleCode
    alpha: float = 1.0
    mask: Tensor | None = None
    residual: float = 0.0


@dataclass(frozen=True)
class Tile:
    """The rows and columns that a tile paints, and those that it must see for that."""

    own: tuple[slice, slice]
    seen: tuple[slice, slice]

    def cut(self, x: Tensor, scale: int = 1) -> Tensor:
        """Its own part of `x`, which is what it sees at 1 / `scale` of the size."""
        pairs = zip(self.own, self.seen, strict=True)
        edges = [(own.start - seen.start, own.stop - seen.start) for own, seen in pairs]
        rows, columns = (slice(start // scale, -(-stop // scale)) for start, stop in edges)
        return x[..., rows, columns]


def stylize_tiled(
    method: Method,
    pixels: Tensor,
    brushes: Sequence[Region],
    tile: int | None = None,
    finish: Finish | None = None,
    reach: int = 0,
    statistics_fn: StatisticsFn = compute_statistics,
) -> Tensor:
    """The picture painted with every brush where its mask says, and left as it is elsewhere.

    Tiles are the same as the whole, to rounding: first, the statistics of each layer that the method normalizes are
    gathered over all of them, in one pass over the picture for each such layer.

    Args:
        method: ready to stylize.
        pixels: (B, 3, H, W), in [0, 1] or of `torch.uint8` or `torch.uint16`; the result is alike.
        brushes: one or more; where masks overlap they share.
        tile: pixels a side that are painted at a time, rounded up to a multiple of `GRID`; None for the whole at once.
        finish: what is done to the painted colors.
        reach: how many pixels around a pixel `finish` looks at.
        statistics_fn: what takes the statistics, also of those that were gathered.

    Raises:
        ValueError: tiles for a method that must see the whole.
    """
    if tile is not None and not all(method.tiles(brush.alpha) for brush in brushes):
        name = f"{type(method).__name__} at alpha {min(brush.alpha for brush in brushes):g}"
        raise ValueError(f"{name} must see the whole picture and cannot tile; do without tiles, or give a smaller size")
    height, width = (max(2 * method.stride, -(-side // method.stride) * method.stride) for side in pixels.shape[2:])
    tiles = list(_tiles(height, width, tile, (method.receptive_radius or 0) + reach, max(GRID, method.stride)))
    result = torch.empty_like(pixels)  # outside of inference mode, so that it can be worked on
    with torch.inference_mode():
        known = _gather_all(method, pixels, tiles, brushes, statistics_fn) if tile else None
        for one in tiles:
            content = _seen(pixels, one, method)
            statistics_fns = [_replay(found, one) for found in known] if known else [statistics_fn] * (len(brushes) + 2)
            layers = _layers(method, content, one, brushes, statistics_fns)
            painted = layers.over(content, finish)
            place = result[..., one.own[0], one.own[1]]
            place.copy_(rounded(one.cut(painted)[..., : place.shape[2], : place.shape[3]], pixels.dtype))
    return result


@dataclass(frozen=True)
class Layers:
    """What the network makes of what a tile sees: pictures (B, 3, H, W) in [0, 1], float32, and their weights."""

    painted: Tensor
    """By the brushes, which share where their masks overlap."""
    rebuilt: Tensor | None
    """The content as the network rebuilds it; None where nothing is added back."""
    residual: Tensor
    """The weight of what is added back: one number, or (1, 1, H, W) if there are masks."""
    covered: Tensor | None
    """(1, 1, H, W): how far the masks cover the content; None without masks."""

    def over(self, content: Tensor, finish: Finish | None) -> Tensor:
        """What becomes of `content`: all layers put together, after `finish` has changed their colors."""
        painted = finish(self.painted, content) if finish else self.painted
        if self.rebuilt is not None:
            rebuilt = finish(self.rebuilt, content) if finish else self.rebuilt
            painted = normalization.add_residual(painted, rebuilt, content, self.residual)
        return painted if self.covered is None else content.lerp(painted, self.covered)


def _layers(
    method: Method, content: Tensor, tile: Tile, brushes: Sequence[Region], statistics_fns: Sequence[StatisticsFn]
) -> Layers:
    """The layers of `content`, which is encoded once; `statistics_fns` are in the order of `_gather_all`."""
    encoding, *painting, rebuilding = statistics_fns
    encoded = method.encode_content(content.to(method.dtype), encoding, _blend(brushes))

    def stroke(i: int) -> Tensor:
        return method.decode(encoded, brushes[i].code, brushes[i].alpha, painting[i]).float().clamp(0, 1)

    def rebuild() -> Tensor:
        assert isinstance(method, EncoderDecoder)  # no other method has residuals
        return method.rebuild(encoded, rebuilding).float().clamp(0, 1)

    return mix(content, tile.seen, brushes, stroke, rebuild)


def mix(
    content: Tensor,
    seen: tuple[slice, slice],
    brushes: Sequence[Region],
    stroke: Callable[[int], Tensor],
    rebuild: Callable[[], Tensor],
) -> Layers:
    """The layers of a part of a picture.

    Args:
        content: (B, 3, h, w) in [0, 1]: the part, and perhaps padding below and to the right.
        seen: the rows and columns of the picture that the part has.
        brushes: as `stylize_tiled` takes them.
        stroke: what the brush with the given index makes of the part, without its mask.
        rebuild: the part as the network rebuilds it; called only where something is added back.
    """
    if brushes[0].mask is None:
        covered, residual = None, content.new_tensor(brushes[0].residual)
        painted = stroke(0)
    else:
        shares, covered = _shares(brushes, content, seen)
        painted, residual = torch.zeros_like(content), torch.zeros_like(covered)
        for i, (brush, share) in enumerate(zip(brushes, shares, strict=True)):
            if share.any():
                painted += share * stroke(i)
                residual += share * brush.residual
    return Layers(painted, rebuild() if residual.any() else None, residual, covered)


def _shares(brushes: Sequence[Region], content: Tensor, seen: tuple[slice, slice]) -> tuple[list[Tensor], Tensor]:
    """Each brush's share of what is painted, and how far all of them cover the content, (1, 1, H, W), in [0, 1]."""
    masks = [brush.mask[..., seen[0], seen[1]] for brush in brushes if brush.mask is not None]
    down, right = (a - b for a, b in zip(content.shape[2:], masks[0].shape[2:], strict=True))
    amounts = [F.pad(mask.to(content) / 255, (0, right, 0, down)) for mask in masks]
    total = torch.stack(amounts).sum(0)
    return [amount / total.clamp(min=1e-6) for amount in amounts], total.clamp(max=1)


def _blend(brushes: Sequence[Region]) -> bool:
    return any(brush.alpha < 1 for brush in brushes)


def _tiles(height: int, width: int, tile: int | None, reach: int, grid: int = GRID) -> Iterator[Tile]:
    sides = (height, width)
    steps = sides if tile is None else [-(-tile // grid) * grid] * 2
    reach = -(-reach // grid) * grid
    for top in range(0, height, steps[0]):
        for left in range(0, width, steps[1]):
            own = [slice(at, min(at + step, side)) for at, step, side in zip((top, left), steps, sides, strict=True)]
            seen = [slice(max(0, o.start - reach), min(o.stop + reach, s)) for o, s in zip(own, sides, strict=True)]
            yield Tile((own[0], own[1]), (seen[0], seen[1]))


def _seen(pixels: Tensor, tile: Tile, method: Method) -> Tensor:
    """What the tile sees, in float32, where the method is; beyond the picture's right and bottom, reflected."""
    part = to_float(pixels[..., tile.seen[0], tile.seen[1]].to(method.device))
    down, right = (seen.stop - seen.start - side for seen, side in zip(tile.seen, part.shape[2:], strict=True))
    mode = "reflect" if down < part.shape[2] and right < part.shape[3] else "replicate"
    padded = F.pad(part, (0, right, 0, down), mode=mode) if down or right else part
    return padded.contiguous(memory_format=torch.channels_last)


def rounded(painted: Tensor, dtype: torch.dtype) -> Tensor:
    """Values in [0, 1], clamped, as `dtype`, which is floating, `torch.uint8` or `torch.uint16`."""
    painted = painted.float().clamp(0, 1)
    return (painted * WHITE[dtype]).round().to(dtype) if dtype in WHITE else painted.to(dtype)


class _Measured(Exception):  # noqa: N818 - no error
    """Ends the look at a tile that has what the pass is for: the features (B, C, h, w) to take a statistic of."""

    def __init__(self, statistic: Callable, features: Tensor):
        super().__init__()
        self.statistic, self.features = statistic, features


def _gather_all(
    method: Method, pixels: Tensor, tiles: Sequence[Tile], brushes: Sequence[Region], statistics_fn: StatisticsFn
) -> list[list[Statistic]]:
    """What `method` will measure of the whole picture: while encoding it, then for each brush, then rebuilding it."""
    blend = _blend(brushes)
    gather = partial(_gather, method, pixels, tiles, statistics_fn)
    encoding = gather(lambda content, _, own: method.encode_content(content, own, blend)) if blend else []

    def encoded(content: Tensor, tile: Tile) -> EncodedContent:
        return method.encode_content(content, _replay(encoding, tile), blend)

    def painting(brush: Region) -> list[Statistic]:
        return gather(lambda content, tile, own: method.decode(encoded(content, tile), brush.code, brush.alpha, own))

    found = [encoding, *(painting(brush) for brush in brushes), []]
    if isinstance(method, EncoderDecoder) and any(brush.residual for brush in brushes):
        found[-1] = gather(lambda content, tile, own: method.rebuild(encoded(content, tile), own))
    return found


def _gather(
    method: Method, pixels: Tensor, tiles: Sequence[Tile], statistics_fn: StatisticsFn, look: Look
) -> list[Statistic]:
    """What `look` measures of the whole picture, in its order."""
    known: list[Statistic] = []
    while True:
        moments = Moments()
        for tile in tiles:
            try:
                look(_seen(pixels, tile, method).to(method.dtype), tile, _replay(known, tile))
            except _Measured as found:
                moments.add(found.statistic, found.features)
            else:
                return known
        known.append(statistics_fn(moments.whole, pixels))


def _replay(known: Sequence[Statistic], tile: Tile) -> StatisticsFn:
    """Answers with what is known, one after the other; where that ends, it ends the look at the tile."""
    waiting = iter(known)

    def statistics_fn(statistic: Callable, features: Tensor) -> Statistic:
        for found in waiting:
            return found
        scale = 2 ** round(math.log2((tile.seen[0].stop - tile.seen[0].start) / features.shape[2]))
        raise _Measured(statistic, tile.cut(features, scale))

    return statistics_fn


class Moments:
    """Means and variances, or covariances, merged from tiles in float64 (Chan, Golub & LeVeque 1979)."""

    def __init__(self) -> None:
        self.count, self.mean, self.second = 0, torch.zeros(()), torch.zeros(())

    def add(self, statistic: Callable, features: Tensor) -> None:
        """Take in some more features (B, C, h, w), whose mean and spread `statistic` gives."""
        found = statistic(features)
        self.statistic, self.like = statistic, found[0]
        mean, spread = (moment.cpu().double() for moment in found)
        second = spread if statistic is whitening.covariance else spread.square() - statistics.EPS
        count = features[0, 0].numel()
        apart = mean - self.mean
        product = apart @ apart.mT if statistic is whitening.covariance else apart.square()
        total = self.count + count
        self.mean = self.mean + apart * (count / total)
        self.second = (self.second * self.count + second * count) / total + product * (self.count * count / total**2)
        self.count = total

    def whole(self, _: Tensor | None = None) -> Statistic:
        """What `statistic` would give for all of them."""
        spread = self.second if self.statistic is whitening.covariance else (self.second + statistics.EPS).sqrt()
        return self.mean.to(self.like), spread.to(self.like)
