"""Types of the images and styles that inference takes."""

from pathlib import Path

from PIL import Image
from torch import Tensor

from adain.methods import StyleCode

ImageLike = str | Path | Image.Image | Tensor
"""A file, a Pillow image, or a tensor (B, 3, H, W) or (3, H, W), RGB in [0, 1]."""

Style = ImageLike | StyleCode
"""An image, a code that `encode_style` returned, or a file with one (`adain.methods.style_codes.save_code`)."""
