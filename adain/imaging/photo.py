"""Images in memory: the `Photo`, and conversions between tensors, arrays, and Pillow images."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

STRIP = 256
"""Rows that are converted at a time, so that a large image is not held in memory in several types at once."""

WHITE = {torch.uint8: 255, torch.uint16: 65535}
"""The value of white for each integer type of images."""


FLOAT_RANGE = (-0.5, 1.5)
"""Values outside this range indicate a normalized image, or one in [0, 255]. Resizing may overshoot [0, 1]."""


@dataclass(frozen=True)
class Photo:
    """An image from a file, rotated upright and converted to sRGB, with its transparency and metadata."""

    pixels: Tensor
    """(1, 3, H, W), uint8 or uint16, channels last in memory; transparency is composited over white."""
    alpha: Tensor | None = None
    """(1, 1, H, W) of the same type; 0 is transparent."""
    exif: bytes | None = None
    """EXIF data without orientation, layout, and thumbnail."""
    profile: bool = False
    """Whether the file had a color profile."""


def resize(image: Image.Image, size: int | None) -> Image.Image:
    """Resize the image to a shorter side of `size` pixels (Lanczos), keeping its aspect ratio; None keeps its size."""
    return resize_to(image, scaled(image.size, size))


def resize_to(image: Image.Image, sides: tuple[int, int]) -> Image.Image:
    """Resize the image to width and height in pixels (Lanczos)."""
    if sides == image.size:
        return image
    return image.resize(sides, Image.Resampling.LANCZOS)


def scaled(sides: tuple[int, int], size: int | None) -> tuple[int, int]:
    """Scale the two sides in pixels so that the shorter one is `size`; None keeps them."""
    if not size:
        return sides
    shorter = min(sides)
    return max(1, round(sides[0] * size / shorter)), max(1, round(sides[1] * size / shorter))


def limited_side(sides: tuple[int, int], size: int, max_ratio: float) -> int:
    """Return the shorter side in pixels to which to resize an image with these sides.

    It is `size` up to the aspect ratio `max_ratio`. More elongated images get a smaller side, so that they do not have
    more pixels than an image with this aspect ratio and the shorter side `size`.
    """
    shorter, longer = sorted(sides)
    return max(1, min(size, int(size * math.sqrt(max_ratio * shorter / longer))))


def image_array(image: Image.Image) -> np.ndarray:
    """Copy the values of an RGB or L image, (H, W, C), in strips: at once, Pillow would need two more copies."""
    width, height = image.size
    values = np.empty((height, width, len(image.getbands())), np.uint8)
    for top in range(0, height, STRIP):
        strip = np.asarray(image.crop((0, top, width, min(height, top + STRIP))))
        values[top : top + STRIP] = strip.reshape(len(strip), width, -1)
    return values


def as_batch(values: np.ndarray) -> Tensor:
    """Return a view (1, C, H, W), channels last, of values (H, W, C) or (H, W)."""
    return torch.from_numpy(values.reshape(*values.shape[:2], -1)).permute(2, 0, 1)[None]


def to_float(pixels: Tensor) -> Tensor:
    """Convert pixels of any type to float32 in [0, 1]."""
    return pixels.float() / WHITE.get(pixels.dtype, 1)


def check_range(images: Tensor, advice: str) -> None:
    """Raise ValueError, with advice at its end, unless images in floating point are about in [0, 1]."""
    low, high = images.detach().aminmax()
    if not (low >= FLOAT_RANGE[0] and high <= FLOAT_RANGE[1]):  # NaN is refused, too
        raise ValueError(f"Expected floating-point images in [0, 1], got values from {low:g} to {high:g}; {advice}")


def to_tensor(image: Image.Image) -> Tensor:
    """Convert an image to (1, 3, H, W), RGB in [0, 1].

    The result is channels last in memory, which is Pillow's order and faster in convolutions.
    """
    return as_batch(image_array(image)).float().div_(255)


def array_to_tensor(values: np.ndarray, background: float = 1.0) -> Tensor:
    """Convert an array (H, W), or (H, W, C) with 1, 3, or 4 channels, to (1, 3, H, W), RGB in [0, 1], float32.

    The fourth channel is transparency, which is composited over a gray of 0 (black) to 1 (white).

    Raises:
        ValueError: Another shape, a type other than bool, uint8, uint16, and floating point, or floats outside [0, 1].
    """
    channels = values.shape[2] if values.ndim == 3 else 1
    if values.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in values.shape:
        raise ValueError(f"Expected an array (H, W), (H, W, 1), (H, W, 3), or (H, W, 4), got {values.shape}")
    if values.dtype.kind != "f" and values.dtype not in (np.bool_, np.uint8, np.uint16):
        raise ValueError(f"Expected an array of bool, uint8, uint16, or floating point, got {values.dtype}")
    if values.dtype.kind == "f" and not (values.min() >= 0 and values.max() <= 1):
        found = f"{values.min():g} to {values.max():g}"
        raise ValueError(f"Expected floating-point values in [0, 1], got {found}; scale them, or give uint8")
    white = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 1
    pixels = as_batch(values.astype(np.float32) / white)
    if channels == 4:
        color, alpha = pixels[:, :3], pixels[:, 3:]
        pixels = color * alpha + background * (1 - alpha)
    return pixels.expand(-1, 3, -1, -1)


def to_image(image: Tensor) -> Image.Image:
    """Convert (1, 3, H, W) or (3, H, W) to a Pillow image, clamped and rounded to 8 bits."""
    return Image.fromarray(to_array(image_planes(image), torch.uint8))


def image_planes(image: Tensor) -> Tensor:
    """Return the image as (3, H, W).

    Raise TypeError for anything but a tensor, ValueError for another shape or dtype.
    """
    if not isinstance(image, Tensor):
        raise TypeError(f"Expected an image as a tensor (3, H, W) or (1, 3, H, W), got {type(image).__name__}")
    if image.dim() == 4 and len(image) == 1:
        image = image[0]
    if image.dim() != 3 or len(image) != 3:
        raise ValueError(f"Expected an image (3, H, W) or (1, 3, H, W), got {tuple(image.shape)}")
    if not image.is_floating_point() and image.dtype not in WHITE:
        raise ValueError(f"Expected an image in floating point, uint8, or uint16, got {image.dtype}")
    return image.detach()


def to_array(planes: Tensor, dtype: torch.dtype) -> np.ndarray:
    """Convert planes (C, H, W) to an array (H, W, C) of `dtype`, in strips. No copy if only the order differs."""
    if planes.dtype == dtype:
        return planes.cpu().permute(1, 2, 0).contiguous().numpy()
    values = torch.empty((*planes.shape[1:], len(planes)), dtype=dtype)
    scale = WHITE[dtype] / WHITE.get(planes.dtype, 1)
    for rows, strip in zip(values.split(STRIP), planes.split(STRIP, dim=1), strict=True):
        rows.copy_((strip.float() * scale).clamp_(0, WHITE[dtype]).round_().permute(1, 2, 0))
    return values.numpy()
