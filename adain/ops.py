"""Pure functions of feature maps: channel statistics and adaptive instance normalisation."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def mean_std(features: Tensor, eps: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Per-picture, per-channel mean and standard deviation over space (Huang & Belongie 2017, eq. 5 and 6).

    `features` (B, C, H, W) of any floating type; both results (B, C, 1, 1) in float32 at least, also under autocast.
    The variance is biased and `eps` is added to it, so that dead channels divide safely.
    """
    return _MeanStd.apply(features, eps) if features.requires_grad else _statistics(features, eps)


def adain(content: Tensor, style_mean: Tensor, style_std: Tensor, eps: float = 1e-5) -> Tensor:
    """AdaIN(x, y) = std(y) (x - mean(x)) / std(x) + mean(y) (Huang & Belongie 2017, eq. 8).

    `content` (B, C, H, W), `style_mean` and `style_std` (B or 1, C, 1, 1); the result has the shape and type of
    `content`. A channel of `content` that is constant comes out as the constant `style_mean`.
    """
    mean, std = mean_std(content, eps)
    scale = style_std / std
    return torch.addcmul(style_mean - mean * scale, content, scale).to(content.dtype)  # one pass over the features


def gram(features: Tensor) -> Tensor:
    """Gram matrices F F^T / (C H W) of (B, C, H, W): (B, C, C) in float32 at least (Johnson et al. 2016, eq. 3)."""
    with torch.autocast(features.device.type, enabled=False):
        flat = widened(features).flatten(2)
        return flat @ flat.mT / flat[0].numel()


def widened(x: Tensor) -> Tensor:
    """`x` in float32 at least."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _statistics(features: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    # Two plain passes: faster on a CPU than torch.var_mean, and as accurate, unlike E[x^2] - E[x]^2.
    x = widened(features)
    mean = x.mean(dim=(2, 3), keepdim=True)
    return mean, ((x - mean).square_().mean(dim=(2, 3), keepdim=True) + eps).sqrt_()


class _MeanStd(torch.autograd.Function):
    """`_statistics` with its gradient written out: autograd would take twice the passes over the features."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, eps: float) -> tuple[Tensor, Tensor]:
        mean, std = _statistics(features, eps)
        ctx.save_for_backward(features, mean, std)
        return mean, std

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, mean_grad: Tensor, std_grad: Tensor) -> tuple[Tensor, None]:
        # d mean / d x = 1 / n and d std / d x = (x - mean) / (n std). The difference is taken in float32: in nearly
        # flat channels half precision would lose it, and 1 / std blow up what is left.
        features, mean, std = ctx.saved_tensors
        n = features[0, 0].numel()
        return torch.addcmul(mean_grad / n, features - mean, std_grad / (n * std)).to(features.dtype), None
