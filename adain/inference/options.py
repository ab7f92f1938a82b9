"""Types of the options that inference takes."""

from pathlib import Path
from typing import Literal, get_args

from PIL import Image
from torch import Tensor

from adain.methods import StyleCode

Picture = str | Path | Image.Image | Tensor
"""A file, a Pillow image, or a tensor (B, 3, H, W) or (3, H, W), RGB in [0, 1]."""

Style = Picture | StyleCode
"""A picture, a code that `encode_style` returned, or a file with one (`adain.methods.style_codes.save_code`)."""

StyleSize = int | Literal["content"] | None
"""Shorter side of a style in pixels: as it is (at most `LARGEST_STYLE`), a number, or the content's."""

Color = Literal["style", "keep-luminance", "coral"]

COLORS = get_args(Color)

AlphaBlend = Literal["residual", "features"]

ALPHA_BLENDS = get_args(AlphaBlend)
