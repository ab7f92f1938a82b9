"""Masks: where each style applies."""

import math

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor

from adain.imaging import photo, reader
from adain.imaging.reader import ReadOptions
from adain.inference.options import Picture
from adain.utils.errors import ContentError


def load_mask(mask: Picture, pixels: Tensor, feather: float, read_options: ReadOptions) -> Tensor:
    """(1, 1, H, W), uint8, of the size of the pixels; ValueError if it is black, ContentError if of another shape."""
    if isinstance(mask, Tensor):
        mask = photo.to_image(mask.float().reshape(-1, *mask.shape[-2:])[:3].expand(3, -1, -1))
    image = reader.read(mask, max_pixels=read_options.max_pixels, truncated=read_options.truncated)
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
