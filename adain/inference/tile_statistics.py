"""Statistics of a whole image, gathered tile by tile.

A network that normalizes its features needs their statistics over the whole image, but each tile sees only a part. The
statistics of a layer also depend on those of the layers before it, so they are gathered one after the other, each in a
pass over all tiles.

For example, a method that normalizes at two layers calls `statistics_fn` twice:

1. No statistic is known. Each tile is computed up to the first call, where `MissingStatistic` stops it. Its features
   are merged into `Moments`. After the pass, the statistic of the first layer is known for the whole image.
2. In the next pass, the first call returns that statistic, and the second call stops each tile.
3. In the third pass, both calls return at once and no tile is stopped: everything is known, and the passes end.

Tiles are then stylized with the known statistics, and their results equal those of the whole image, up to rounding.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from adain.functional import statistics, whitening
from adain.functional.statistics import StatisticsFn
from adain.inference.regions import Region, any_below_full_strength
from adain.inference.tiles import Tile, padded_part
from adain.methods import EncodedContent, EncoderDecoder, Method

Statistic = tuple[Tensor, Tensor]
"""What `adain.functional.statistics.mean_std` or `adain.functional.whitening.covariance` returns."""

Computation = Callable[[Tensor, Tile, StatisticsFn], object]
"""Processes the padded part of a tile. It is called for the statistics that it requests; its result is not used."""


class MissingStatistic(Exception):  # noqa: N818 - it signals no error
    """Stops the computation of a tile where it needs a statistic of the whole image that is not known yet.

    Args:
        statistic: The function of features (B, C, h, w) that is needed.
        features: The features of the tile's interior.
    """

    def __init__(self, statistic: Callable, features: Tensor):
        super().__init__()
        self.statistic = statistic
        self.features = features


@dataclass(frozen=True)
class StatisticsFns:
    """The functions that give a method its statistics, for each of its steps."""

    encoding: StatisticsFn
    decoding: Sequence[StatisticsFn]
    """For each region."""
    reconstruction: StatisticsFn


class ImageStatistics:
    """The statistics of a whole image, in the order in which a method asks for them.

    Args:
        method: Ready to stylize.
        pixels: The content (B, 3, H, W), in [0, 1] or of `torch.uint8` or `torch.uint16`.
        tiles: Its tiles.
        regions: As `adain.inference.tiling.stylize_tiled` takes them.
        statistics_fn: Receives each statistic of the whole image, and may change it.

    Attributes:
        encoding: Those that are needed to encode the content.
        decoding: Those that are needed to decode it in each region.
        reconstruction: Those that are needed to reconstruct it.
    """

    def __init__(
        self,
        method: Method,
        pixels: Tensor,
        tiles: Sequence[Tile],
        regions: Sequence[Region],
        statistics_fn: StatisticsFn,
    ):
        self.method = method
        self.pixels = pixels
        self.tiles = tiles
        self.statistics_fn = statistics_fn
        self.blend = any_below_full_strength(regions)
        self.encoding: list[Statistic] = []
        if self.blend:
            self.encoding = self._gather(
                lambda content, tile, statistics_fn: method.encode_content(content, statistics_fn, True)
            )
        self.decoding = [self._gather_decoding(region) for region in regions]
        self.reconstruction: list[Statistic] = []
        if isinstance(method, EncoderDecoder) and any(region.residual for region in regions):
            self.reconstruction = self._gather(
                lambda content, tile, statistics_fn: method.rebuild(self._encoded(content, tile), statistics_fn)
            )

    def for_tile(self, tile: Tile) -> "StatisticsFns":
        """Return functions that return the known statistics to a tile."""
        decoding = [replay(known, tile) for known in self.decoding]
        return StatisticsFns(replay(self.encoding, tile), decoding, replay(self.reconstruction, tile))

    def _gather_decoding(self, region: Region) -> list[Statistic]:
        return self._gather(
            lambda content, tile, statistics_fn: self.method.decode(
                self._encoded(content, tile), region.code, region.alpha, statistics_fn
            )
        )

    def _encoded(self, content: Tensor, tile: Tile) -> EncodedContent:
        return self.method.encode_content(content, replay(self.encoding, tile), self.blend)

    def _gather(self, computation: Computation) -> list[Statistic]:
        """Compute all statistics of the whole image that `computation` asks for, in its order."""
        known: list[Statistic] = []
        while True:
            moments = self._next_moments(computation, known)
            if moments is None:
                return known
            known.append(self.statistics_fn(moments.statistic_of_all, self.pixels))

    def _next_moments(self, computation: Computation, known: Sequence[Statistic]) -> "Moments | None":
        """Compute, in a pass over all tiles, the moments of the first features whose statistic is not known.

        Return None if all are known.
        """
        moments = None
        for tile in self.tiles:
            content = padded_part(self.pixels, tile, self.method).to(self.method.dtype)
            try:
                computation(content, tile, replay(known, tile))
            except MissingStatistic as missing:
                if moments is None:
                    moments = Moments(missing.statistic)
                moments.add(missing.features)
            else:
                return None  # every tile asks for the same statistics
        return moments


def replay(known: Sequence[Statistic], tile: Tile) -> StatisticsFn:
    """Return a function that returns the known statistics in turn, and then raises `MissingStatistic`."""
    remaining = iter(known)

    def statistics_fn(statistic: Callable, features: Tensor) -> Statistic:
        found = next(remaining, None)
        if found is not None:
            return found
        rows = tile.padded[0]
        scale = 2 ** round(math.log2((rows.stop - rows.start) / features.shape[2]))
        raise MissingStatistic(statistic, tile.crop(features, scale))

    return statistics_fn


class Moments:
    """Means and variances, or covariances, merged from tiles in float64 (Chan, Golub & LeVeque 1979).

    Args:
        statistic: Returns the mean and the spread of features.
    """

    def __init__(self, statistic: Callable):
        self.statistic = statistic
        self.count = 0
        self.mean = torch.zeros(())
        self.second = torch.zeros(())
        self.like = torch.zeros(())  # has the type and device of the result

    def add(self, features: Tensor) -> None:
        """Merge the features (B, C, h, w) of one tile."""
        found = self.statistic(features)
        self.like = found[0]
        mean, spread = (moment.cpu().double() for moment in found)
        difference = mean - self.mean
        if self.statistic is whitening.covariance:
            second = spread
            product = difference @ difference.mT
        else:
            second = spread.square() - statistics.EPS
            product = difference.square()
        count = features[0, 0].numel()
        total = self.count + count
        self.mean = self.mean + difference * (count / total)
        self.second = (self.second * self.count + second * count) / total + product * (self.count * count / total**2)
        self.count = total

    def statistic_of_all(self, _: Tensor | None = None) -> Statistic:
        """Return what `statistic` would return for the features of all tiles together."""
        spread = self.second
        if self.statistic is not whitening.covariance:
            spread = (self.second + statistics.EPS).sqrt()
        return self.mean.to(self.like), spread.to(self.like)
