"""Stylizing one image: the call behind the command line, folders, videos, and the web page."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from torch import Tensor

from adain.functional import colors
from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.imaging.options import DEFAULT_READ_OPTIONS, ReadOptions
from adain.imaging.photo import Photo
from adain.inference import full_size, tiling
from adain.inference.changes import ChangesAndSettings
from adain.inference.detail import keep_detail
from adain.inference.image_types import ImageLike, Style
from adain.inference.masks import load_mask, stylized_area, union, with_first
from adain.inference.memory_budget import choose_tile, largest_tile, run_fitting, smallest_tile_bytes
from adain.inference.options import DEFAULT_STYLE_OPTIONS, StyleOptions, override
from adain.inference.photorealism import transfer_colors
from adain.inference.preparation import prepare_once
from adain.inference.region_matching import match_regions, statistics_within
from adain.inference.regions import Finish, Region
from adain.inference.style_encoding import (
    as_list,
    as_tensor,
    encoder_for,
    image_settings,
    is_code_file,
    network_input,
    refuse_style_options,
    style_image,
    style_shares,
)
from adain.methods import METHODS, AdaIN, AdaINLite, EncoderDecoder, Method, StyleCode
from adain.utils.checks import check_names, counted
from adain.utils.precision import Precision

if TYPE_CHECKING:
    from typing_extensions import Unpack  # that of `typing` needs Python 3.11


@overload
def stylize(
    content: ImageLike,
    style: Style | Sequence[Style] | None = None,
    method: str | Path | Method = "adain",
    *,
    size: int | None = None,
    options: StyleOptions = ...,
    read_options: ReadOptions = ...,
    device: str = "auto",
    precision: Precision = "auto",
    statistics_fn: StatisticsFn = ...,
    **changes: "Unpack[ChangesAndSettings]",
) -> Tensor: ...


@overload
def stylize(
    content: Photo,
    style: Style | Sequence[Style] | None = None,
    method: str | Path | Method = "adain",
    *,
    size: int | None = None,
    options: StyleOptions = ...,
    read_options: ReadOptions = ...,
    device: str = "auto",
    precision: Precision = "auto",
    statistics_fn: StatisticsFn = ...,
    **changes: "Unpack[ChangesAndSettings]",
) -> Photo: ...


def stylize(
    content: ImageLike | Photo,
    style: Style | Sequence[Style] | None = None,
    method: str | Path | Method = "adain",
    *,
    size: int | None = None,
    options: StyleOptions = DEFAULT_STYLE_OPTIONS,
    read_options: ReadOptions = DEFAULT_READ_OPTIONS,
    device: str = "auto",
    precision: Precision = "auto",
    statistics_fn: StatisticsFn = compute_statistics,
    **changes: "Unpack[ChangesAndSettings]",
) -> Tensor | Photo:
    """Stylize an image: returns (B, 3, H, W), RGB in [0, 1], float32, of exactly the content's size.

    >>> image = adain.stylize("photo.jpg", "painting.jpg", "adain-lite", size=64, alpha=0.8)
    >>> image.shape
    torch.Size([1, 3, 64, 64])

    Args:
        content: An image; or a `Photo`, for which a `Photo` is returned, with as many bits, its transparency, and its
            metadata.
        style: One style, several to mix, or one for each mask, possibly after one for the rest; None for a method with
            a built-in style.
        method: A name, a file of weights, or, to load it only once, what `prepare` returned, which then also
            determines `device` and `precision`.
        size: Shorter side of the content, and so of the result, in pixels (default: the content's own).
        options: How the image is stylized.
        read_options: Which files are accepted.
        device: As `prepare` takes it.
        precision: As `prepare` takes it.
        statistics_fn: Computes the statistics of the content's features. Another function than the default can observe
            or change them.
        changes: Fields of `StyleOptions` by name, such as `alpha=0.8`, which override `options`; all others are
            settings of the method, as `prepare` takes them.

    Raises:
        ValueError: An option is unknown, out of range, or does not apply to the method, or anything that `prepare`
            raises.
        TypeError: An image is not a path, a Pillow image, an array, or a tensor.
        ContentError: An option does not fit this content: the shape of a mask, or too little memory.
        OSError: An image cannot be read.
    """
    options, settings = override(options, changes)
    check_names(settings, stylize, StyleOptions, *METHODS.values())
    ready = prepare_once(method, device, precision, **settings)
    if not ready.takes_style:
        _check_built_in_style(ready, style, options)
    pixels = _content_pixels(content, size, read_options)
    options = replace(options, work_size=full_size.resolve_work_size(ready, options.work_size))
    styles = as_list(style)
    masks = None
    if options.mask is not None:
        masks = [load_mask(mask, pixels, options.feather, read_options) for mask in as_list(options.mask)]
        if 0 < len(masks) == len(styles) - 1:
            masks = with_first(masks)
    if options.regions is None:
        regions = _regions(ready, styles, options, masks, encoder_for(ready, pixels, options, read_options))
    else:
        regions = _matched_regions(ready, styles, pixels, options, read_options)
    if masks is None or not ready.supports_masks:  # otherwise the codes of all regions are a batch
        _check_batches([region.code for region in regions], len(pixels))
    if options.alpha_blend == "residual" and isinstance(ready, EncoderDecoder):
        regions = [replace(region, residual=1 - region.alpha) for region in regions]
    stylized = _stylize_pixels(ready, pixels, regions, options, statistics_fn)
    if options.photorealistic or options.detail:
        area = None if masks is None else stylized_area(masks, options.alphas)
        stylized = _follow_content(stylized, pixels, options, area)
    return replace(content, pixels=stylized) if isinstance(content, Photo) else stylized


def _check_batches(codes: Sequence[StyleCode], contents: int) -> None:
    """Raise ValueError unless there is one style for all contents, or one for each."""
    expected = "1 style" if contents == 1 else f"1 style or {contents}, one for each content"
    for code in codes:
        for tensor in code.values():
            if len(tensor) not in (1, contents):
                raise ValueError(f"Expected {expected}, got a batch of {len(tensor)}")


def _check_built_in_style(method: Method, style: Any, options: StyleOptions) -> None:
    """Raise ValueError for options that a method with a built-in style, at full strength only, does not take."""
    refuse_style_options(
        method,
        style=style,
        style_size=options.style_size,
        style_weight=options.style_weight,
        mask=options.mask,
        regions=options.regions,
        alpha=None if options.alphas == [1] else options.alpha,
        alpha_blend=None if options.alpha_blend == DEFAULT_STYLE_OPTIONS.alpha_blend else options.alpha_blend,
        color="coral" if options.color == "coral" else None,
    )


def _content_pixels(content: ImageLike | Photo, size: int | None, read_options: ReadOptions) -> Tensor:
    """Return the content (B, 3, H, W), in [0, 1] or, of a `Photo`, as it is stored."""
    if not isinstance(content, Photo):
        return as_tensor(content, size, read_options)
    if size is not None:
        raise ValueError(
            f"Expected no size with a Photo, which has its own, got {size}; give it to adain.imaging.reader.load"
        )
    return content.pixels


def _stylize_pixels(
    method: Method, pixels: Tensor, regions: Sequence[Region], options: StyleOptions, statistics_fn: StatisticsFn
) -> Tensor:
    """Stylize the content at its own size, or at the work size and then enlarged."""
    shape = full_size.work_shape(options.work_size, pixels.shape[2:])
    recolor = colors.keep_luminance if options.color == "keep-luminance" else None
    if shape == pixels.shape[2:]:
        return FittingNetwork(method, options, recolor, statistics_fn)(pixels, regions)
    network = FittingNetwork(method, options, None, statistics_fn)  # the colors are changed at full size
    return full_size.stylize(network, pixels, regions, shape, recolor, method.device)


def _follow_content(stylized: Tensor, pixels: Tensor, options: StyleOptions, area: Tensor | None) -> Tensor:
    """Bring back the edges, or the detail, of the content; `area` is where it is stylized, None for everywhere."""
    if options.photorealistic:
        stylized = transfer_colors(stylized, pixels, area)
    if options.detail:
        stylized = keep_detail(stylized, pixels, options.detail, area)
    return stylized


@dataclass(frozen=True)
class FittingNetwork:
    """Stylizes a content in its regions, in tiles that fit into memory if the whole image does not."""

    method: Method
    options: StyleOptions
    finish: Finish | None
    statistics_fn: StatisticsFn

    def __call__(self, pixels: Tensor, regions: Sequence[Region]) -> Tensor:
        """Stylize (B, 3, H, W), in [0, 1] or of `torch.uint8` or `torch.uint16`; the result is alike."""
        method, tile = self.method, self.options.tile
        can_tile = all(method.tiles(region.alpha) for region in regions)
        if can_tile and tile is None:
            tile = choose_tile(method, pixels, self.options.max_memory)
        stylize_in_tiles = partial(
            tiling.stylize_tiled,
            method,
            pixels,
            regions,
            finish=self.finish,
            statistics_fn=self.statistics_fn,
        )
        largest = largest_tile(pixels) if can_tile else None
        return run_fitting(stylize_in_tiles, tile, largest, smallest_tile_bytes(method, pixels))


def _regions(
    method: Method,
    styles: Sequence[Style],
    options: StyleOptions,
    masks: list[Tensor] | None,
    encode: Callable[..., StyleCode],
) -> list[Region]:
    """Encode the styles, and return where and how strongly each one applies."""
    if not method.takes_style:
        return [Region({})]
    shares = style_shares(options.style_weight, len(styles))
    alphas = options.alphas
    if len(alphas) not in (1, len(styles)):
        styles_given = counted(len(styles), "style")
        raise ValueError(f"Expected one alpha for all styles or one for each, got {len(alphas)} for {styles_given}")
    if len(alphas) == 1:
        alphas = alphas * len(styles)
    if masks is None:
        return [_mixed_region(styles, shares, alphas, encode)]
    if len(masks) != len(styles) or options.style_weight is not None:
        weights = "no style weights" if options.style_weight is None else "style weights"
        raise ValueError(
            f"Expected {len(styles)} masks (one for each style, or for each but the first) and no style weights, "
            f"got {len(masks)} and {weights}"
        )
    return _masked_regions(method, styles, alphas, masks, encode)


def _matched_regions(
    method: Method, styles: Sequence[Style], content: Tensor, options: StyleOptions, read_options: ReadOptions
) -> list[Region]:
    """Return the regions of the content, each in the style of the most similar region of the style."""
    if not isinstance(method, AdaIN | AdaINLite):
        raise ValueError(f"regions are for adain and adain-lite, got {method.name}; leave out regions")
    if len(styles) != 1 or isinstance(styles[0], dict) or is_code_file(styles[0]):
        raise ValueError("Expected one style image with regions, got several styles or a style code")
    if len(content) > 1 or len(options.alphas) > 1:
        raise ValueError("Expected one content and one alpha with regions, got several")
    assert options.regions is not None
    image = style_image(styles[0], **image_settings(content, options), read_options=read_options)
    if len(image) > 1:
        raise ValueError(f"Expected one style image with regions, got a batch of {len(image)}")
    style_input = network_input(method, image)
    regions = []
    for match in match_regions(content, image, options.regions):
        code = method.encode_style(style_input, statistics_within(match.style_mask))
        regions.append(Region(code, options.alphas[0], match.content_mask))
    return regions


def _mixed_region(
    styles: Sequence[Style], shares: Sequence[float], alphas: Sequence[float], encode: Callable[..., StyleCode]
) -> Region:
    """Return one region for the whole image, in the mean of the styles, weighted by their shares and strengths."""
    strengths = [share * alpha for share, alpha in zip(shares, alphas, strict=True)]
    code = encode(styles, style_weight=strengths if any(strengths) else shares)
    return Region(code, sum(strengths) / sum(shares))


def _masked_regions(
    method: Method,
    styles: Sequence[Style],
    alphas: Sequence[float],
    masks: Sequence[Tensor],
    encode: Callable[..., StyleCode],
) -> list[Region]:
    """Return a region for each mask; or one for all, if the method takes masks itself."""
    codes = [encode(style) for style in styles]
    if method.supports_masks:
        _check_batches(codes, contents=1)  # each style applies to all contents
        return [Region(method.guide(codes, alphas, masks), 1.0, union(masks))]
    regions = []
    for code, alpha, mask in zip(codes, alphas, masks, strict=True):
        regions.append(Region(code, alpha, mask))
    return regions
