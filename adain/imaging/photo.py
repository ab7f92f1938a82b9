"""Images in memory: the `Photo`, and conversions between tensors, arrays, and Pillow images."""

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

STRIP = 256
"""How many rows are converted at once, so that a large picture is not held in several forms."""

WHITE = {torch.uint8: 255, torch.uint16: 65535}
"""The largest value of each integer type that a picture may have."""


@dataclass(frozen=True)
class Photo:
    """A picture as its file holds it: upright, in sRGB, and with what else the file carries."""

    pixels: Tensor
    """(1, 3, H, W), uint8 or uint16, channels last in memory; transparency is laid over white."""
    alpha: Tensor | None = None
    """(1, 1, H, W) of the same type; 0 is transparent."""
    exif: bytes | None = None
    """Without orientation, layout and thumbnail."""
    profile: bool = False
    """Whether the file had a color profile."""


def resize(image: Image.Image, size: int | None) -> Image.Image:
    """`image` with its shorter side at `size` pixels (Lanczos), its aspect kept; None leaves it as it is."""
    sides = scaled(image.size, size)
    return image if sides == image.size else image.resize(sides, Image.Resampling.LANCZOS)


def scaled(sides: tuple[int, int], size: int | None) -> tuple[int, int]:
    """Sides in pixels of which the shorter is at `size`, their ratio kept; None leaves them as they are."""
    width, height = (max(1, round(side * size / min(sides))) if size else side for side in sides)
    return width, height


def image_array(image: Image.Image) -> np.ndarray:
    """The values of an RGB or L picture, (H, W, C), by strips: Pillow's own way takes two copies of all at once."""
    width, height = image.size
    values = np.empty((height, width, len(image.getbands())), np.uint8)
    for top in range(0, height, STRIP):
        strip = np.asarray(image.crop((0, top, width, min(height, top + STRIP))))
        values[top : top + STRIP] = strip.reshape(len(strip), width, -1)
    return values


def as_batch(values: np.ndarray) -> Tensor:
    """(1, C, H, W), channels last, in the memory of (H, W, C) or (H, W)."""
    return torch.from_numpy(values.reshape(*values.shape[:2], -1)).permute(2, 0, 1)[None]


def to_float(pixels: Tensor) -> Tensor:
    """In [0, 1] and float32, whatever their type."""
    return pixels.float() / WHITE.get(pixels.dtype, 1)


def to_tensor(image: Image.Image) -> Tensor:
    """(1, 3, H, W), RGB in [0, 1], channels last in memory, which is both Pillow's order and the faster one."""
    return as_batch(image_array(image)).float().div_(255)


def to_image(picture: Tensor) -> Image.Image:
    """The picture, (1, 3, H, W) or (3, H, W), as `save` takes it; clamped and rounded to 8 bits."""
    return Image.fromarray(to_array(image_planes(picture), torch.uint8))


def image_planes(picture: Tensor) -> Tensor:
    """The image as (3, H, W). Raises ValueError for another shape or type."""
    if picture.dim() == 4 and len(picture) == 1:
        picture = picture[0]
    if picture.dim() != 3 or len(picture) != 3:
        raise ValueError(f"a picture has the shape (3, H, W) or (1, 3, H, W), not {tuple(picture.shape)}")
    if not picture.is_floating_point() and picture.dtype not in WHITE:
        raise ValueError(f"a picture is floating in [0, 1], uint8 or uint16, not {picture.dtype}")
    return picture.detach()


def to_array(planes: Tensor, dtype: torch.dtype) -> np.ndarray:
    """(C, H, W) as (H, W, C) in `dtype`: by strips, or without a copy where only the order differs."""
    if planes.dtype == dtype:
        return planes.cpu().permute(1, 2, 0).contiguous().numpy()
    values = torch.empty((*planes.shape[1:], len(planes)), dtype=dtype)
    scale = WHITE[dtype] / WHITE.get(planes.dtype, 1)
    for rows, strip in zip(values.split(STRIP), planes.split(STRIP, dim=1), strict=True):
        rows.copy_((strip.float() * scale).clamp_(0, WHITE[dtype]).round_().permute(1, 2, 0))
    return values.numpy()


def check_size(size: int | None) -> None:
    """ValueError unless the size is None or at least 1 pixel."""
    if size is not None and size < 1:
        raise ValueError(f"a size is at least 1 pixel, not {size}")
