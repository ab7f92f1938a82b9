"""Encoding styles: sizes, color matching, mixing."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adain.functional import colors
from adain.imaging import reader
from adain.imaging.options import DEFAULT_READ_OPTIONS, ReadOptions, check_size
from adain.imaging.photo import array_to_tensor, check_range, limited_side, scaled, to_float
from adain.inference import full_size
from adain.inference.image_types import ImageLike, Style, check_image
from adain.inference.options import DEFAULT_STYLE_OPTIONS, StyleOptions, StyleSize, WorkSize
from adain.methods import Method, StyleCode, style_codes
from adain.utils.checks import counted

LARGEST_STYLE = 1024
"""Shorter side in pixels. The strokes of larger styles exceed the receptive field of the networks."""

LONGEST_STYLE = 4
"""Styles of a larger aspect ratio are shrunk to the number of pixels that one of this ratio has: the networks encode a
style as a whole, with about 1 kB of memory for each pixel."""

COLOR_SAMPLES = 256
"""Pixels of the content's shorter side that are enough to match its colors."""

Recolor = Callable[[Tensor], Tensor]
"""Changes the colors of an image (B, 3, H, W) in [0, 1]."""


def encode_style(
    method: Method,
    style: Style | Sequence[Style],
    size: int | None = None,
    style_weight: Sequence[float] | None = None,
    recolor: Recolor | None = None,
    read_options: ReadOptions = DEFAULT_READ_OPTIONS,
) -> StyleCode:
    """Encode a style, or several as their weighted mean; the code can be used with any content.

    >>> method = adain.prepare("adain-lite", device="cpu")
    >>> code = adain.encode_style(method, "painting.jpg")
    >>> image = adain.stylize("photo.jpg", code, method)

    Args:
        method: What `prepare` returned.
        style: One style, or several.
        size: Shorter side of each style in pixels; larger styles give coarser strokes.
        style_weight: Share of each style, of any sum; equal shares by default.
        recolor: Changes the colors of each style image before it is encoded.
        read_options: Which files are accepted.

    Raises:
        ValueError: Fewer or more styles than the method takes, or weights that are not one for each, nonnegative, and
            positive in sum.
        OSError: An image cannot be read.
    """
    styles = as_list(style)
    if not method.takes_style:
        refuse_style_options(method, style=styles)
    shares = style_shares(style_weight, len(styles))
    if len(styles) > 1 and not method.supports_mixing:
        raise ValueError(f"{type(method).__name__} cannot mix styles: expected 1 style, got {len(styles)}")
    with torch.no_grad():  # not inference_mode, whose tensors could not be used in a training that follows
        codes = [_encode_one(method, one, size, recolor, read_options) for one in styles]
        return _weighted_mean(codes, shares)


def _weighted_mean(codes: Sequence[StyleCode], shares: Sequence[float]) -> StyleCode:
    total = sum(shares)
    batches = {len(tensor) for code in codes for tensor in code.values()} - {1}
    if len(batches) > 1:
        raise ValueError(f"Expected batches of styles of one size, or single styles, to mix, got {sorted(batches)}")
    mean: StyleCode = {}
    for name in codes[0]:
        weighted = [code[name] * (share / total) for code, share in zip(codes, shares, strict=True)]
        mean[name] = torch.stack(torch.broadcast_tensors(*weighted)).sum(0)
    return mean


def encoder_for(
    method: Method,
    content: Tensor,
    options: StyleOptions = DEFAULT_STYLE_OPTIONS,
    read_options: ReadOptions = DEFAULT_READ_OPTIONS,
) -> Callable[..., StyleCode]:
    """Bind `encode_style` to `method` and one content: its size and its colors, where the options ask for that.

    `content` (B, 3, H, W) is in [0, 1], or of `torch.uint8` or `torch.uint16`.
    """
    return partial(encode_style, method, **image_settings(content, options), read_options=read_options)


def image_settings(content: Tensor, options: StyleOptions) -> dict[str, Any]:
    """Return the size and the recoloring of style images for one content.

    They are arguments of `style_image` and `encode_style`.
    """
    recolor = None
    if options.color == "coral":
        step = max(1, min(content.shape[2:]) // COLOR_SAMPLES)
        recolor = partial(colors.match_colors, target=to_float(content[..., ::step, ::step]))
    return {"size": style_side(options.style_size, content, options.work_size), "recolor": recolor}


def depends_on_content(options: StyleOptions) -> bool:
    """Return whether style codes depend on the content: its size, colors, or regions.

    If not, each style is encoded once.
    """
    return options.style_size == "content" or options.color == "coral" or options.regions is not None


def encode_once(
    method: Method,
    style: Style | Sequence[Style] | None,
    options: StyleOptions,
    read_options: ReadOptions = DEFAULT_READ_OPTIONS,
) -> tuple[Any, StyleOptions]:
    """Encode the styles for use with several contents, where their codes do not depend on the content.

    Returns the style or styles, and the options, to pass to `adain.stylize` with each content.
    """
    styles = as_list(style)
    if not styles or not method.takes_style or depends_on_content(options):
        return style, options
    assert options.style_size != "content"
    encode = partial(encode_style, method, size=options.style_size, read_options=read_options)
    if options.mask is not None or len(options.alphas) > 1:
        return [encode(one) for one in styles], replace(options, style_size=None)
    code = encode(styles, style_weight=options.style_weight)
    return code, replace(options, style_size=None, style_weight=None)


def style_side(style_size: StyleSize, content: Tensor, work_size: WorkSize = None) -> int | None:
    """Return the shorter side in pixels to which styles are resized for a content (B, 3, H, W); None keeps theirs.

    `content` means the size at which the network processes the content, at most `LARGEST_STYLE`.
    """
    if style_size != "content":
        return style_size
    return min(*full_size.work_shape(work_size, content.shape[2:]), LARGEST_STYLE)


def _encode_one(
    method: Method, style: Style, size: int | None, recolor: Recolor | None, read_options: ReadOptions
) -> StyleCode:
    if is_code_file(style):
        style = style_codes.load_code(style, method)
    if isinstance(style, dict):
        if size is not None or recolor:
            raise ValueError(
                "Expected a style image, got a style code, whose size and colors are fixed; "
                "give the image, or leave out style_size and color"
            )
        style_codes.check_code(style, method)
        return style
    return method.encode_style(network_input(method, style_image(style, size, recolor, read_options)))


def is_code_file(style: Style) -> TypeGuard[str | Path]:
    """Return whether a style is a file of `adain.methods.style_codes.save_code`, by its suffix."""
    return isinstance(style, str | Path) and Path(style).suffix == ".safetensors"


def style_image(style: ImageLike, size: int | None, recolor: Recolor | None, read_options: ReadOptions) -> Tensor:
    """Return a style image as it is encoded: (B, 3, h, w) in [0, 1]. The arguments are those of `encode_style`."""
    image = as_tensor(style, size, read_options, LONGEST_STYLE)
    height, width = image.shape[2:]
    side = limited_side((width, height), LARGEST_STYLE, LONGEST_STYLE)
    if size is None and side < min(height, width):
        image = as_tensor(image, side, read_options)
    return recolor(image) if recolor else image


def network_input(method: Method, image: Tensor) -> Tensor:
    """Return a style image (B, 3, h, w) as `method.encode_style` takes it."""
    # Below two strides, the networks' reflection padding would need more pixels than there are.
    bottom = max(0, 2 * method.stride - image.shape[2])
    right = max(0, 2 * method.stride - image.shape[3])
    padded = F.pad(image, (0, right, 0, bottom), mode="replicate")
    return padded.to(method.device, method.dtype, memory_format=torch.channels_last)


def style_shares(style_weight: Sequence[float] | None, styles: int) -> list[float]:
    """Return the share of each style, 1 by default. Raise ValueError unless there is one valid weight for each."""
    if not styles:
        raise ValueError("Expected a style, got none; give at least one image")
    if style_weight is None:
        return [1.0] * styles
    shares = [float(share) for share in style_weight]
    if len(shares) != styles:
        raise ValueError(f"Expected one style weight for each style, got {len(shares)} for {counted(styles, 'style')}")
    if min(shares) < 0 or not 0 < sum(shares) < math.inf:
        raise ValueError(f"style weights must be at least 0 and finite, with a sum above 0, got {shares}")
    return shares


def refuse_style_options(method: Method, **given: Any) -> None:
    """Raise ValueError if options are given that a method with one built-in style does not take."""
    wrong = [name for name, value in given.items() if value is not None]
    if wrong:
        name = type(method).__name__
        raise ValueError(f"{name} has one built-in style, the one it was trained on; leave out {', '.join(wrong)}")


def as_list(given: Any) -> list:
    """Return a list: of one item, of several, or empty for None."""
    if given is None:
        return []
    return [*given] if isinstance(given, list | tuple) else [given]


def as_tensor(image: ImageLike, size: int | None, read_options: ReadOptions, max_ratio: float | None = None) -> Tensor:
    """Convert the image to a batch (B, 3, H, W) in float32.

    Its shorter side is resized to `size` pixels if that is given. Above the aspect ratio `max_ratio`, the size is
    smaller, as that of `adain.imaging.reader.load`.
    """
    check_image(image)
    if isinstance(image, np.ndarray):
        image = array_to_tensor(image)
    if not isinstance(image, Tensor):
        return reader.load_image(image, size, read_options, max_ratio)
    batch = image if image.dim() == 4 else image[None]
    if batch.dim() != 4 or batch.shape[1] != 3 or not batch.numel() or not batch.is_floating_point():
        found = f"{tuple(image.shape)}, {image.dtype}"
        raise ValueError(f"Expected a floating-point image (B, 3, H, W) or (3, H, W) with pixels, got {found}")
    check_range(batch, "scale to [0, 1], such as by division by 255")
    check_size(size)
    if size is not None:
        sides = batch.shape[3], batch.shape[2]
        if max_ratio:
            size = limited_side(sides, size, max_ratio)
        reader.check_result(sides, size, read_options.max_pixels)
        shape = scaled((batch.shape[2], batch.shape[3]), size)
        batch = F.interpolate(batch.float(), shape, mode="bicubic", antialias=True).clamp(0, 1)
    return batch.float()
