"""Convolutions with predicted kernels (AdaConv)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from adain.functional.statistics import StatisticsFn, compute_statistics, mean_std


def compose(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    """The one kernel (B, C, C / groups, k, k) that equals a depthwise one and then a pointwise one.

    `depthwise` (B, C, C / groups, k, k) and `pointwise` (B, C, C / groups), in the same groups.
    """
    members = depthwise.shape[2]
    columns, rows = (kernel.unflatten(1, (-1, members)).flatten(3) for kernel in (pointwise, depthwise))
    return (columns @ rows).view(depthwise.shape)


def diagonal_kernel(scale: Tensor, groups: int, size: int) -> Tensor:
    """The kernel (B, C, C / groups, size, size) that multiplies each channel with its `scale`, (B, C)."""
    members, reach = scale.shape[1] // groups, size // 2
    diagonal = scale.unflatten(1, (groups, members)).diag_embed().flatten(1, 2)
    return F.pad(diagonal[..., None, None], (reach,) * 4)


def adaconv(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor,
    residual: bool = False,
    statistics_fn: StatisticsFn = compute_statistics,
) -> Tensor:
    """Adaptive convolution: `x` instance-normalized, then convolved with each picture's own kernel.

    Chandran et al. 2021, section 3.1. `x` (B, C, H, W), its border reflected; `kernel` (B or 1, C, C / groups, k, k),
    k odd; `bias` (B or 1, C). `residual` adds `x`. All of it is one convolution: normalization and `x` itself go into
    the kernel, the batch into the groups.
    """
    batch, channels, height, width = x.shape
    members, reach = kernel.shape[2], kernel.shape[-1] // 2
    groups = channels // members
    mean, std = (statistic.view(batch, groups, 1, members) for statistic in statistics_fn(mean_std, x))
    grouped = kernel.unflatten(1, (groups, members)) / std[..., None, None]  # (B, groups, outputs, inputs, k, k)
    bias = bias - (grouped.sum((-2, -1)) @ mean.mT).flatten(1)
    if residual:
        grouped = grouped + diagonal_kernel(torch.ones_like(bias), groups, kernel.shape[-1]).view_as(grouped)
    x = F.pad(x, (reach,) * 4, "reflect")
    if torch.onnx.is_in_onnx_export():
        return _by_taps(x, grouped, bias)
    x = x.reshape(1, batch * channels, height + 2 * reach, width + 2 * reach)
    folded = grouped.flatten(0, 2).to(x.dtype), bias.flatten().to(x.dtype)
    return F.conv2d(x, *folded, groups=batch * groups).view(batch, channels, height, width)


def pool(x: Tensor, size: int) -> Tensor:
    """As `F.adaptive_avg_pool2d`, (B, C, H, W) to (B, C, size, size), in products whose graph serves any H and W."""
    for axis in (2, 3):
        side, place = x.shape[axis], torch.arange(x.shape[axis], device=x.device)
        bins = torch.arange(size, device=x.device)[:, None]
        inside = (place * size < (bins + 1) * side) & ((place + 1) * size > bins * side)
        x = ((inside / inside.sum(1, keepdim=True)).to(x.dtype) @ x.transpose(axis, 2)).transpose(axis, 2)
    return x


def _by_taps(x: Tensor, kernel: Tensor, bias: Tensor) -> Tensor:
    """Each picture convolved with its own kernel (B, groups, outputs, inputs, k, k), one product for each place in it.

    For ONNX, whose convolution has a fixed number of groups and so would fix the batch.
    """
    batch, groups, members, _, size, _ = kernel.shape
    height, width = (side - size + 1 for side in x.shape[2:])
    x, result = x.unflatten(1, (groups, members)), bias.to(x.dtype).view(batch, groups, members, 1)
    for dy in range(size):
        for dx in range(size):
            part = x[..., dy : dy + height, dx : dx + width].flatten(3)
            result = result + kernel[..., dy, dx].to(x.dtype) @ part
    return result.view(batch, groups * members, height, width)
