"""Quality figures of stylised pictures, as pure functions of features."""

import os
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adain import ops
from adain.backbones import Backbone
from adain.extras import needing
from adain.losses import Features, content_loss, gram_loss, style_loss

STYLE_LAYERS = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
GRAM_LAYERS = (*STYLE_LAYERS, "relu5_1")
CONTENT_LAYER = "relu4_1"

SIDE = 256
"""Shorter side in pixels to which pictures are brought before they are judged: stroke size is a question of scale."""


def judge() -> Backbone:
    """The network whose features are compared: VGG-19, normalised weights, reflection padding, max pooling."""
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
    grams = {layer: ops.gram(b[layer]) for layer in GRAM_LAYERS}
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


class Perceptual:
    """LPIPS, FID and ArtFID by torchmetrics, of any number of methods side by side.

    LPIPS (Zhang et al. 2018, AlexNet) is the distance of a result from its content; FID (Heusel et al. 2017) that of
    all results from all styles; ArtFID (Wright & Ommer 2022) is (1 + LPIPS) (1 + FID), here with FID's own Inception
    network. FID is biased upwards by small samples: compare only runs on the same pairs. From then on this process
    loads no file with code in it, whichever library asks.

    Raises:
        ValueError: torch-fidelity is not installed.
        OSError: weights that cannot be downloaded.
    """

    def __init__(self) -> None:
        os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
        with needing("metrics", "FID"):
            import torch_fidelity  # noqa: F401
        from torchmetrics.image.fid import FrechetInceptionDistance
        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        try:
            self.distance = LearnedPerceptualImagePatchSimilarity("alex", normalize=True)
            self.inception = FrechetInceptionDistance(normalize=True)
        except (OSError, RuntimeError) as error:
            folder = Path(torch.hub.get_dir()) / "checkpoints"
            raise OSError(
                f"cannot download the networks of LPIPS and FID ({error}); put their files into {folder}, or do without"
            ) from error
        self.found: dict[str, Any] = {}

    def add(self, method: str, picture: Tensor, content: Tensor, style: Tensor) -> float:
        """Count one result in, all (1, 3, H, W) in [0, 1]; returns its LPIPS."""
        if method not in self.found:
            self.found[method] = deepcopy(self.inception)
        inception = self.found[method]
        inception.update(style, real=True)
        inception.update(picture, real=False)
        with torch.inference_mode():
            return self.distance(picture, content).item()

    def fid(self, method: str) -> float:
        """Of everything added for this method."""
        return self.found[method].compute().item()
