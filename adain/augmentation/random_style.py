"""`RandomStyle`: a random style as a transform of torchvision."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from adain.augmentation.bank_building import Styles, as_bank
from adain.augmentation.batch_stylization import stylize_batch
from adain.augmentation.network_cache import NetworkCache
from adain.imaging.options import check_size
from adain.imaging.photo import WHITE, check_range
from adain.inference.options import ALPHA_BLENDS, AlphaBlend, check_alpha
from adain.inference.tiling import to_dtype
from adain.methods import Method
from adain.utils.checks import check_choice
from adain.utils.precision import Precision

Draw = Literal["bank", "gaussian"]

PILLOW_MODES = {"L": 1, "LA": 1, "RGB": 3, "RGBA": 3}
"""Modes of Pillow images that are taken, with their number of color channels. A last channel is transparency."""


class RandomStyle(v2.Transform):
    """Stylize images with a probability, in a random style, at a random strength. Shapes stay, textures change.

    It takes and returns what transforms of torchvision do: Pillow images (RGB, L, and with transparency), tensors
    (..., C, H, W) with 1 or 3 channels, `tv_tensors.Image`, and `tv_tensors.Video`; floating point in [0, 1], uint8, or
    uint16. Size and type stay. Everything else in a sample, such as boxes, masks, and labels, is returned unchanged.

    Each image of a batch has its own style, and all frames of a video (..., T, C, H, W) share one. Images of one
    sample, such as a stereo pair, share their style; so do the images at the same position of several batches. As in
    other transforms, plain tensors after the first are not images: wrap a stereo pair as `tv_tensors.Image`.

    The work is done on the device of the image. All draws come from torch's global generator, which a `DataLoader`
    seeds in each worker, and their number does not depend on their values. Gradients do not flow through stylized
    images.

    Args:
        p: Probability that an image is stylized.
        alpha: Strength of the style, from 0 (the image) to 1: the lowest and the highest, or one value.
        styles: A folder of images; the file of a bank (`adain encode-style --style FOLDER`) or a `StyleBank`; one or
            several images or style codes, also as a batch of tensors (N, 3, H, W); None for the embedded bank of
            adain-lite.
        draw: `bank` draws one of the styles, `gaussian` draws new ones from a normal distribution fitted to their
            codes.
        size: Shorter side in pixels at which the network processes the image, which is resized and back (default: its
            own).
        method: adain-lite, adain, or adaconv, a file of their weights, or what `adain.prepare` returned.
        alpha_blend: How an alpha below 1 blends, as in `StyleOptions`: residual, whose alpha 0 is the image, decodes
            twice; features is faster.
        precision: As `adain.prepare` takes it.

    Raises:
        ValueError: An option is out of range; styles of other weights; an image of another type, shape, or range.
        OSError: Weights or styles cannot be read.
    """

    def __init__(
        self,
        p: float = 0.5,
        alpha: float | tuple[float, float] = (0.5, 1.0),
        styles: Styles = None,
        *,
        draw: Draw = "bank",
        size: int | None = None,
        method: str | Path | Method = "adain-lite",
        alpha_blend: AlphaBlend = "residual",
        precision: Precision = "auto",
    ):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"p must be between 0 and 1, got {p:g}")
        check_choice("draw", draw, get_args(Draw))
        check_choice("alpha_blend", alpha_blend, ALPHA_BLENDS)
        check_size(size)
        self.p = p
        self.alpha = _alpha_range(alpha)
        self.draw = draw
        self.size = size
        self.alpha_blend = alpha_blend
        self._networks = NetworkCache(method, precision)
        self._bank = as_bank(styles, self._networks.on(torch.device("cpu")))

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draw, for as many images as the largest batch has: whether to stylize, the strength, and the style."""
        count = max((_style_count(image) for image in flat_inputs if _is_image(image)), default=0)
        chosen = torch.rand(count, dtype=torch.float32) < self.p
        low, high = self.alpha
        alphas = low + (high - low) * torch.rand(count, dtype=torch.float32)
        code = self._bank.draw(count) if self.draw == "bank" else self._bank.draw_new(count)
        return {"chosen": chosen, "alphas": alphas, "code": code}

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Stylize an image, a video, or a batch of them, as drawn."""
        if not _is_image(inpt) or not params["chosen"][: _style_count(inpt)].any():
            return inpt
        if isinstance(inpt, Image.Image):
            return self._stylize_pillow(inpt, params)
        stylized = self._stylize_tensor(inpt.as_subclass(Tensor), params, isinstance(inpt, tv_tensors.Video))
        return tv_tensors.wrap(stylized, like=inpt) if isinstance(inpt, tv_tensors.TVTensor) else stylized

    def _stylize_pillow(self, image: Image.Image, params: dict[str, Any]) -> Image.Image:
        if image.mode not in PILLOW_MODES:
            modes = ", ".join(PILLOW_MODES)
            raise ValueError(f"Expected a Pillow image of mode {modes}, got {image.mode}; use image.convert('RGB')")
        channels = functional.pil_to_tensor(image)
        colors, transparency = channels.tensor_split([PILLOW_MODES[image.mode]])
        stylized = self._stylize_tensor(colors, params, is_video=False)
        return functional.to_pil_image(torch.cat([stylized, transparency]), image.mode)

    def _stylize_tensor(self, images: Tensor, params: dict[str, Any], is_video: bool) -> Tensor:
        """Stylize images (..., C, H, W), or videos (..., T, C, H, W)."""
        _check_images(images)
        frames = images.shape[-4] if is_video else 1
        clips = images.reshape(-1, frames, *images.shape[-3:])
        rows = params["chosen"][: len(clips)].nonzero()[:, 0]
        code = {name: part[rows].repeat_interleave(frames, 0) for name, part in params["code"].items()}
        alphas = params["alphas"][rows].repeat_interleave(frames, 0)
        content = clips[rows.to(images.device)].flatten(0, 1)
        stylized = self._stylize(content, code, alphas)
        if images.shape[-3] == 1:
            stylized = functional.rgb_to_grayscale(stylized)
        result = clips.clone()
        # In a loop, because indexed assignment is not implemented for uint16.
        for row, clip in zip(rows.tolist(), to_dtype(stylized, images.dtype).split(frames), strict=True):
            result[row] = clip
        return result.reshape(images.shape)

    def _stylize(self, content: Tensor, code: dict[str, Tensor], alphas: Tensor) -> Tensor:
        """Stylize images (B, 1 or 3, H, W), and return (B, 3, H, W) in float32."""
        method: Any = self._networks.on(content.device)
        rgb = content.expand(-1, 3, -1, -1)
        # Not inference_mode: its results could not be used in the training that follows.
        with torch.no_grad(), torch.autocast(content.device.type, enabled=False):
            return stylize_batch(method, rgb, code, alphas, self.size, self.alpha_blend == "residual")


def _alpha_range(alpha: float | Sequence[float]) -> tuple[float, float]:
    """Return the lowest and the highest alpha."""
    values = [float(alpha)] if isinstance(alpha, int | float) else [float(value) for value in alpha]
    for value in values:
        check_alpha(value)
    if len(values) > 2 or values != sorted(values) or not values:
        raise ValueError(f"Expected one alpha, or the lowest and the highest, got {alpha}")
    return values[0], values[-1]


def _is_image(inpt: Any) -> bool:
    """Return whether the input is one or more images, and not boxes, masks, or key points."""
    return not isinstance(inpt, tv_tensors.TVTensor) or isinstance(inpt, tv_tensors.Image | tv_tensors.Video)


def _style_count(image: Any) -> int:
    """Return the number of styles that an image, a video, or a batch of them takes."""
    if isinstance(image, Image.Image):
        return 1
    leading = image.shape[: -4 if isinstance(image, tv_tensors.Video) else -3]
    return leading.numel()


def _check_images(images: Tensor) -> None:
    """Raise ValueError unless these are images (..., 1 or 3, H, W) of a type and range that can be stylized."""
    if images.dim() < 3 or images.shape[-3] not in (1, 3):
        raise ValueError(f"Expected images (..., C, H, W) with 1 or 3 channels, got {tuple(images.shape)}")
    if not images.is_floating_point():
        if images.dtype not in WHITE:
            raise ValueError(f"Expected images in floating point, uint8, or uint16, got {images.dtype}")
        return
    check_range(
        images, "apply RandomStyle before Normalize, and scale to [0, 1] with ToDtype(torch.float32, scale=True)"
    )
