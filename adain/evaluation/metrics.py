"""Metrics of stylized images: the distances from content and style, and artifacts of upsampling."""

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
"""Shorter side in pixels to which images are resized for evaluation, since metrics depend on the scale of strokes."""

MIN_SIZE = 64  # side in pixels that LPIPS needs


def evaluation_backbone() -> Backbone:
    """Return the network whose features are compared: VGG-19, normalized weights, reflection padding, max pooling."""
    return Backbone("vgg19", GRAM_LAYERS)


def style_distance(a: Features, b: Features) -> Tensor:
    """Return the sum over relu1_1 to relu4_1 of mean squared differences of channel means and standard deviations."""
    return torch.stack([style_loss(a[layer], b[layer]) for layer in STYLE_LAYERS]).sum()


def content_distance(a: Features, content: Features) -> Tensor:
    """Return the mean squared difference at relu4_1.

    If the sizes differ, the features `a` are resized bilinearly to those of the content.
    """
    target = content[CONTENT_LAYER]
    features = F.interpolate(a[CONTENT_LAYER], target.shape[2:], mode="bilinear")
    return content_loss(features, target)


def gram_distance(a: Features, b: Features) -> Tensor:
    """Return the sum over relu1_1 to relu5_1 of ||Gram_a - Gram_b||^2 / ||Gram_b||^2."""
    distances = []
    for layer in GRAM_LAYERS:
        gram = statistics.gram(b[layer])
        distances.append(gram_loss(a[layer], gram).sum() / gram.square().sum())
    return torch.stack(distances).sum()


def ssim(a: Tensor, b: Tensor) -> float:
    """Return the structural similarity of two images (1, 3, H, W) in [0, 1] (Wang et al. 2004).

    Higher is better; equal images give 1.
    """
    from torchmetrics.functional.image import structural_similarity_index_measure  # slow to import

    result = structural_similarity_index_measure(a, b, data_range=1.0)
    assert isinstance(result, Tensor)
    return result.item()


def scores(stylized: Features, content: Features, style: Features) -> dict[str, float]:
    """Return the distances S, C, and G of a stylized image, relative to the distance of content and style.

    Lower is better for all:

    - S, the style distance: from the style, over that of the content from the style, in channel statistics.
    - G, the same in Gram matrices.
    - C, the content distance: from the content, over that of the style from the content.

    The unchanged content has S = G = 1 and C = 0.

    Raises:
        ValueError: Content and style are the same image.
    """
    distance = style_distance(content, style)
    if not distance:
        raise ValueError("Expected different images as content and style, got the same image; choose another style")
    ratios = {
        "S": style_distance(stylized, style) / distance,
        "C": content_distance(stylized, content) / content_distance(style, content),
        "G": gram_distance(stylized, style) / gram_distance(content, style),
    }
    return {name: ratio.item() for name, ratio in ratios.items()}


def warping_error(previous: Tensor, current: Tensor, flow: Tensor, visible: Tensor) -> float:
    """Return the mean squared difference of a frame and the warped previous frame (Lai et al., ECCV 2018).

    Lower is better. The previous frame is sampled bilinearly.

    Args:
        previous: The previous frame, (1, 3, H, W) in [0, 1].
        current: The current frame, (1, 3, H, W) in [0, 1].
        flow: Backward optical flow, (1, 2, H, W): by how many columns and rows the position of each pixel of `current`
            differs in `previous`.
        visible: (1, 1, H, W), bool: which pixels of `current` are visible in `previous`.

    Raises:
        ValueError: No pixel is visible in the previous frame.
    """
    if not visible.any():
        raise ValueError("Expected pixels that are visible in the previous frame, got none, as at a scene cut; skip it")
    height, width = current.shape[2:]
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    positions = torch.stack([columns, rows])[None] + flow
    extent = torch.tensor([width - 1, height - 1]).clamp(min=1).view(1, 2, 1, 1)
    grid = (2 * positions / extent - 1).permute(0, 2, 3, 1).to(previous)
    warped = F.grid_sample(previous, grid, padding_mode="border", align_corners=True)
    return (current - warped).square().mean(1, keepdim=True)[visible].mean().item()


class LPIPS(nn.Module):
    """Learned perceptual image patch similarity, v0.1 with AlexNet (Zhang et al., CVPR 2018); lower is closer.

    The weights are embedded. Features are normalized over the channels. Their squared differences are weighted by
    channel, averaged over space, and summed over the five layers.
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
        convolutions = [module for module in self.modules() if isinstance(module, nn.Conv2d)]
        for i, convolution in enumerate(convolutions, 1):
            weights = {name: state[f"conv{i}.{name}"].float() for name in ("weight", "bias")}
            convolution.load_state_dict(weights)
        self.mean = torch.tensor([-0.030, -0.088, -0.188]).view(3, 1, 1)
        self.std = torch.tensor([0.458, 0.448, 0.450]).view(3, 1, 1)

    @torch.no_grad()
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Return the distances (B,) of two batches (B, 3, H, W), RGB in [0, 1], at least 64 pixels a side."""
        a = self._preprocess(a)
        b = self._preprocess(b)
        total = a.new_zeros(len(a))
        for stage, weight in zip(self.stages, self.channel_weights, strict=True):
            a = F.relu(stage(a))
            b = F.relu(stage(b))
            difference = (self._normalize_channels(a) - self._normalize_channels(b)).square()
            total += (difference * weight).sum(1).mean((1, 2))
        return total

    def _preprocess(self, images: Tensor) -> Tensor:
        return (images * 2 - 1 - self.mean) / self.std

    def _normalize_channels(self, features: Tensor) -> Tensor:
        return features / (features.norm(dim=1, keepdim=True) + self.EPS)


BLOCK = 128
"""Side in pixels of the blocks whose spectra `lattice_energy` averages."""

SPECTRUM_RADIUS = 4
"""Number of frequencies on each side of a peak that `lattice_energy` compares with it."""


def lattice_energy(image: Tensor) -> float | None:
    """Return how much an image exceeds its own spectrum at the frequencies of upsampling.

    Upsampling by 2 three times leaves a grid with periods of 2, 4, and 8 pixels. The power spectrum is averaged over
    Hann-windowed blocks, which overlap by half, and over the colors. At each frequency (i/8, j/8) except 0, the largest
    power of the surrounding 3 x 3 frequencies is divided by the median of the surrounding 9 x 9 frequencies without the
    inner 5 x 5. The result is the geometric mean of these ratios. Lower is better; photos and paintings have 1.5 to
    1.7.

    Args:
        image: (1, 3, H, W).

    Returns:
        The ratio, or None if the image is smaller than a block.
    """
    if min(image.shape[2:]) < BLOCK:
        return None
    power = _power_spectrum(image)
    offsets = torch.arange(-SPECTRUM_RADIUS, SPECTRUM_RADIUS + 1)
    distance = torch.maximum(offsets[:, None].abs(), offsets.abs())
    logarithms = []
    for i in range(8):
        for j in range(5):  # the other half follows from the symmetry of the spectrum
            if i == j == 0:
                continue
            rows = (i * BLOCK // 8 + offsets) % BLOCK
            columns = (j * BLOCK // 8 + offsets) % BLOCK
            neighborhood = power[rows[:, None], columns]
            peak = neighborhood[distance <= 1].max()
            background = neighborhood[distance > 2].quantile(0.5)
            logarithms.append(torch.log(peak / background + 1e-9))
    return torch.stack(logarithms).mean().exp().item()


def _power_spectrum(image: Tensor) -> Tensor:
    """Return the sum of the power spectra of all blocks and colors, (BLOCK, BLOCK) in float64."""
    window = torch.hann_window(BLOCK, periodic=False, dtype=torch.float64)
    blocks = image[0].double().unfold(1, BLOCK, BLOCK // 2).unfold(2, BLOCK, BLOCK // 2)
    blocks = (blocks - blocks.mean((3, 4), keepdim=True)) * window[:, None] * window
    return torch.fft.fft2(blocks).abs().square().sum((0, 1, 2))


class InceptionDistance:
    """FID by torchmetrics of several methods side by side, for `adain evaluate --perceptual`.

    FID (Heusel et al. 2017) is the distance of all results from all styles; lower is better. ArtFID (Wright & Ommer
    2022) is (1 + LPIPS) (1 + FID), here with the Inception network of FID. FID is biased upwards for small samples:
    compare only runs on the same pairs.

    For safety, this process loads only files without code from then on, in all libraries that use `torch.load`.

    Raises:
        ValueError: torch-fidelity is not installed.
        OSError: The weights cannot be downloaded.
    """

    def __init__(self) -> None:
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
        with require_extra("metrics", "FID"):
            import torch_fidelity  # noqa: F401
        from torchmetrics.image.fid import FrechetInceptionDistance

        try:
            self.template = FrechetInceptionDistance(normalize=True)
        except (OSError, RuntimeError) as error:
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            raise OSError(
                f"Cannot download the Inception network of FID ({error}); "
                f"put its file into {folder}, or leave out --perceptual"
            ) from error
        self.distances: dict[str, Any] = {}  # one metric for each method

    def add(self, method: str, image: Tensor, style: Tensor) -> None:
        """Add a result of a method and its style, both (1, 3, H, W) in [0, 1]."""
        if method not in self.distances:
            self.distances[method] = deepcopy(self.template)
        self.distances[method].update(style, real=True)
        self.distances[method].update(image, real=False)

    def compute(self, method: str) -> float:
        """Return the FID of everything that was added for the method."""
        return self.distances[method].compute().item()
