"""Masks: where each style applies."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from adain.imaging import photo, reader
from adain.imaging.options import ReadOptions
from adain.inference.image_types import ImageLike, check_image
from adain.utils.errors import ContentError

LARGEST_DIFFERENCE = 0.05
"""By how much the logarithms of the aspect ratios of mask and content may differ."""

ROUGH_SIDE = 16
"""Shorter side in pixels up to which any aspect ratio is accepted: rounding changes those of small contents."""


def load_mask(mask: ImageLike, pixels: Tensor, feather: float, read_options: ReadOptions) -> Tensor:
    """Read a mask and bring it to the size of the content: (1, 1, H, W), uint8, 255 where the style applies.

    Args:
        mask: A file, a Pillow image, an array (h, w), or a tensor (h, w) or (1, 1 or 3, h, w), in [0, 1] or uint8. Its
            transparent areas count as black, because drawing programs export white strokes on a transparent layer.
        pixels: The content (B, 3, H, W).
        feather: Radius in pixels of the Gaussian blur that softens the mask.
        read_options: Which files are accepted.

    Raises:
        TypeError: The mask is something else.
        ValueError: The mask is black everywhere, or an array or tensor of another shape or with values outside [0, 1].
        ContentError: The mask and the content have different aspect ratios.
        OSError: The file cannot be read.
    """
    check_image(mask)
    image = read_mask(_tensor_image(mask) if isinstance(mask, np.ndarray | Tensor) else mask, read_options)
    height, width = pixels.shape[2:]
    difference = abs(math.log(image.width / image.height) - math.log(width / height))
    if difference > LARGEST_DIFFERENCE and min(height, width) > ROUGH_SIDE:
        raise ContentError(
            f"Expected a mask of the aspect ratio of the content, {width}x{height}, got {image.width}x{image.height}"
        )
    image = image.convert("L").resize((width, height), Image.Resampling.BILINEAR)
    if not image.getextrema()[1]:
        raise ValueError("Expected a mask that is white where the style applies, got one that is black everywhere")
    if feather:
        image = image.filter(ImageFilter.GaussianBlur(min(feather, max(width, height))))  # Pillow crashes at 1e12
    return torch.from_numpy(np.array(image))[None, None]


def read_mask(mask: str | Path | Image.Image, read_options: ReadOptions) -> Image.Image:
    """Read a mask, with transparency over black."""
    return reader.read(mask, options=read_options, background=0)


def _tensor_image(mask: np.ndarray | Tensor) -> Image.Image:
    """Convert an array or a tensor to an image."""
    if isinstance(mask, np.ndarray):
        return photo.to_image(photo.array_to_tensor(mask, background=0))
    planes = mask[0] if mask.dim() == 4 and len(mask) == 1 else mask
    planes = planes[None] if planes.dim() == 2 else planes
    if planes.dim() != 3 or len(planes) not in (1, 3) or not planes.numel():
        raise ValueError(f"Expected a mask (h, w) or (1, 1 or 3, h, w), got {tuple(mask.shape)}")
    values = photo.to_float(planes)
    photo.check_range(values, "scale the mask to [0, 1], or give uint8")
    return photo.to_image(values.expand(3, -1, -1))


def stylized_area(masks: Sequence[Tensor], alphas: Sequence[float]) -> Tensor:
    """Return the union (1, 1, H, W), uint8, of the masks whose alpha is above 0: 255 where they cover the content.

    `alphas` has one value for all masks, or one for each.
    """
    if len(alphas) == 1:
        alphas = [alphas[0]] * len(masks)
    visible = [mask for mask, alpha in zip(masks, alphas, strict=True) if alpha > 0]
    if not visible:
        return torch.zeros_like(masks[0])
    return union(visible)


def with_first(masks: Sequence[Tensor]) -> list[Tensor]:
    """Prepend a mask (1, 1, H, W), uint8, for the first style: it covers what the other masks leave uncovered."""
    return [255 - union(masks), *masks]


def union(masks: Sequence[Tensor]) -> Tensor:
    """Return how much all masks together cover the content: (1, 1, H, W), uint8."""
    return torch.stack([*masks]).sum(0, dtype=torch.int32).clamp(max=255).to(torch.uint8)
