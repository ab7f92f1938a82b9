"""Large photos: the network processes a small copy, and guided upsampling brings the result to full size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adain.imaging import photo, resampling
from adain.imaging.photo import to_float
from adain.imaging.resampling import Upsampler
from adain.inference import guided_upsampling
from adain.inference.guided_upsampling import Layer
from adain.inference.options import WorkSize
from adain.inference.regions import Finish, Layers, Region, blend_regions
from adain.inference.strips import map_strips
from adain.methods import Method

LARGEST_CONTENT = 1024
"""Shorter side in pixels up to which the network processes the content at its own size by default."""

DEFAULT_SIZE = 512
"""Shorter side in pixels at which the network processes larger contents by default."""

Network = Callable[[Tensor, Sequence[Region]], Tensor]
"""Stylizes a small content (B, 3, h, w), float32 in [0, 1], in the given regions, at its own size."""


def resolve_work_size(method: Method, work_size: WorkSize) -> WorkSize:
    """Return the work size for this method: `content` for gatys, which works at several sizes of its own.

    Raises:
        ValueError: A work size in pixels for an iterative method.
    """
    if not method.iterative:
        return work_size
    if work_size is None or work_size == "content":
        return "content"
    name = type(method).__name__
    raise ValueError(f"{name} works at several sizes of its own; leave out work_size, or set it to content")


def work_shape(work_size: WorkSize, shape: Sequence[int]) -> tuple[int, int]:
    """Return the height and width at which the network works on a content of that `shape`; never larger than it."""
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
    regions: Sequence[Region],
    shape: tuple[int, int],
    recolor: Finish | None = None,
    device: torch.device | str = "cpu",
    strip: int = resampling.STRIP,
) -> Tensor:
    """Stylize an image at a small size, and bring the result to full size strip by strip.

    Masks, the residual of the content, and its colors are applied at full size: where nothing is stylized, the result
    is exactly the content.

    Args:
        network: Stylizes at the small size.
        pixels: (B, 3, H, W) in [0, 1], or of `torch.uint8` or `torch.uint16`; the result is alike.
        regions: As `adain.inference.tiling.stylize_tiled` takes them.
        shape: Height and width of the small size.
        recolor: Changes the stylized colors at full size.
        device: Where the full-size result is computed.
        strip: Rows that are computed at a time; the result does not depend on it.
    """
    height, width = pixels.shape[2:]
    with torch.inference_mode():
        guide = resampling.downsample(pixels, shape).contiguous(memory_format=torch.channels_last)
        small = _stylize_small(network, guide, regions, device)
    upsampler = Upsampler(shape, (height, width), device)

    def stylize_rows(rows: slice) -> Tensor:
        content = to_float(pixels[:, :, rows].to(device))
        return _enlarge(small, upsampler, content, rows, regions).over(content, recolor)

    return map_strips(stylize_rows, pixels, strip)


@dataclass(frozen=True)
class _SmallResult:
    """The outputs of the network for the small content."""

    guide: Tensor
    """(B, 3, h, w): the small content."""
    stylized: list[Layer]
    """For each region, without its mask."""
    reconstructed: Layer | None
    """The content as the network reconstructs it; None where nothing is added back."""


def _stylize_small(
    network: Network, guide: Tensor, regions: Sequence[Region], device: torch.device | str
) -> _SmallResult:
    """Stylize the small content in every region."""
    target = guide.to(device)

    def fit(region: Region) -> Layer:
        return guided_upsampling.fit(network(guide, [region]).to(device), target)

    everywhere = [replace(region, mask=None, residual=0.0) for region in regions]
    reconstructed = None
    if any(region.residual for region in regions):
        reconstructed = fit(replace(everywhere[0], alpha=0.0))
    stylized = []
    for region in everywhere:
        # At alpha 0 the network reconstructs the content, whatever the style.
        stylized.append(reconstructed if reconstructed and not region.alpha else fit(region))
    return _SmallResult(target, stylized, reconstructed)


def _enlarge(
    small: _SmallResult, upsampler: Upsampler, content: Tensor, rows: slice, regions: Sequence[Region]
) -> Layers:
    """Enlarge the layers of a strip to full size; `content` (B, 3, number of rows, W) is the strip of the content."""
    detail = content - upsampler.rows(small.guide, rows, "bicubic")

    def enlarge(layer: Layer) -> Tensor:
        return guided_upsampling.upsample(layer, detail, upsampler, rows).clamp_(0, 1)

    def stylize_region(i: int) -> Tensor:
        return enlarge(small.stylized[i])

    def reconstruct() -> Tensor:
        assert small.reconstructed is not None
        return enlarge(small.reconstructed)

    return blend_regions(content, (rows, slice(0, content.shape[3])), regions, stylize_region, reconstruct)
