"""Convolutions with predicted kernels (AdaConv)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from adain.functional.statistics import StatisticsFn, compute_statistics, mean_std


def compose(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    """Return the single kernel that equals a depthwise convolution followed by a pointwise one.

    Args:
        depthwise: Kernel (B, C, C / groups, k, k).
        pointwise: Kernel (B, C, C / groups), in the same groups.

    Returns:
        Kernel (B, C, C / groups, k, k).
    """
    channels_per_group = depthwise.shape[2]
    columns = pointwise.unflatten(1, (-1, channels_per_group)).flatten(3)
    rows = depthwise.unflatten(1, (-1, channels_per_group)).flatten(3)
    return (columns @ rows).view(depthwise.shape)


def diagonal_kernel(scale: Tensor, groups: int, size: int) -> Tensor:
    """Return the kernel (B, C, C / groups, size, size) that multiplies each channel by its `scale` (B, C).

    `size` must be odd.
    """
    channels_per_group = scale.shape[1] // groups
    radius = size // 2
    diagonal = scale.unflatten(1, (groups, channels_per_group)).diag_embed().flatten(1, 2)
    return F.pad(diagonal[..., None, None], (radius,) * 4)


def adaconv(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    residual: bool = False,
    statistics_fn: StatisticsFn = compute_statistics,
) -> Tensor:
    """Apply an adaptive convolution: instance-normalize `x`, then convolve each image with its own kernel.

    Chandran et al. 2021, section 3.1. The operation is a single convolution: the normalization and the residual are
    folded into the kernel.

    Args:
        x: Features (B, C, H, W), padded by reflection.
        kernel: Kernels (B or 1, C, C / groups, k, k), with odd k.
        bias: Biases (B or 1, C).
        residual: Whether to add `x` to the result.
        statistics_fn: Computes the mean and standard deviation of `x`.

    Returns:
        Features (B, C, H, W).
    """
    batch, channels = x.shape[:2]
    channels_per_group = kernel.shape[2]
    radius = kernel.shape[-1] // 2
    groups = channels // channels_per_group
    mean, std = statistics_fn(mean_std, x)
    mean = mean.view(batch, groups, 1, channels_per_group)
    std = std.view(batch, groups, 1, channels_per_group)

    grouped = kernel.unflatten(1, (groups, channels_per_group))  # (B, groups, outputs, inputs, k, k)
    grouped = grouped / std[..., None, None]
    bias = bias - (grouped.sum((-2, -1)) @ mean.mT).flatten(1)
    if residual:
        identity = diagonal_kernel(torch.ones_like(bias), groups, kernel.shape[-1])
        grouped = grouped + identity.view_as(grouped)

    x = F.pad(x, (radius,) * 4, "reflect")
    if torch.onnx.is_in_onnx_export():
        return _convolve_by_taps(x, grouped, bias)
    convolve = _convolve_one_by_one if x.device.type == "cpu" else _convolve_together
    return convolve(x, grouped.flatten(1, 2).to(x.dtype), bias.to(x.dtype))


def _convolve_together(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Convolve each image of a batch with its own kernel, in one convolution with the batch folded into the groups.

    Args:
        x: Padded features (B, C, H + k - 1, W + k - 1).
        kernel: Kernels (B, C, C / groups, k, k).
        bias: Biases (B, C).

    Returns:
        Features (B, C, H, W).
    """
    batch, channels = bias.shape
    groups = channels // kernel.shape[2]
    x = x.reshape(1, batch * channels, *x.shape[2:])
    result = F.conv2d(x, kernel.flatten(0, 1), bias.flatten(), groups=batch * groups)
    return result.unflatten(1, (batch, channels)).squeeze(0)


def _convolve_one_by_one(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Convolve each image with its own kernel, one after the other. The arguments are those of `_convolve_together`.

    Folding the batch into the groups would lose the channels_last format, in which CPUs convolve several times faster.
    Even a reshape to the same shape loses it, because PyTorch then treats the single image as contiguous.
    """
    groups = x.shape[1] // kernel.shape[2]
    results = []
    for image, image_kernel, image_bias in zip(x.split(1), kernel, bias, strict=True):
        results.append(F.conv2d(image, image_kernel, image_bias, groups=groups))
    return torch.cat(results) if len(results) > 1 else results[0]


def pool(x: Tensor, size: int) -> Tensor:
    """Return `F.adaptive_avg_pool2d(x, size)`: (B, C, H, W) to (B, C, size, size).

    It is computed by matrix products, so that an exported graph works for any H and W.
    """
    for axis in (2, 3):
        length = x.shape[axis]
        position = torch.arange(length, device=x.device)
        bins = torch.arange(size, device=x.device)[:, None]
        inside = (position * size < (bins + 1) * length) & ((position + 1) * size > bins * length)
        weights = (inside / inside.sum(1, keepdim=True)).to(x.dtype)
        x = (weights @ x.transpose(axis, 2)).transpose(axis, 2)
    return x


def _convolve_by_taps(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Convolve each image with its own kernel, as a sum of one matrix product per kernel tap.

    This is for ONNX, whose convolution has a fixed number of groups and would therefore fix the batch size.

    Args:
        x: Padded features (B, C, H + k - 1, W + k - 1).
        kernel: Kernels (B, groups, outputs, inputs, k, k).
        bias: Biases (B, C).

    Returns:
        Features (B, C, H, W).
    """
    batch, groups, channels_per_group, _, size, _ = kernel.shape
    height = x.shape[2] - size + 1
    width = x.shape[3] - size + 1
    x = x.unflatten(1, (groups, channels_per_group))
    result = bias.to(x.dtype).view(batch, groups, channels_per_group, 1)
    for dy in range(size):
        for dx in range(size):
            shifted = x[..., dy : dy + height, dx : dx + width].flatten(3)
            result = result + kernel[..., dy, dx].to(x.dtype) @ shifted
    return result.view(batch, groups * channels_per_group, height, width)
