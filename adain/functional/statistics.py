"""Statistics of feature maps: means, standard deviations, Gram matrices."""

from collections.abc import Callable
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-5  # added to variances, so that dead channels divide safely


class StatisticsFn(Protocol):
    """Gives a method the statistics of features, such as those that AdaIN replaces.

    A method does not compute these statistics itself. It calls a function of this type wherever it needs them, and the
    caller decides which features count:

    - `compute_statistics`, the default: the given features alone.
    - For an image that is stylized in tiles (`adain.inference.tile_statistics`): the features of all tiles. Each tile
      is only a part of the image, so it must not be normalized by its own statistics, or tiles would differ in color
      and contrast.
    - For a region of an image (`adain.inference.region_matching`): the features within its mask.
    - For a video (`adain.video.temporal`): the features of the earlier frames, too, which avoids flicker.
    """

    def __call__(self, statistic: Callable[[Tensor], Any], features: Tensor, /) -> Any:
        """Return what `statistic` (`mean_std` or `covariance`) gives for the features that count.

        Args:
            statistic: The function of features that is needed.
            features: The features (B, C, H, W) at this place in the network.
        """


def compute_statistics(statistic: Callable[[Tensor], Any], features: Tensor) -> Any:
    """Return the statistic of these features alone."""
    return statistic(features)


def mean_std(features: Tensor, eps: float = EPS) -> tuple[Tensor, Tensor]:
    """Return the mean and standard deviation per image and channel (Huang & Belongie 2017, eqs. 5 and 6).

    >>> mean, std = mean_std(torch.tensor([1.0, 3.0]).view(1, 1, 1, 2))
    >>> print(f"{mean.item():.2f} {std.item():.2f}")
    2.00 1.00

    Args:
        features: Features (B, C, H, W) of any floating-point type.
        eps: Added to the biased variance, so that dead channels divide safely.

    Returns:
        Mean and standard deviation, each (B, C, 1, 1), in at least float32, also under autocast.
    """
    if features.requires_grad:
        return _MeanStd.apply(features, eps)
    return _mean_std(features, eps)


def gram(features: Tensor) -> Tensor:
    """Return Gram matrices F F^T / (C H W) (Johnson et al. 2016, eq. 3).

    The features (B, C, H, W) give matrices (B, C, C) in at least float32, also under autocast.
    """
    with torch.autocast(features.device.type, enabled=False):
        flat = features.flatten(2)
        return _ChannelProducts.apply(flat) / flat[0].numel()


class _ChannelProducts(torch.autograd.Function):
    """F F^T of features (B, C, N), in at least float32.

    The gradient (D + D^T) F is one product, in the type and memory layout of F. Autograd would compute two products and
    their sum.
    """

    @staticmethod
    def forward(flat: Tensor) -> Tensor:
        flat = at_least_float32(flat)
        return flat @ flat.mT

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, difference: Tensor) -> Tensor:
        (flat,) = ctx.saved_tensors
        return (flat.mT @ (difference + difference.mT).to(flat.dtype)).mT


def at_least_float32(x: Tensor) -> Tensor:
    """Return `x` in float32, or in its own type if that is wider."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _mean_std(features: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    # Two passes are faster on a CPU than torch.var_mean, and as accurate, unlike E[x^2] - E[x]^2.
    x = at_least_float32(features)
    mean = x.mean(dim=(2, 3), keepdim=True)
    variance = (x - mean).square_().mean(dim=(2, 3), keepdim=True)
    return mean, (variance + eps).sqrt_()


class _MeanStd(torch.autograd.Function):
    """`_mean_std` with an explicit gradient. Autograd would take twice as many passes over the features."""

    @staticmethod
    def forward(features: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        return _mean_std(features, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(inputs[0], *output)

    @staticmethod
    def backward(ctx: Any, mean_grad: Tensor, std_grad: Tensor) -> tuple[Tensor, None]:
        # d mean / d x = 1 / n and d std / d x = (x - mean) / (n std). The difference is computed in float32: in nearly
        # constant channels, half precision would lose it, and 1 / std would amplify the error.
        features, mean, std = ctx.saved_tensors
        n = features[0, 0].numel()
        gradient = torch.addcmul(mean_grad / n, features - mean, std_grad / (n * std))
        return gradient.to(features.dtype), None


def luminance(image: Tensor) -> Tensor:
    """Return the luminance (B, 1, H, W) of an RGB image (B, 3, H, W), by the weights of ITU-R BT.601 and YIQ."""
    weights = image.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return (image * weights).sum(1, keepdim=True)


def box_mean(values: Tensor, radius: int) -> Tensor:
    """Return the mean over windows of 2 `radius` + 1 pixels per side, (B, C, H, W).

    Pixels outside the image do not count.
    """
    size = 2 * radius + 1
    values = F.avg_pool2d(values, (size, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(values, (1, size), 1, (0, radius), count_include_pad=False)
