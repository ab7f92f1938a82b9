"""Quality figures of stylized pictures, as pure functions of features."""

import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adain.functional import statistics
from adain.functional.losses import Features, content_loss, gram_loss, style_loss
from adain.models.backbones import Backbone
from adain.models.checkpoint_io import CHECKPOINTS, read_file
from adain.utils.extras import require_extra

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
GRAM_LAYERS = (*STYLE_LAYERS, "relu5_1")
CONTENT_LAYER = "relu4_1"

EVAL_SIZE = 256
"""Shorter side in pixels to which pictures are brought before they are judged: stroke size is a question of scale."""


def evaluation_backbone() -> Backbone:
    """The network whose features are compared: VGG-19, normalized weights, reflection padding, max pooling."""
    return Backbone("vgg19", GRAM_LAYERS)


def style_distance(a: Features, b: Features) -> Tensor:
    """Sum over relu1_1 to relu4_1 of the mean squared differences of channel means and standard deviations."""
    return torch.stack([style_loss(a[layer], b[layer]) for layer in STYLE_LAYERS]).sum()


def content_distance(a: Features, content: Features) -> Tensor:
    """Mean squared difference at relu4_1; the map of `a` is resized bilinearly to the content's if need be."""
    target = content[CONTENT_LAYER]
    features = F.interpolate(a[CONTENT_LAYER], target.shape[2:], mode="bilinear")
    return content_loss(features, target)


def gram_distance(a: Features, b: Features) -> Tensor:
    """Sum over relu1_1 to relu5_1 of ||Gram_a - Gram_b||^2 / ||Gram_b||^2."""
    grams = {layer: statistics.gram(b[layer]) for layer in GRAM_LAYERS}
    return torch.stack([gram_loss(a[layer], gram).sum() / gram.square().sum() for layer, gram in grams.items()]).sum()


def ssim(a: Tensor, b: Tensor) -> float:
    """Structural similarity of two pictures (1, 3, H, W) in [0, 1] (Wang et al. 2004); 1 for equal ones."""
    from torchmetrics.functional.image import structural_similarity_index_measure  # comes with Lightning

    result = structural_similarity_index_measure(a, b, data_range=1.0)
    assert isinstance(result, Tensor)
    return result.item()


def scores(stylized: Features, content: Features, style: Features) -> dict[str, float]:
    """How far the result is from what it should be, over how far the unchanged input is; 0 is perfect.

    S and G: from the style, over the content's distance from it, in channel statistics and in Gram matrices.
    C: from the content, over the style's distance from it. The unchanged content has S = G = 1 and C = 0.
    Raises ValueError if content and style are the same.
    """
    apart = style_distance(content, style)
    if not apart:
        raise ValueError("content and style are the same picture; there is nothing to judge")
    ratios = {
        "S": style_distance(stylized, style) / apart,
        "C": content_distance(stylized, content) / content_distance(style, content),
        "G": gram_distance(stylized, style) / gram_distance(content, style),
    }
    return {name: ratio.item() for name, ratio in ratios.items()}


def warping_error(previous: Tensor, current: Tensor, flow: Tensor, visible: Tensor) -> float:
    """Mean squared difference of a frame from the one before, brought along the motion (Lai et al., ECCV 2018).

    `previous` and `current` (1, 3, H, W) in [0, 1]; `flow` (1, 2, H, W), by how many columns and rows each pixel of
    `current` lay elsewhere in `previous`; `visible` (1, 1, H, W), bool, where it was to be seen there. ValueError if
    that is nowhere. The previous frame is sampled bilinearly.
    """
    if not visible.any():
        raise ValueError("nothing of the frame is in the one before; there is no warping error at a scene cut")
    height, width = current.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    places = torch.stack([columns, rows])[None] + flow
    span = torch.tensor([width - 1, height - 1]).clamp(min=1).view(1, 2, 1, 1)
    grid = (2 * places / span - 1).permute(0, 2, 3, 1).to(previous)
    warped = F.grid_sample(previous, grid, padding_mode="border", align_corners=True)
    return (current - warped).square().mean(1, keepdim=True)[visible].mean().item()


class LPIPS(nn.Module):
    """Learned perceptual distance of two pictures, v0.1 with AlexNet (Zhang et al., CVPR 2018); lower is closer.

    The weights are embedded. Squared differences of features, normalized over the channels, are weighted by channel,
    averaged over space and summed over the five layers.
    """

    EPS = 1e-10

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [
                nn.Conv2d(3, 64, 11, stride=4, padding=2),
                nn.Sequential(nn.MaxPool2d(3, 2), nn.Conv2d(64, 192, 5, padding=2)),
                nn.Sequential(nn.MaxPool2d(3, 2), nn.Conv2d(192, 384, 3, padding=1)),
                nn.Conv2d(384, 256, 3, padding=1),
                nn.Conv2d(256, 256, 3, padding=1),
            ]
        )
        state = read_file(CHECKPOINTS / "lpips.safetensors")[0]
        self.channel_weights = [state[f"lin{i}.weight"] for i in range(1, 6)]
        convolutions = (part for part in self.modules() if isinstance(part, nn.Conv2d))
        for i, convolution in enumerate(convolutions, 1):
            weights = {name: state[f"conv{i}.{name}"].float() for name in ("weight", "bias")}
            convolution.load_state_dict(weights)
        self.mean = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
        self.std = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)

    @torch.no_grad()
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """The distances (B,) of two batches (B, 3, H, W), RGB in [0, 1], 64 pixels a side or more."""
        a, b = ((picture * 2 - 1 - self.mean) / self.std for picture in (a, b))
        total = a.new_zeros(len(a))
        for stage, weight in zip(self.stages, self.channel_weights, strict=True):
            a, b = F.relu(stage(a)), F.relu(stage(b))
            difference = (self._normalized(a) - self._normalized(b)).square()
            total += (difference * weight).sum(1).mean((1, 2))
        return total

    def _normalized(self, features: Tensor) -> Tensor:
        return features / (features.norm(dim=1, keepdim=True) + self.EPS)


BLOCK = 128
"""Pixels a side of the blocks whose spectrum `lattice_energy` averages."""


def lattice_energy(picture: Tensor) -> float | None:
    """How much stronger a picture (1, 3, H, W) is at the frequencies of a decoder's upsampling than beside them.

    Upsampling by 2 three times leaves a grid with periods of 2, 4 and 8 pixels. The power spectrum is averaged over
    Hann-windowed blocks, half of which overlap, and over the colors. At each frequency (i/8, j/8) but 0, the largest
    power of the 3 x 3 around it is divided by the median of the 9 x 9 around it without the inner 5 x 5. The result is
    the geometric mean; lower is better, and photos and paintings are at 1.5 to 1.7. None if the picture is smaller
    than a block.
    """
    if min(picture.shape[2:]) < BLOCK:
        return None
    window = torch.hann_window(BLOCK, periodic=False, dtype=torch.float64)
    blocks = picture[0].double().unfold(1, BLOCK, BLOCK // 2).unfold(2, BLOCK, BLOCK // 2)
    blocks = (blocks - blocks.mean((3, 4), keepdim=True)) * window[:, None] * window
    power = torch.fft.fft2(blocks).abs().square().sum((0, 1, 2))
    offsets = torch.arange(-4, 5)
    distance = torch.maximum(offsets[:, None].abs(), offsets.abs())
    logarithms = []
    for i in range(8):
        for j in range(5):  # the spectrum of a real picture is symmetric
            if i == j == 0:
                continue
            rows, columns = ((k * BLOCK // 8 + offsets) % BLOCK for k in (i, j))
            around = power[rows[:, None], columns]
            peak, neighbors = around[distance <= 1].max(), around[distance > 2].quantile(0.5)
            logarithms.append(torch.log(peak / neighbors + 1e-9))
    return torch.stack(logarithms).mean().exp().item()


class InceptionDistance:
    """FID by torchmetrics, of any number of methods side by side, for `adain evaluate --perceptual`.

    FID (Heusel et al. 2017) is the distance of all results from all styles; lower is better. ArtFID (Wright & Ommer
    2022) is (1 + LPIPS) (1 + FID), here with FID's own Inception network. FID is biased upwards by small samples:
    compare only runs on the same pairs. From then on this process loads no file with code in it, whichever library
    asks.

    Raises:
        ValueError: torch-fidelity is not installed.
        OSError: weights that cannot be downloaded.
    """

    def __init__(self) -> None:
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
        with require_extra("metrics", "FID"):
            import torch_fidelity  # noqa: F401
        from torchmetrics.image.fid import FrechetInceptionDistance

        try:
            self.inception = FrechetInceptionDistance(normalize=True)
        except (OSError, RuntimeError) as error:
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            raise OSError(
                f"cannot download FID's network ({error}); put its file into {folder}, or leave out --perceptual"
            ) from error
        self.found: dict[str, Any] = {}

    def add(self, method: str, picture: Tensor, style: Tensor) -> None:
        """Count one result in, both (1, 3, H, W) in [0, 1]."""
        if method not in self.found:
            self.found[method] = deepcopy(self.inception)
        self.found[method].update(style, real=True)
        self.found[method].update(picture, real=False)

    def compute(self, method: str) -> float:
        """Of everything added for this method."""
        return self.found[method].compute().item()
