"""Large photos: the network sees a small copy, and guided upsampling brings the result to full size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from adain.imaging import photo, resampling
from adain.imaging.photo import to_float
from adain.imaging.resampling import Upsampler
from adain.inference import guided_upsampling, tiling
from adain.inference.guided_upsampling import Layer
from adain.inference.tiling import Finish, Region
from adain.methods import Method

WorkSize = int | Literal["content"] | None
"""Shorter side in pixels at which the network works; None for `DEFAULT_SIZE` above `LARGEST_CONTENT`."""

LARGEST_CONTENT = 1024
"""Shorter side in pixels up to which the network sees the content at its own size by default."""

DEFAULT_SIZE = 512
"""Shorter side in pixels at which the network sees larger contents by default."""

SMALLEST = 64
"""The smallest work size in pixels."""

Network = Callable[[Tensor, Sequence[Region]], Tensor]
"""Stylizes a small content (B, 3, h, w), float32 in [0, 1], with brushes, at its own size."""


def work_size_for(method: Method, work_size: WorkSize) -> WorkSize:
    """The work size as the method takes it: `content` for gatys, which works at several sizes of its own.

    Raises:
        ValueError: neither None, `content`, nor at least `SMALLEST` pixels; or pixels for an iterative method.
    """
    if work_size is None or work_size == "content":
        return "content" if method.iterative else work_size
    if isinstance(work_size, bool) or not isinstance(work_size, int) or work_size < SMALLEST:
        raise ValueError(f"work_size must be content or at least {SMALLEST} pixels, got {work_size}")
    if method.iterative:
        name = type(method).__name__
        raise ValueError(f"{name} works at several sizes of its own; leave out work_size, or set it to content")
    return work_size


def work_shape(work_size: WorkSize, shape: Sequence[int]) -> tuple[int, int]:
    """Height and width at which the network works on a content of height and width `shape`; never larger than it."""
    height, width = shape
    shorter = min(height, width)
    if work_size is None:
        work_size = DEFAULT_SIZE if shorter > LARGEST_CONTENT else "content"
    if work_size == "content" or work_size >= shorter:
        return height, width
    return photo.scaled((height, width), work_size)


def stylize(
    network: Network,
    pixels: Tensor,
    brushes: Sequence[Region],
    shape: tuple[int, int],
    recolor: Finish | None = None,
    device: torch.device | str = "cpu",
    strip: int = resampling.STRIP,
) -> Tensor:
    """The picture stylized with every brush at a small size, and brought to full size strip by strip.

    Masks, what is added back of the content, and its colors are taken at full size: where nothing is stylized the
    result is the content exactly.

    Args:
        network: stylizes at the small size.
        pixels: (B, 3, H, W) in [0, 1], or of `torch.uint8` or `torch.uint16`; the result is alike.
        brushes: as `tiling.paint` takes them.
        shape: height and width of the small size.
        recolor: what is done to the stylized colors at full size.
        device: where the full-size result is computed.
        strip: rows that are computed at a time; the result does not depend on it.
    """
    result = torch.empty_like(pixels)  # outside of inference mode, so that it can be changed
    height, width = pixels.shape[2:]
    with torch.inference_mode():
        guide = resampling.downsample(pixels, shape).contiguous(memory_format=torch.channels_last)
        layers = _layers(network, guide, brushes, device)
        upsampler = Upsampler(shape, (height, width), device)
        for rows in resampling.strips(height, strip):
            content = to_float(pixels[:, :, rows].to(device))
            stylized = _enlarge(layers, upsampler, content, rows, brushes).over(content, recolor)
            result[:, :, rows].copy_(tiling.rounded(stylized, pixels.dtype))
    return result


@dataclass(frozen=True)
class _Small:
    """What the network makes of the small content."""

    guide: Tensor
    """(B, 3, h, w): the small content."""
    stylized: list[Layer]
    """By each brush, without its mask."""
    rebuilt: Layer | None
    """The content as the network rebuilds it; None where nothing is added back."""


def _layers(network: Network, guide: Tensor, brushes: Sequence[Region], device: torch.device | str) -> _Small:
    """What the network makes of the small content, for each brush."""
    target = guide.to(device)

    def layer(brush: Region) -> Layer:
        return guided_upsampling.fit(network(guide, [brush]).to(device), target)

    everywhere = [replace(brush, mask=None, residual=0.0) for brush in brushes]
    rebuilt = None
    if any(brush.residual for brush in brushes):
        rebuilt = layer(replace(everywhere[0], alpha=0.0))
    # At alpha 0 the network rebuilds the content, whatever the style.
    stylized = [rebuilt if rebuilt and not brush.alpha else layer(brush) for brush in everywhere]
    return _Small(target, stylized, rebuilt)


def _enlarge(
    small: _Small, upsampler: Upsampler, content: Tensor, rows: slice, brushes: Sequence[Region]
) -> tiling.Layers:
    """The layers of a strip at full size; `content` (B, 3, number of rows, W) is the strip of the content."""
    detail = content - upsampler.rows(small.guide, rows, "bicubic")

    def enlarge(layer: Layer) -> Tensor:
        return guided_upsampling.upsample(layer, detail, upsampler, rows).clamp_(0, 1)

    def stroke(i: int) -> Tensor:
        return enlarge(small.stylized[i])

    def rebuild() -> Tensor:
        assert small.rebuilt is not None
        return enlarge(small.rebuilt)

    return tiling.mix(content, (rows, slice(0, content.shape[3])), brushes, stroke, rebuild)
