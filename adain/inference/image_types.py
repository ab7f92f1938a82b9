"""Types of the images and styles that inference takes."""

from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from adain.methods import StyleCode

ImageLike = str | Path | Image.Image | np.ndarray | Tensor
"""A file, a Pillow image, an array (H, W, 3) of uint8 or of floats in [0, 1] (other kinds:
`adain.imaging.photo.array_to_tensor`), or a tensor (B, 3, H, W) or (3, H, W), RGB in [0, 1]."""

Style = ImageLike | StyleCode
"""An image, a code that `encode_style` returned, or a file with one (`adain.methods.style_codes.save_code`)."""
