"""Inception-v3 features from a local file of weights, and the Frechet distance between sets of features (FID)."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adain.models.checkpoint_io import read_file
from adain.utils.errors import shortened

FEATURES = 2048
IMAGENET_SIZE = 299  # side in pixels at which the weights of torchvision were trained
MIN_SIZE = 75  # side in pixels below which the feature maps are smaller than the last kernels
HEADS = ("fc.", "fc1.", "fc2.", "AuxLogits.", "AuxLogits1.", "AuxLogits2.")

EXPECTED = (
    "art_inception.pth of the ArtFID authors (https://huggingface.co/matthias-wright/art_inception), "
    "or torchvision's inception_v3_google-0cc3c7bd.pth (https://download.pytorch.org/models)"
)
"""The files that `InceptionFeatures` reads, and where they can be obtained."""


class InceptionFeatures(nn.Module):
    """The 2048 pooled features of the `inception_v3` of torchvision (Szegedy et al., CVPR 2016), from a local file.

    Two files are supported, and each determines how images are preprocessed:

    - `art_inception.pth`, the weights with which the authors of ArtFID (Wright & Ommer, GCPR 2022) and of StyleID
      published their numbers. They take RGB in [0, 1] at the size of the image. Only these weights give comparable
      ArtFID values.
    - The ImageNet weights of torchvision, recognized by their classifier of 1000 classes. They take RGB in [-1, 1],
      resized to 299 x 299 px.

    Neither is the TensorFlow network of the original FID (Heusel et al., 2017; `pt_inception-2015-12-05.pth` in
    PyTorch). That network has 1008 outputs, excludes padding from its average pooling, and uses max pooling in its last
    block, so that its FID values differ from both. Its file is rejected.

    Args:
        path: A safetensors file, or a state dict written by `torch.save`.

    Raises:
        ValueError: The file has weights of another network, or cannot be read.
        OSError: The file does not exist.
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
                f"Expected weights of inception_v3 in {path}: {EXPECTED}; got other weights ({shortened(reason, 200)})"
            ) from error
        self.network = network.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor:
        """Return the features (B, 2048) of images (B, 3, H, W), RGB in [0, 1].

        Raises:
            ValueError: The images are smaller than 75 px a side.
        """
        if self.imagenet:
            size = (IMAGENET_SIZE, IMAGENET_SIZE)
            images = F.interpolate(images, size, mode="bilinear", antialias=True) * 2 - 1
        if min(images.shape[2:]) < MIN_SIZE:
            height, width = images.shape[2:]
            raise ValueError(f"Expected images of at least {MIN_SIZE} px a side for Inception, got {width} x {height}")
        return self.network(images)


def _has_imagenet_classifier(state: object, path: str | Path) -> bool:
    """Return whether the weights are those of torchvision.

    Raises:
        ValueError: The file is not a state dict, or it has the TensorFlow network of FID.
    """
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(
            f"Expected a state dict of tensors in {path}, got a {type(state).__name__} with other contents"
        )
    classes = len(state["fc.weight"]) if "fc.weight" in state else 0
    if classes == 1008:
        raise ValueError(
            f"Expected {EXPECTED}, got the TensorFlow FID network (1008 classes), whose pooling is different"
        )
    return classes == 1000


def frechet_distance(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """Return the squared Frechet distance of two Gaussians, |m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)).

    The formula is from Dowson & Landau (1982); it is computed in float64. The trace of the root is that of
    (C_a^(1/2) C_b C_a^(1/2))^(1/2), whose argument is symmetric: its eigenvalues are real, and singular covariances
    (from fewer images than features) need no correction. Equal Gaussians give 0.

    Args:
        mean_a: (D,), in any floating-point type.
        covariance_a: (D, D).
        mean_b: (D,).
        covariance_b: (D, D).
    """
    mean_a = mean_a.double()
    mean_b = mean_b.double()
    covariance_a = covariance_a.double()
    covariance_b = covariance_b.double()
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    product = root @ covariance_b @ root
    root_trace = torch.linalg.eigvalsh((product + product.T) / 2).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * root_trace
    return max(distance.item(), 0.0)


def frechet_inception_distance(a: Tensor, b: Tensor) -> float:
    """Return the FID (Heusel et al., 2017) of two sets of features (N, D) and (M, D); lower is closer.

    The covariances have the denominators N - 1 and M - 1.

    Raises:
        ValueError: A set has fewer than two samples.
    """
    if min(len(a), len(b)) < 2:
        raise ValueError(f"Expected at least 2 images in each set for FID, got {len(a)} and {len(b)}")
    return frechet_distance(a.mean(0), torch.cov(a.double().T), b.mean(0), torch.cov(b.double().T))
