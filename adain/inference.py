"""Stylising: the one call that the command line and everything else use."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from adain import images, weights
from adain.backbones import check_choice
from adain.methods import Method, StyleCode

Picture = str | Path | Image.Image | Tensor
"""A file, a Pillow image, or a tensor (B, 3, H, W) or (3, H, W), RGB in [0, 1]."""

StyleSize = int | Literal["content"] | None
"""Shorter side of a style in pixels: as it is, a number, or the content's."""

Precision = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"auto": torch.float32, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def prepare(
    method: str | Path | Method = "adain", device: str = "auto", precision: Precision = "auto", **settings: Any
) -> Method:
    """A method ready to stylise.

    Args:
        method: a name (its embedded weights), a file of weights, or a method already built.
        device: any of torch's; `auto` is the first of cuda, mps and cpu that there is.
        precision: of the network; statistics are float32 in all. `auto` is fp32.
        settings: arguments of a method without weights, such as `adain.methods.Gatys`.

    Raises:
        ValueError: unknown name or choice, weights that do not fit, a device that is not there.
        OSError: no such file.
    """
    check_choice("precision", precision, DTYPES)
    if settings and isinstance(method, Method):
        raise ValueError(f"a method already built takes no {', '.join(settings)}; give them when it is built")
    target = _device(device)
    built = method if isinstance(method, Method) else weights.load(method, **settings)
    return built.to(target, DTYPES[precision]).to(memory_format=torch.channels_last)


def encode_style(
    method: Method,
    style: Picture | Sequence[Picture],
    size: int | None = None,
    style_weight: Sequence[float] | None = None,
) -> StyleCode:
    """The code of a style, or the mixture of several styles' codes; reusable with any content.

    Args:
        method: what `prepare` returned.
        style: a picture, or several.
        size: shorter side of each style in pixels: larger styles paint with coarser strokes.
        style_weight: share of each style, of any sum; even by default.

    Raises:
        ValueError: more or fewer styles than the method takes, or weights that are not one for each, positive in sum
            and none negative.
        OSError: a picture that cannot be read.
    """
    if not method.styled:
        raise ValueError(f"{type(method).__name__} paints in the one style it was trained on; leave the style out")
    styles = list(style) if isinstance(style, Sequence) and not isinstance(style, str) else [style]
    if not styles:
        raise ValueError("no style given; name at least one picture")
    if len(styles) > 1 and not method.mixes:
        raise ValueError(f"{type(method).__name__} cannot mix styles; give one, not {len(styles)}")
    shares = list(style_weight or [1.0] * len(styles))
    if len(shares) != len(styles) or min(shares) < 0 or not 0 < sum(shares) < float("inf"):
        raise ValueError(
            f"style weights are one for each of {len(styles)} styles, none below 0, not all 0: not {shares}"
        )
    with torch.inference_mode():
        codes = [method.encode_style(_pad(_tensor(one, size, method), method.stride, 1)) for one in styles]
        weighted = [(code, share / sum(shares)) for code, share in zip(codes, shares, strict=True)]
        return {name: torch.stack([code[name] * share for code, share in weighted]).sum(0) for name in codes[0]}


def stylize(
    content: Picture,
    style: Picture | Sequence[Picture] | StyleCode | None = None,
    method: str | Path | Method = "adain",
    *,
    alpha: float = 1.0,
    size: int | None = None,
    style_size: StyleSize = None,
    style_weight: Sequence[float] | None = None,
    device: str = "auto",
    precision: Precision = "auto",
    **settings: Any,
) -> Tensor:
    """Paint `content` in `style`: (B, 3, H, W), RGB in [0, 1], float32, of exactly the content's size.

    Args:
        content: a picture.
        style: a picture, several to mix, or what `encode_style` returned; none for a method that has one of its own.
        method: a name, a file of weights, or, to load it only once, what `prepare` returned, which then also
            settles `device` and `precision`.
        alpha: strength, from 0 (the content as the network rebuilds it) to 1.
        size: shorter side of the content, and so of the result, in pixels; by default as it is.
        style_size: the same for the styles; `content` brings them to the content's.
        style_weight: share of each of several styles.
        device: as `prepare` takes it.
        precision: as `prepare` takes it.
        settings: as `prepare` takes them.

    Raises:
        ValueError: a setting out of range, or anything `prepare` raises.
        OSError: a picture that cannot be read.
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha lies between 0 (content) and 1 (style), not at {alpha}")
    ready = method if isinstance(method, Method) and not settings else prepare(method, device, precision, **settings)
    picture = _tensor(content, size, ready)
    height, width = picture.shape[2:]
    if style_size == "content":
        style_size = min(height, width)
    code = _code(ready, style, style_size, style_weight, alpha)
    with torch.inference_mode():
        painted = ready.stylize(_pad(picture, ready.stride, ready.stride), code, alpha)
    return painted[..., :height, :width].float().clamp(0, 1)


def _code(
    method: Method, style: Any, size: int | None, style_weight: Sequence[float] | None, alpha: float
) -> StyleCode:
    if isinstance(style, dict):
        return style
    if method.styled:
        return encode_style(method, [] if style is None else style, size, style_weight)
    given = {"style": style, "style_size": size, "style_weight": style_weight, "alpha": None if alpha == 1 else alpha}
    if wrong := [name for name, value in given.items() if value is not None]:
        raise ValueError(
            f"{type(method).__name__} paints in the one style it was trained on; leave out {', '.join(wrong)}"
        )
    return {}


def _tensor(picture: Picture, size: int | None, method: Method) -> Tensor:
    """The picture as a batch, where and as the method's weights are."""
    if isinstance(picture, Tensor):
        batch = picture if picture.dim() == 4 else picture[None]
        if batch.dim() != 4 or batch.shape[1] != 3 or not batch.is_floating_point():
            raise ValueError(
                f"a picture is (B, 3, H, W) or (3, H, W), floating; not {tuple(picture.shape)}, {picture.dtype}"
            )
        images.check_size(size)
        if size is not None:
            scale = size / min(batch.shape[2:])
            shape = [max(1, round(side * scale)) for side in batch.shape[2:]]
            batch = F.interpolate(batch, shape, mode="bicubic", antialias=True).clamp(0, 1)
    else:
        batch = images.load_picture(picture, size)
    like = next(itertools.chain(method.parameters(), method.buffers()))
    return batch.to(like.device, like.dtype, memory_format=torch.channels_last)


def _pad(batch: Tensor, stride: int, multiple: int) -> Tensor:
    """Extend right and bottom to a multiple, and to two strides: below, reflection runs out at the deepest layer."""
    height, width = batch.shape[2:]
    down, right = (max(2 * stride, -(-side // multiple) * multiple) - side for side in (height, width))
    mode = "reflect" if down < height and right < width else "replicate"
    return F.pad(batch, (0, right, 0, down), mode=mode) if down or right else batch


def _device(name: str) -> torch.device:
    if name == "auto":
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        name = next((backend for backend, there in available.items() if there), "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name} cannot be used here ({reason:.100}); choose auto, cpu, or another") from error
