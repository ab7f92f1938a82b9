"""Types of the images and styles that inference takes."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from adain.methods import StyleCode

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
"""A file, a Pillow image, an array (H, W, 3) of uint8 or of floats in [0, 1] (other kinds:
`adain.imaging.photo.array_to_tensor`), or a tensor (B, 3, H, W) or (3, H, W), RGB in [0, 1]."""

Style = ImageLike | StyleCode
"""An image, a code that `encode_style` returned, or a file with one (`adain.methods.style_codes.save_code`)."""


def check_image(image: Any) -> None:
    """Raise TypeError unless it is an image of `ImageLike`, or the bytes of an image file."""
    if not isinstance(image, str | os.PathLike | bytes | Image.Image | np.ndarray | Tensor):
        found = type(image).__name__
        raise TypeError(f"Expected an image as a path, a Pillow image, an array, or a tensor, got {found}")
