"""Stylising: the one call that the command line and everything else use."""

import copy
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor

from adain import full_size, images, memory, ops, tiling, weights
from adain.backbones import check_choice
from adain.detail import check_detail, keep_detail
from adain.errors import ContentError, shortened
from adain.full_size import WorkSize
from adain.images import DEFAULT_READING, Photo, ReadOptions
from adain.methods import EncoderDecoder, Method, StyleCode
from adain.precision import DTYPES, Precision, fast_half, warn_if_emulated
from adain.tiling import Brush

log = logging.getLogger(__name__)

Picture = str | Path | Image.Image | Tensor
"""A file, a Pillow image, or a tensor (B, 3, H, W) or (3, H, W), RGB in [0, 1]."""

Style = Picture | StyleCode
"""A picture, a code that `encode_style` returned, or a file with one (`adain.weights.save_code`)."""

StyleSize = int | Literal["content"] | None
"""Shorter side of a style in pixels: as it is (at most `LARGEST_STYLE`), a number, or the content's."""

Color = Literal["style", "keep-luminance", "coral"]
COLORS = get_args(Color)

AlphaBlend = Literal["residual", "features"]
ALPHA_BLENDS = get_args(AlphaBlend)
LARGEST_STYLE = 1024  # pixels; beyond, strokes are larger than what the networks see at a time
MODEST = 2**30  # bytes that painting on a CPU takes, unless asked to take more
LARGEST_TILE = 768  # pixels; larger ones save little, and the memory is better left to others
SMALLEST_TILE = 64  # pixels; with the overlap around them, smaller ones take many times the work


def prepare(
    method: str | Path | Method = "adain", device: str = "auto", precision: Precision = "auto", **settings: Any
) -> Method:
    """A method ready to stylise.

    Args:
        method: a name (its embedded weights), a file of weights, or a method already built, which is copied and stays
            as it is.
        device: any of torch's; `auto` is the first of cuda, mps and cpu that there is.
        precision: of the network; statistics are float32 in all. `auto` is bf16 where the hardware computes it
            (`adain.precision.fast_half`) and the method's pictures stay within 1/255 on average, else fp32; gatys
            then takes all but its last steps in bf16.
        settings: arguments of a method without weights, such as `adain.methods.Gatys`.

    Raises:
        ValueError: unknown name or choice, weights that do not fit, a device that is not there.
        OSError: no such file.
    """
    check_choice("precision", precision, ("auto", *DTYPES))
    if settings and isinstance(method, Method):
        raise ValueError(f"a method already built takes no {', '.join(settings)}; give them when it is built")
    target = _device(device)
    built = _copied(method) if isinstance(method, Method) else weights.load(method, **settings)
    built.eval()  # batch norm leaves its running statistics as they are
    built.drafts = precision == "auto" and fast_half(target) == "bf16"
    if precision == "auto":
        precision = "bf16" if built.rounds and built.drafts else "fp32"
    elif precision != "fp32":
        warn_if_emulated(precision, target)
    return built.to(target, DTYPES[precision]).to(memory_format=torch.channels_last)


def _copied(method: Method) -> Method:
    """A copy with weights of its own; the callback is shared, since it may record to where its owner looks."""
    callback = getattr(method, "callback", None)
    return copy.deepcopy(method, {id(callback): callback})


def encode_style(
    method: Method,
    style: Style | Sequence[Style],
    size: int | None = None,
    style_weight: Sequence[float] | None = None,
    change: Callable[[Tensor], Tensor] | None = None,
    reading: ReadOptions = DEFAULT_READING,
) -> StyleCode:
    """The code of a style, or the mixture of several styles' codes; reusable with any content.

    Args:
        method: what `prepare` returned.
        style: one, or several.
        size: shorter side of each style in pixels: larger styles paint with coarser strokes.
        style_weight: share of each style, of any sum; even by default.
        change: what is done to each picture, (B, 3, H, W) in [0, 1], before it is encoded.
        reading: which files are accepted.

    Raises:
        ValueError: more or fewer styles than the method takes, or weights that are not one for each, positive in sum
            and none negative.
        OSError: a picture that cannot be read.
    """
    styles = listed(style)
    if not method.styled:
        _refuse(method, style=styles)
    shares = _shares(style_weight, len(styles))
    if len(styles) > 1 and not method.mixes:
        raise ValueError(f"{type(method).__name__} cannot mix styles; give one, not {len(styles)}")
    with torch.inference_mode():
        codes = [_code(method, one, size, change, reading) for one in styles]
        weighted = [(code, share / sum(shares)) for code, share in zip(codes, shares, strict=True)]
        return {name: torch.stack([code[name] * share for code, share in weighted]).sum(0) for name in codes[0]}


def encoder(
    method: Method,
    content: Tensor,
    style_size: StyleSize = None,
    color: Color = "style",
    reading: ReadOptions = DEFAULT_READING,
    work_size: WorkSize = None,
) -> Callable[..., StyleCode]:
    """`encode_style` of `method` for a content: of its size, or in its colours, where the settings ask for that.

    `content` (B, 3, H, W) is in [0, 1], or of `torch.uint8` or `torch.uint16`; all else is as `stylize` takes it.
    """
    change = None
    if color == "coral":
        step = max(1, min(content.shape[2:]) // 256)  # so many pixels are enough to know the colours
        change = partial(ops.match_colors, target=images.numbers(content[..., ::step, ::step]))
    side = style_side(style_size, content, work_size)
    return partial(encode_style, method, size=side, change=change, reading=reading)


def style_side(style_size: StyleSize, content: Tensor, work_size: WorkSize = None) -> int | None:
    """The shorter side in pixels that styles are brought to for a content (B, 3, H, W); None leaves each as it is.

    `content` stands for the size at which the network sees the content, at most `LARGEST_STYLE`.
    """
    if style_size != "content":
        return style_size
    return min(*full_size.work_shape(work_size, content.shape[2:]), LARGEST_STYLE)


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
    measure: ops.Measure = ops.whole,
    reading: ReadOptions = DEFAULT_READING,
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
        color: `style` takes the style's colours; `keep-luminance` the content's, and only the luminance from the
            painted picture; `coral` paints with the style recoloured as the content.
        photorealistic: smooth the result along the content's edges, so that straight lines stay straight.
        work_size: shorter side in pixels at which the network sees the content; guided upsampling brings the result to
            the content's size, along its edges. Strokes and time then no longer depend on the content's size. By
            default 512 for contents above 1024, else the content's; `content` is always the content's. It is never
            larger than the content, and does not apply to gatys, which has sizes of its own.
        detail: share of the stylized luminance detail that is replaced by the content's, from 0 to 1
            (`adain.detail.keep_detail`). Faces stay more recognizable, with fewer strokes.
        tile: pixels a side that are painted at a time, with the statistics of the whole; by default the whole at once
            if it fits into the memory.
        max_memory: GiB that the process may take; by default painting takes at most half of what is free, and on a
            CPU 1 GiB. Tiles take more time than the whole at once.
        device: as `prepare` takes it.
        precision: as `prepare` takes it.
        measure: what takes the content's statistics; another than the default sees them on their way.
        reading: which files are accepted, of contents, styles and masks.
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
    if not ready.styled:
        alone = {"style": style, "style_size": style_size, "style_weight": style_weight, "mask": mask}
        strength = {"alpha": alpha} if alphas != [1] else {}
        blend = {"alpha_blend": alpha_blend} if alpha_blend != "residual" else {}
        _refuse(ready, **alone, **strength, **blend, color=None if color != "coral" else color)
    if isinstance(content, Photo) and size is not None:
        raise ValueError("a photo has its size already; give it to adain.images.load")
    pixels = content.pixels if isinstance(content, Photo) else _tensor(content, size, reading)
    work_size = full_size.work_size_for(ready, work_size)
    shape = full_size.work_shape(work_size, pixels.shape[2:])
    encode = encoder(ready, pixels, style_size, color, reading, work_size)
    masks = None if mask is None else [_mask(one, pixels, feather, reading) for one in listed(mask)]
    brushes = _brushes(ready, listed(style), alphas, style_weight, masks, encode)
    if alpha_blend == "residual" and isinstance(ready, EncoderDecoder):
        brushes = [replace(brush, residual=1 - brush.alpha) for brush in brushes]
    radius = max(2, min(min(shape) // 64, 32)) if photorealistic else 0
    recolor = ops.keep_luminance if color == "keep-luminance" else None

    def finish(painted: Tensor, original: Tensor) -> Tensor:
        painted = recolor(painted, original) if recolor else painted
        return ops.guided_filter(painted, original, radius) if radius else painted

    change = finish if radius or recolor else None
    network = partial(_paint, ready, finish=change, reach=2 * radius, measure=measure, tile=tile, max_memory=max_memory)
    if shape == pixels.shape[2:]:
        painted = network(pixels, brushes)
    else:
        painted = full_size.stylize(network, pixels, brushes, shape, recolor, ready.like().device)
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
    method: Method, pixels: Tensor, brushes: Sequence[Brush], tile: int | None, max_memory: float | None, **options: Any
) -> Tensor:
    """`tiling.paint`, in tiles that fit into the memory if the whole does not."""
    tiles = all(method.tiles(brush.alpha) for brush in brushes)
    if tiles and tile is None:
        tile = _tile(method, pixels, max_memory, options["reach"])
    paint = partial(tiling.paint, method, pixels, brushes, **options)
    largest = min(LARGEST_TILE, *pixels.shape[2:]) if tiles else None
    return _fitting(paint, tile, largest, _tile_bytes(method, pixels, SMALLEST_TILE, options["reach"]))


def _brushes(
    method: Method,
    styles: Sequence[Style],
    alphas: Sequence[float],
    style_weight: Sequence[float] | None,
    masks: list[Tensor] | None,
    encode: Callable[..., StyleCode],
) -> list[Brush]:
    """What paints where."""
    if not method.styled:
        return [Brush({})]
    shares = _shares(style_weight, len(styles))
    if len(alphas) not in (1, len(styles)):
        raise ValueError(f"{len(alphas)} alphas for {len(styles)} styles; give one for all, or one for each")
    alphas = [*alphas] * (len(styles) // len(alphas))
    if masks is None:
        strengths = [share * alpha for share, alpha in zip(shares, alphas, strict=True)]
        code = encode(styles, style_weight=strengths if any(strengths) else shares)
        return [Brush(code, sum(strengths) / sum(shares))]
    if len(masks) != len(styles) or style_weight is not None:
        raise ValueError(
            f"{len(masks)} masks for {len(styles)} styles; give a mask for each style, and no style weights"
        )
    codes = [encode(style) for style in styles]
    if method.guided:
        covered = torch.stack(masks).sum(0, dtype=torch.int32).clamp(max=255).to(torch.uint8)
        return [Brush(method.guide(codes, alphas, masks), 1.0, covered)]
    return [Brush(*parts) for parts in zip(codes, alphas, masks, strict=True)]


def _code(
    method: Method,
    style: Style,
    size: int | None,
    change: Callable[[Tensor], Tensor] | None,
    reading: ReadOptions,
) -> StyleCode:
    if isinstance(style, str | Path) and Path(style).suffix == ".safetensors":
        style = weights.load_code(style, method)
    if isinstance(style, dict):
        if size is not None or change:
            raise ValueError("a style code has its size and colours already; give the picture to change them")
        return style
    picture = _tensor(style, size, reading)
    if size is None and min(picture.shape[2:]) > LARGEST_STYLE:
        picture = _tensor(picture, LARGEST_STYLE, reading)
    picture = change(picture) if change else picture
    like = method.like()
    down, right = (max(0, 2 * method.stride - side) for side in picture.shape[2:])
    padded = F.pad(picture, (0, right, 0, down), mode="replicate")  # below two strides, reflection runs out
    return method.encode_style(padded.to(like.device, like.dtype, memory_format=torch.channels_last))


def _shares(style_weight: Sequence[float] | None, styles: int) -> list[float]:
    if not styles:
        raise ValueError("no style given; name at least one picture")
    shares = [1.0] * styles if style_weight is None else [*style_weight]
    if len(shares) != styles or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise ValueError(f"style weights are one for each of {styles} styles, none below 0, not all 0: not {shares}")
    return shares


def _refuse(method: Method, **given: Any) -> None:
    if wrong := [name for name, value in given.items() if value is not None]:
        name = type(method).__name__
        raise ValueError(f"{name} paints in the one style it was trained on; leave out {', '.join(wrong)}")


def listed(given: Any) -> list:
    """One of something, or several of them, or None, as a list."""
    return [] if given is None else [*given] if isinstance(given, list | tuple) else [given]


def _mask(mask: Picture, pixels: Tensor, feather: float, reading: ReadOptions) -> Tensor:
    """(1, 1, H, W), uint8, of the size of the pixels; ValueError if it is black, ContentError if of another shape."""
    if isinstance(mask, Tensor):
        mask = images.to_image(mask.float().reshape(-1, *mask.shape[-2:])[:3].expand(3, -1, -1))
    image = images.read(mask, max_pixels=reading.max_pixels, truncated=reading.truncated)
    height, width = pixels.shape[2:]
    if abs(math.log(image.width / image.height) - math.log(width / height)) > 0.05 and min(height, width) > 16:
        shape = f"{image.width}x{image.height}"
        raise ContentError(f"a mask of {shape} does not have the shape of a {width}x{height} picture")
    image = image.convert("L").resize((width, height), Image.Resampling.BILINEAR)
    if not image.getextrema()[1]:
        raise ValueError("a mask is black everywhere, so that its style would not be seen; paint white where it goes")
    if feather:
        image = image.filter(ImageFilter.GaussianBlur(feather))
    return torch.from_numpy(np.array(image))[None, None]


def _tensor(picture: Picture, size: int | None, reading: ReadOptions) -> Tensor:
    """The picture as a batch (B, 3, H, W) in float32."""
    if not isinstance(picture, Tensor):
        return images.load_picture(picture, size, reading.max_pixels, reading.truncated)
    batch = picture if picture.dim() == 4 else picture[None]
    if batch.dim() != 4 or batch.shape[1] != 3 or not batch.is_floating_point():
        found = f"{tuple(picture.shape)}, {picture.dtype}"
        raise ValueError(f"a picture is (B, 3, H, W) or (3, H, W), floating; not {found}")
    images.check_size(size)
    if size is not None:
        images.check_result((batch.shape[3], batch.shape[2]), size, reading.max_pixels)
        scale = size / min(batch.shape[2:])
        shape = [max(1, round(side * scale)) for side in batch.shape[2:]]
        batch = F.interpolate(batch.float(), shape, mode="bicubic", antialias=True).clamp(0, 1)
    return batch.float()


def _fitting(paint: Callable[..., Tensor], tile: int | None, largest: int | None, smallest_bytes: float) -> Tensor:
    """Call `paint` with that tile. While an accelerator runs out of memory, try again with tiles of half the size.

    `largest` bounds the first tile to try after the whole picture; None if the method cannot tile. The smallest tiles
    need `smallest_bytes`; ContentError if they do not fit.
    """
    while True:
        try:
            return paint(tile=tile)
        except torch.OutOfMemoryError as error:
            before = tile or largest
            if before is None:
                raise
            if before <= SMALLEST_TILE:
                raise ContentError(_too_little_memory(smallest_bytes, "the device has less")) from error
        tile = max(SMALLEST_TILE, before // 2)
        log.warning("out of memory; trying again with tiles of %d pixels", tile)


def _tile(method: Method, pixels: Tensor, max_memory: float | None, reach: int = 0) -> int | None:
    """Side in pixels of the tiles to stylize in; None if the whole picture fits into the memory.

    `reach` is how many more pixels the steps after the network look at.

    Raises:
        ContentError: not even the smallest tiles fit.
    """
    like = method.like()
    held = 0.0
    if max_memory is None:
        limit = float(memory.free(like.device))
        budget = limit / 2 if like.is_cuda else min(limit / 2, MODEST)
    else:
        held = 0 if like.is_cuda else memory.held() + pixels.nbytes
        limit = budget = max_memory * 2**30 - held
    if pixels[:, 0].numel() * _bytes_per_pixel(method) <= budget:
        return None
    smallest_bytes = _tile_bytes(method, pixels, SMALLEST_TILE, reach)
    if smallest_bytes > limit:
        found = f"{limit / 2**30:.2f} GiB are free" if max_memory is None else f"got --max-memory {max_memory:g}"
        raise ContentError(_too_little_memory(held + smallest_bytes, found))
    overlap = (method.reach or 0) + reach
    side = int(math.sqrt(max(0, budget) / _bytes_per_pixel(method) / len(pixels))) - 2 * overlap
    return max(SMALLEST_TILE, min(side, LARGEST_TILE))


def _bytes_per_pixel(method: Method) -> float:
    return method.bytes_per_pixel * method.like().element_size() / 4


def _tile_bytes(method: Method, pixels: Tensor, tile: int, reach: int) -> float:
    """What a tile of that side needs, with the overlap around it; a picture that is smaller needs less."""
    side = tile + 2 * ((method.reach or 0) + reach)
    height, width = pixels.shape[2:]
    return len(pixels) * min(side, height) * min(side, width) * _bytes_per_pixel(method)


def _too_little_memory(needed: float, found: str) -> str:
    needed = math.ceil(needed / 2**30 * 100) / 100
    return f"tiles of {SMALLEST_TILE} pixels need {needed:.2f} GiB of memory, {found}; allow more, or a smaller --size"


def _device(name: str) -> torch.device:
    if name == "auto":
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        name = next((backend for backend, there in available.items() if there), "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {name} cannot be used here ({shortened(reason, 100)}); choose auto, cpu, or another"
        ) from error
