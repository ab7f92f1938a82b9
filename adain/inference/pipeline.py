"""Stylizing: the one call that the command line and everything else use."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, overload

import torch
from torch import Tensor

from adain.functional import colors, guided_filter
from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.imaging.photo import Photo
from adain.imaging.reader import DEFAULT_READING, ReadOptions
from adain.inference import full_size, tiling
from adain.inference.detail import check_detail, keep_detail
from adain.inference.full_size import WorkSize
from adain.inference.masks import load_mask
from adain.inference.memory_budget import LARGEST_TILE, SMALLEST_TILE, _tile_bytes, choose_tile, run_fitting
from adain.inference.options import ALPHA_BLENDS, COLORS, AlphaBlend, Color, Picture, Style, StyleSize
from adain.inference.preparation import prepare
from adain.inference.style_encoding import as_tensor, encoder, listed, refuse_style_options, style_shares
from adain.inference.tiling import Region
from adain.methods import EncoderDecoder, Method, StyleCode
from adain.utils.checks import check_choice
from adain.utils.precision import Precision


@overload
def stylize(content: Photo, *args: Any, **kwargs: Any) -> Photo: ...


@overload
def stylize(content: Picture, *args: Any, **kwargs: Any) -> Tensor: ...


def stylize(
    content: Picture | Photo,
    style: Style | Sequence[Style] | None = None,
    method: str | Path | Method = "adain",
    *,
    alpha: float | Sequence[float] = 1.0,
    alpha_blend: AlphaBlend = "residual",
    size: int | None = None,
    style_size: StyleSize = None,
    style_weight: Sequence[float] | None = None,
    mask: Picture | Sequence[Picture] | None = None,
    feather: float = 0.0,
    color: Color = "style",
    photorealistic: bool = False,
    work_size: WorkSize = None,
    detail: float = 0.0,
    tile: int | None = None,
    max_memory: float | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    statistics_fn: StatisticsFn = compute_statistics,
    read_options: ReadOptions = DEFAULT_READING,
    **settings: Any,
) -> Tensor | Photo:
    """Paint `content` in `style`: (B, 3, H, W), RGB in [0, 1], float32, of exactly the content's size.

    Args:
        content: a picture; or a `Photo`, which is given back as one: with as many bits, its transparency and the rest.
        style: one, several to mix, or one for each mask; none for a method that has one of its own.
        method: a name, a file of weights, or, to load it only once, what `prepare` returned, which then also
            settles `device` and `precision`.
        alpha: strength, from 0 (the content) to 1; one, or one for each style. Styles that are mixed have one alpha,
            the mean weighted by their shares; with masks each region has its own, which the feather blends.
        alpha_blend: `residual` is T(alpha) + (1 - alpha) (content - T(0)), where T blends in feature space: at alpha 0
            the content itself, at 1 T(1). `features` is T(alpha) alone (Huang & Belongie 2017, eq. 14), at alpha 0
            what the network rebuilds of the content. It does not apply to gatys, which optimizes the picture itself.
        size: shorter side of the content, and so of the result, in pixels; by default as it is.
        style_size: the same for the styles; `content` brings them to the content's.
        style_weight: share of each of several styles that are mixed.
        mask: pictures of any size and the content's shape, one for each style, which is painted where its mask is
            white. Where masks overlap they share; where all are black the content stays untouched.
        feather: pixels over which the masks are softened.
        color: `style` takes the style's colors; `keep-luminance` the content's, and only the luminance from the
            painted picture; `coral` paints with the style recolored as the content.
        photorealistic: smooth the result along the content's edges, so that straight lines stay straight.
        work_size: shorter side in pixels at which the network sees the content; guided upsampling brings the result to
            the content's size, along its edges. Strokes and time then no longer depend on the content's size. By
            default 512 for contents above 1024, else the content's; `content` is always the content's. It is never
            larger than the content, and does not apply to gatys, which has sizes of its own.
        detail: share of the stylized luminance detail that is replaced by the content's, from 0 to 1
            (`adain.inference.detail.keep_detail`). Faces stay more recognizable, with fewer strokes.
        tile: pixels a side that are painted at a time, with the statistics of the whole; by default the whole at once
            if it fits into the memory.
        max_memory: GiB that the process may take; by default painting takes at most half of what is free, and on a
            CPU 1 GiB. Tiles take more time than the whole at once.
        device: as `prepare` takes it.
        precision: as `prepare` takes it.
        statistics_fn: what takes the content's statistics; another than the default sees them on their way.
        read_options: which files are accepted, of contents, styles and masks.
        settings: as `prepare` takes them.

    Raises:
        ValueError: a setting out of range, or anything `prepare` raises.
        ContentError: a setting that does not fit this content: a mask's shape, or too little memory.
        OSError: a picture that cannot be read.
    """
    alphas = [float(one) for one in alpha] if isinstance(alpha, Sequence) else [alpha]
    if not all(0 <= one <= 1 for one in alphas):
        raise ValueError(f"alpha lies between 0 (content) and 1 (style), not at {alpha}")
    check_choice("alpha_blend", alpha_blend, ALPHA_BLENDS)
    check_choice("color", color, COLORS)
    check_detail(detail)
    if feather < 0 or (feather and mask is None):
        raise ValueError(f"feather softens masks by pixels: not {feather:g} without a mask, nor below 0")
    if tile is not None and tile < 1:
        raise ValueError(f"a tile has at least 1 pixel a side, not {tile}")
    ready = method if isinstance(method, Method) and not settings else prepare(method, device, precision, **settings)
    if not ready.takes_style:
        alone = {"style": style, "style_size": style_size, "style_weight": style_weight, "mask": mask}
        strength = {"alpha": alpha} if alphas != [1] else {}
        blend = {"alpha_blend": alpha_blend} if alpha_blend != "residual" else {}
        refuse_style_options(ready, **alone, **strength, **blend, color=None if color != "coral" else color)
    if isinstance(content, Photo) and size is not None:
        raise ValueError("a photo has its size already; give it to adain.imaging.reader.load")
    pixels = content.pixels if isinstance(content, Photo) else as_tensor(content, size, read_options)
    work_size = full_size.work_size_for(ready, work_size)
    shape = full_size.work_shape(work_size, pixels.shape[2:])
    encode = encoder(ready, pixels, style_size, color, read_options, work_size)
    masks = None if mask is None else [load_mask(one, pixels, feather, read_options) for one in listed(mask)]
    brushes = _brushes(ready, listed(style), alphas, style_weight, masks, encode)
    if alpha_blend == "residual" and isinstance(ready, EncoderDecoder):
        brushes = [replace(brush, residual=1 - brush.alpha) for brush in brushes]
    radius = max(2, min(min(shape) // 64, 32)) if photorealistic else 0
    recolor = colors.keep_luminance if color == "keep-luminance" else None

    def finish(painted: Tensor, original: Tensor) -> Tensor:
        painted = recolor(painted, original) if recolor else painted
        return guided_filter.guided_filter(painted, original, radius) if radius else painted

    change = finish if radius or recolor else None
    network = partial(
        _paint, ready, finish=change, reach=2 * radius, statistics_fn=statistics_fn, tile=tile, max_memory=max_memory
    )
    if shape == pixels.shape[2:]:
        painted = network(pixels, brushes)
    else:
        painted = full_size.stylize(network, pixels, brushes, shape, recolor, ready.device)
    if detail:
        painted = keep_detail(painted, pixels, detail, _stylized_where(masks, alphas))
    return replace(content, pixels=painted) if isinstance(content, Photo) else painted


def _stylized_where(masks: list[Tensor] | None, alphas: Sequence[float]) -> Tensor | None:
    """(1, 1, H, W), uint8: 255 where a style of alpha above 0 covers the content; None for everywhere."""
    if masks is None:
        return None
    alphas = [*alphas] * (len(masks) // len(alphas))
    covers = [mask for mask, alpha in zip(masks, alphas, strict=True) if alpha > 0]
    if not covers:
        return torch.zeros_like(masks[0])
    return torch.stack(covers).sum(0, dtype=torch.int32).clamp(max=255).to(torch.uint8)


def _paint(
    method: Method,
    pixels: Tensor,
    brushes: Sequence[Region],
    tile: int | None,
    max_memory: float | None,
    **options: Any,
) -> Tensor:
    """`tiling.paint`, in tiles that fit into the memory if the whole does not."""
    tiles = all(method.tiles(brush.alpha) for brush in brushes)
    if tiles and tile is None:
        tile = choose_tile(method, pixels, max_memory, options["reach"])
    paint = partial(tiling.stylize_tiled, method, pixels, brushes, **options)
    largest = min(LARGEST_TILE, *pixels.shape[2:]) if tiles else None
    return run_fitting(paint, tile, largest, _tile_bytes(method, pixels, SMALLEST_TILE, options["reach"]))


def _brushes(
    method: Method,
    styles: Sequence[Style],
    alphas: Sequence[float],
    style_weight: Sequence[float] | None,
    masks: list[Tensor] | None,
    encode: Callable[..., StyleCode],
) -> list[Region]:
    """What paints where."""
    if not method.takes_style:
        return [Region({})]
    shares = style_shares(style_weight, len(styles))
    if len(alphas) not in (1, len(styles)):
        raise ValueError(f"{len(alphas)} alphas for {len(styles)} styles; give one for all, or one for each")
    alphas = [*alphas] * (len(styles) // len(alphas))
    if masks is None:
        strengths = [share * alpha for share, alpha in zip(shares, alphas, strict=True)]
        code = encode(styles, style_weight=strengths if any(strengths) else shares)
        return [Region(code, sum(strengths) / sum(shares))]
    if len(masks) != len(styles) or style_weight is not None:
        raise ValueError(
            f"{len(masks)} masks for {len(styles)} styles; give a mask for each style, and no style weights"
        )
    codes = [encode(style) for style in styles]
    if method.supports_masks:
        covered = torch.stack(masks).sum(0, dtype=torch.int32).clamp(max=255).to(torch.uint8)
        return [Region(method.guide(codes, alphas, masks), 1.0, covered)]
    return [Region(*parts) for parts in zip(codes, alphas, masks, strict=True)]
