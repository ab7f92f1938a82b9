"""Inception-v3 features from a local file of weights, and the Frechet distance between sets of features (FID)."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adain.models.checkpoint_io import read_file
from adain.utils.errors import shortened

FEATURES = 2048
IMAGENET_SIZE = 299  # pixels a side that torchvision's weights were trained with
SMALLEST = 75  # pixels a side below which the last convolutions have nothing to work on
HEADS = ("fc.", "fc1.", "fc2.", "AuxLogits.", "AuxLogits1.", "AuxLogits2.")

EXPECTED = (
    "art_inception.pth of the ArtFID authors (https://huggingface.co/matthias-wright/art_inception), "
    "or torchvision's inception_v3_google-0cc3c7bd.pth (https://download.pytorch.org/models)"
)
"""The files that `InceptionFeatures` reads, and where they can be obtained."""


class InceptionFeatures(nn.Module):
    """The 2048 pooled features of torchvision's `inception_v3` (Szegedy et al., CVPR 2016), from a local file.

    Two files fit, and each sets how pictures are preprocessed:

    - `art_inception.pth`, with which the ArtFID authors (Wright & Ommer, GCPR 2022) and StyleID published their
      numbers. It takes RGB in [0, 1] at the size of the picture. Only these weights give comparable ArtFID values.
    - torchvision's ImageNet weights, recognized by their classifier of 1000 classes. They take RGB in [-1, 1], resized
      to 299 x 299 px.

    Neither is the TensorFlow network of the original FID (Heusel et al., 2017; `pt_inception-2015-12-05.pth` in
    PyTorch). That one was trained with 1008 outputs, leaves padding out of its average pooling, and has max pooling in
    its last block, so its FID values differ from both. Its file is refused.

    Args:
        path: a safetensors file, or a state dict written by `torch.save`.

    Raises:
        ValueError: weights of another network, or a file that cannot be read.
        OSError: no such file.
    """

    def __init__(self, path: str | Path):
        super().__init__()
        from torchvision.models import inception_v3

        state = read_file(path)[0]
        self.imagenet = _has_imagenet_classifier(state, path)
        with torch.device("meta"):  # the file fills every weight
            network = inception_v3(weights=None, aux_logits=False, init_weights=False)
        network.fc = nn.Identity()
        trunk = {name: tensor.float() for name, tensor in state.items() if not name.startswith(HEADS)}
        try:
            network.load_state_dict(trunk, assign=True)
        except RuntimeError as error:
            reason = " ".join(str(error).split())
            raise ValueError(
                f"Expected weights of inception_v3 in {path}: {EXPECTED}; got others ({shortened(reason, 200)})"
            ) from error
        self.network = network.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        """Features (B, 2048) of pictures (B, 3, H, W), RGB in [0, 1]; ValueError below 75 px a side."""
        if self.imagenet:
            size = (IMAGENET_SIZE, IMAGENET_SIZE)
            pictures = F.interpolate(pictures, size, mode="bilinear", antialias=True) * 2 - 1
        if min(pictures.shape[2:]) < SMALLEST:
            height, width = pictures.shape[2:]
            raise ValueError(
                f"Expected pictures of at least {SMALLEST} px a side for Inception, got {width} x {height}"
            )
        return self.network(pictures)


def _has_imagenet_classifier(state: object, path: str | Path) -> bool:
    """Whether the file is torchvision's; ValueError if it is no state dict, or the TensorFlow FID network."""
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"Expected a state dict of tensors in {path}; got a {type(state).__name__} of something else")
    classes = len(state["fc.weight"]) if "fc.weight" in state else 0
    if classes == 1008:
        raise ValueError(f"Expected {EXPECTED}; got the TensorFlow FID network (1008 classes), which pools differently")
    return classes == 1000


def frechet_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """The squared Frechet distance of two Gaussians, |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    Means are (D,), covariances (D, D), in any floating type; computed in float64 (Dowson & Landau, 1982). The trace of
    the root is that of (C_a^(1/2) C_b C_a^(1/2))^(1/2), whose argument is symmetric: its eigenvalues are real, and
    singular covariances (fewer pictures than features) need no correction. Equal Gaussians give 0.
    """
    mean_a, covariance_a, mean_b, covariance_b = (x.double() for x in (mean_a, covariance_a, mean_b, covariance_b))
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = root @ covariance_b @ root
    root_trace = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * root_trace
    return max(distance.item(), 0.0)


def frechet_inception_distance(a: Tensor, b: Tensor) -> float:
    """FID (Heusel et al., 2017) of two sets of features (N, D) and (M, D); lower is closer.

    The covariances have the denominators N - 1 and M - 1. ValueError below two samples in a set.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"Expected at least 2 pictures in each set for FID, got {len(a)} and {len(b)}")
    return frechet_distance(a.mean(0), torch.cov(a.double().T), b.mean(0), torch.cov(b.double().T))
