"""Images of any size, stylized tile by tile with the statistics of the whole image."""

from collections.abc import Sequence

import torch
from torch import Tensor

from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.imaging.photo import WHITE
from adain.inference.regions import Finish, Layers, Region, any_below_full_strength, blend_regions
from adain.inference.tile_statistics import ImageStatistics, StatisticsFns
from adain.inference.tiles import GRID, Tile, padded_part, split_into_tiles
from adain.methods import EncoderDecoder, Method
from adain.utils.errors import ContentError
from adain.utils.rounding import round_up


def stylize_tiled(
    method: Method,
    pixels: Tensor,
    regions: Sequence[Region],
    tile: int | None = None,
    finish: Finish | None = None,
    statistics_fn: StatisticsFn = compute_statistics,
) -> Tensor:
    """Stylize every region of an image where its mask says, and leave the rest as it is.

    Tiles give the same result as the whole image, up to rounding: the statistics of each layer that the method
    normalizes are first gathered over all of them (`adain.inference.tile_statistics`).

    Args:
        method: Ready to stylize.
        pixels: (B, 3, H, W), in [0, 1] or of `torch.uint8` or `torch.uint16`; the result is alike.
        regions: One or more.
        tile: Side in pixels of the tiles, rounded up to a multiple of `GRID`; None for the whole image at once.
        finish: Changes the stylized colors, each pixel by itself.
        statistics_fn: Computes the statistics of the content's features, or receives those that were gathered.

    Raises:
        ValueError: Tiles were asked for, but the method must see the whole image.
    """
    if tile is not None:
        _check_tiles(method, regions)
    height, width = (padded_side(side, method.stride) for side in pixels.shape[2:])
    overlap = method.receptive_radius or 0
    tiles = list(split_into_tiles(height, width, tile, overlap, max(GRID, method.stride)))
    result = torch.empty_like(pixels)  # outside of inference mode, so that it can be changed
    computed = StatisticsFns(statistics_fn, [statistics_fn] * len(regions), statistics_fn)
    with torch.inference_mode():
        known = ImageStatistics(method, pixels, tiles, regions, statistics_fn) if tile else None
        for one in tiles:
            content = padded_part(pixels, one, method)
            statistics_fns = known.for_tile(one) if known else computed
            layers = _layers(method, content, one, regions, statistics_fns)
            stylized = one.crop(layers.over(content, finish))
            place = result[..., one.interior[0], one.interior[1]]
            place.copy_(to_dtype(stylized[..., : place.shape[2], : place.shape[3]], pixels.dtype))
    return result


def _check_tiles(method: Method, regions: Sequence[Region]) -> None:
    for region in regions:
        if not method.tiles(region.alpha):
            name = f"{type(method).__name__} at alpha {region.alpha:g}"
            raise ValueError(f"{name} must see the whole image and cannot tile; leave out tile, or give a smaller size")


def padded_side(side: int, stride: int) -> int:
    """Round the side up to a multiple of the stride, at least two strides, which reflection padding needs."""
    return max(2 * stride, round_up(side, stride))


def _layers(
    method: Method, content: Tensor, tile: Tile, regions: Sequence[Region], statistics_fns: StatisticsFns
) -> Layers:
    """Encode the padded part of a tile once, and decode it in every region."""
    blend = any_below_full_strength(regions)
    encoded = method.encode_content(content.to(method.dtype), statistics_fns.encoding, blend)

    def stylize(i: int) -> Tensor:
        region, statistics_fn = regions[i], statistics_fns.decoding[i]
        return method.decode(encoded, region.code, region.alpha, statistics_fn).float().clamp(0, 1)

    def reconstruct() -> Tensor:
        assert isinstance(method, EncoderDecoder)  # no other method has residuals
        return method.rebuild(encoded, statistics_fns.reconstruction).float().clamp(0, 1)

    return blend_regions(content, tile.padded, regions, stylize, reconstruct)


def to_dtype(stylized: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert values to `dtype`, clamped to [0, 1]; scaled and rounded for `torch.uint8` and `torch.uint16`.

    Raises:
        ContentError: There is a NaN, because values overflowed in the network. It would become black pixels.
    """
    stylized = stylized.float().clamp(0, 1)
    if stylized.sum().isnan():
        raise ContentError(
            "the network computed NaN instead of colors; use precision fp32, or encode the style again if it is a code"
        )
    if dtype in WHITE:
        return (stylized * WHITE[dtype]).round().to(dtype)
    return stylized.to(dtype)
