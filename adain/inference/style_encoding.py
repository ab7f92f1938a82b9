"""Encoding styles: sizes, color matching, mixing."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adain.functional import colors
from adain.imaging import photo, reader
from adain.imaging.photo import to_float
from adain.imaging.reader import DEFAULT_READING, ReadOptions
from adain.inference import full_size
from adain.inference.full_size import WorkSize
from adain.inference.options import Color, Picture, Style, StyleSize
from adain.methods import Method, StyleCode, style_codes

LARGEST_STYLE = 1024  # pixels; beyond, strokes are larger than what the networks see at a time


def encode_style(
    method: Method,
    style: Style | Sequence[Style],
    size: int | None = None,
    style_weight: Sequence[float] | None = None,
    change: Callable[[Tensor], Tensor] | None = None,
    read_options: ReadOptions = DEFAULT_READING,
) -> StyleCode:
    """The code of a style, or the mixture of several styles' codes; reusable with any content.

    Args:
        method: what `prepare` returned.
        style: one, or several.
        size: shorter side of each style in pixels: larger styles paint with coarser strokes.
        style_weight: share of each style, of any sum; even by default.
        change: what is done to each picture, (B, 3, H, W) in [0, 1], before it is encoded.
        read_options: which files are accepted.

    Raises:
        ValueError: more or fewer styles than the method takes, or weights that are not one for each, positive in sum
            and none negative.
        OSError: a picture that cannot be read.
    """
    styles = listed(style)
    if not method.takes_style:
        refuse_style_options(method, style=styles)
    shares = style_shares(style_weight, len(styles))
    if len(styles) > 1 and not method.supports_mixing:
        raise ValueError(f"{type(method).__name__} cannot mix styles; give one, not {len(styles)}")
    with torch.inference_mode():
        codes = [_code(method, one, size, change, read_options) for one in styles]
        weighted = [(code, share / sum(shares)) for code, share in zip(codes, shares, strict=True)]
        return {name: torch.stack([code[name] * share for code, share in weighted]).sum(0) for name in codes[0]}


def encoder(
    method: Method,
    content: Tensor,
    style_size: StyleSize = None,
    color: Color = "style",
    read_options: ReadOptions = DEFAULT_READING,
    work_size: WorkSize = None,
) -> Callable[..., StyleCode]:
    """`encode_style` of `method` for a content: of its size, or in its colors, where the settings ask for that.

    `content` (B, 3, H, W) is in [0, 1], or of `torch.uint8` or `torch.uint16`; all else is as `stylize` takes it.
    """
    change = None
    if color == "coral":
        step = max(1, min(content.shape[2:]) // 256)  # so many pixels are enough to know the colors
        change = partial(colors.match_colors, target=to_float(content[..., ::step, ::step]))
    side = style_side(style_size, content, work_size)
    return partial(encode_style, method, size=side, change=change, read_options=read_options)


def style_side(style_size: StyleSize, content: Tensor, work_size: WorkSize = None) -> int | None:
    """The shorter side in pixels that styles are brought to for a content (B, 3, H, W); None leaves each as it is.

    `content` stands for the size at which the network sees the content, at most `LARGEST_STYLE`.
    """
    if style_size != "content":
        return style_size
    return min(*full_size.work_shape(work_size, content.shape[2:]), LARGEST_STYLE)


def _code(
    method: Method,
    style: Style,
    size: int | None,
    change: Callable[[Tensor], Tensor] | None,
    read_options: ReadOptions,
) -> StyleCode:
    if isinstance(style, str | Path) and Path(style).suffix == ".safetensors":
        style = style_codes.load_code(style, method)
    if isinstance(style, dict):
        if size is not None or change:
            raise ValueError("a style code has its size and colors already; give the picture to change them")
        return style
    picture = as_tensor(style, size, read_options)
    if size is None and min(picture.shape[2:]) > LARGEST_STYLE:
        picture = as_tensor(picture, LARGEST_STYLE, read_options)
    picture = change(picture) if change else picture
    down, right = (max(0, 2 * method.stride - side) for side in picture.shape[2:])
    padded = F.pad(picture, (0, right, 0, down), mode="replicate")  # below two strides, reflection runs out
    return method.encode_style(padded.to(method.device, method.dtype, memory_format=torch.channels_last))


def style_shares(style_weight: Sequence[float] | None, styles: int) -> list[float]:
    """The weight of each style, 1 by default. Raises ValueError unless there is one valid weight for each style."""
    if not styles:
        raise ValueError("no style given; name at least one picture")
    shares = [1.0] * styles if style_weight is None else [*style_weight]
    if len(shares) != styles or min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise ValueError(f"style weights are one for each of {styles} styles, none below 0, not all 0: not {shares}")
    return shares


def refuse_style_options(method: Method, **given: Any) -> None:
    """Raise ValueError if options are given that a method with one built-in style does not take."""
    if wrong := [name for name, value in given.items() if value is not None]:
        name = type(method).__name__
        raise ValueError(f"{name} paints in the one style it was trained on; leave out {', '.join(wrong)}")


def listed(given: Any) -> list:
    """One of something, or several of them, or None, as a list."""
    return [] if given is None else [*given] if isinstance(given, list | tuple) else [given]


def as_tensor(picture: Picture, size: int | None, read_options: ReadOptions) -> Tensor:
    """The picture as a batch (B, 3, H, W) in float32."""
    if not isinstance(picture, Tensor):
        return reader.load_picture(picture, size, read_options.max_pixels, read_options.truncated)
    batch = picture if picture.dim() == 4 else picture[None]
    if batch.dim() != 4 or batch.shape[1] != 3 or not batch.is_floating_point():
        found = f"{tuple(picture.shape)}, {picture.dtype}"
        raise ValueError(f"a picture is (B, 3, H, W) or (3, H, W), floating; not {found}")
    photo.check_size(size)
    if size is not None:
        reader.check_result((batch.shape[3], batch.shape[2]), size, read_options.max_pixels)
        scale = size / min(batch.shape[2:])
        shape = [max(1, round(side * scale)) for side in batch.shape[2:]]
        batch = F.interpolate(batch.float(), shape, mode="bicubic", antialias=True).clamp(0, 1)
    return batch.float()
