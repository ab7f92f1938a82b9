"""Pure functions of feature maps: channel statistics and adaptive instance normalisation."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

EPS = 1e-5  # added to variances, so that dead channels divide safely

Measure = Callable[[Callable[[Tensor], Any], Tensor], Any]
"""Takes a statistic (`mean_std` or `covariance`) of features: `whole`, or what `adain.tiling` knows of all tiles."""


def whole(statistic: Callable[[Tensor], Any], features: Tensor) -> Any:
    """The statistic of just these features."""
    return statistic(features)


def mean_std(features: Tensor, eps: float = EPS) -> tuple[Tensor, Tensor]:
    """Per-picture, per-channel mean and standard deviation over space (Huang & Belongie 2017, eq. 5 and 6).

    `features` (B, C, H, W) of any floating type; both results (B, C, 1, 1) in float32 at least, also under autocast.
    The variance is biased and `eps` is added to it, so that dead channels divide safely.
    """
    return _MeanStd.apply(features, eps) if features.requires_grad else _statistics(features, eps)


def adain(content: Tensor, style_mean: Tensor, style_std: Tensor, measure: Measure = whole) -> Tensor:
    """AdaIN(x, y) = std(y) (x - mean(x)) / std(x) + mean(y) (Huang & Belongie 2017, eq. 8).

    `content` (B, C, H, W), `style_mean` and `style_std` (B or 1, C, 1, 1); the result has the shape and type of
    `content`. A channel of `content` that is constant comes out as the constant `style_mean`.
    """
    mean, std = measure(mean_std, content)
    scale = style_std / std
    return torch.addcmul(style_mean - mean * scale, content, scale).to(content.dtype)  # one pass over the features


def compose(depthwise: Tensor, pointwise: Tensor) -> Tensor:
    """The one kernel (B, C, C / groups, k, k) that equals a depthwise one and then a pointwise one.

    `depthwise` (B, C, C / groups, k, k) and `pointwise` (B, C, C / groups), in the same groups.
    """
    members = depthwise.shape[2]
    columns, rows = (kernel.unflatten(1, (-1, members)).flatten(3) for kernel in (pointwise, depthwise))
    return (columns @ rows).view(depthwise.shape)


def centred(scale: Tensor, groups: int, size: int) -> Tensor:
    """The kernel (B, C, C / groups, size, size) that multiplies each channel with its `scale`, (B, C)."""
    members, reach = scale.shape[1] // groups, size // 2
    diagonal = scale.unflatten(1, (groups, members)).diag_embed().flatten(1, 2)
    return F.pad(diagonal[..., None, None], (reach,) * 4)


def adaconv(x: Tensor, kernel: Tensor, bias: Tensor, residual: bool = False, measure: Measure = whole) -> Tensor:
    """Adaptive convolution: `x` instance-normalised, then convolved with each picture's own kernel.

    Chandran et al. 2021, section 3.1. `x` (B, C, H, W), its border reflected; `kernel` (B or 1, C, C / groups, k, k),
    k odd; `bias` (B or 1, C). `residual` adds `x`. All of it is one convolution: normalisation and `x` itself go into
    the kernel, the batch into the groups.
    """
    batch, channels, height, width = x.shape
    members, reach = kernel.shape[2], kernel.shape[-1] // 2
    groups = channels // members
    mean, std = (statistic.view(batch, groups, 1, members) for statistic in measure(mean_std, x))
    grouped = kernel.unflatten(1, (groups, members)) / std[..., None, None]  # (B, groups, outputs, inputs, k, k)
    bias = bias - (grouped.sum((-2, -1)) @ mean.mT).flatten(1)
    if residual:
        grouped = grouped + centred(torch.ones_like(bias), groups, kernel.shape[-1]).view_as(grouped)
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


def gram(features: Tensor) -> Tensor:
    """Gram matrices F F^T / (C H W) of (B, C, H, W): (B, C, C) in float32 at least (Johnson et al. 2016, eq. 3)."""
    with torch.autocast(features.device.type, enabled=False):
        flat = features.flatten(2)
        return _Products.apply(flat) / flat[0].numel()


class _Products(torch.autograd.Function):
    """F F^T of (B, C, N), in float32 at least.

    Its gradient (D + D^T) F is one product, in the type and the layout of F; autograd's own would be two, and a sum.
    """

    @staticmethod
    def forward(ctx: Any, flat: Tensor) -> Tensor:
        ctx.save_for_backward(flat)
        flat = widened(flat)
        return flat @ flat.mT

    @staticmethod
    def backward(ctx: Any, difference: Tensor) -> Tensor:
        (flat,) = ctx.saved_tensors
        return (flat.mT @ (difference + difference.mT).to(flat.dtype)).mT


def covariance(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, C, 1) and covariance (B, C, C) of the channels over space, biased, in float64.

    Whitening divides by the roots of its smallest eigenvalues, which float32 would lose beside the largest.
    """
    flat = (features.cpu() if features.device.type == "mps" else features).flatten(2).double()
    mean = flat.mean(2, keepdim=True)
    flat = flat - mean
    return mean, flat @ flat.mT / flat.shape[2]


def symmetric_power(matrix: Tensor, exponent: float, tolerance: float = 1e-5) -> Tensor:
    """V diag(w^exponent) V^T of symmetric matrices V diag(w) V^T without negative eigenvalues, (B, C, C).

    Eigenvalues below `tolerance` times the largest count as 0, and have 0 for a power too: a picture of few pixels, or
    with dead channels, has directions in which nothing varies, and noise there must not be blown up.
    """
    values, vectors = torch.linalg.eigh(matrix)
    floor = tolerance * values[..., -1:].clamp(min=torch.finfo(torch.float32).tiny)
    powers = torch.where(values > floor, values.clamp(min=floor) ** exponent, 0.0)
    return vectors * powers[..., None, :] @ vectors.mT


def swap(content: Tensor, style: Tensor, size: int = 3, stride: int = 1, chunk: int = 1024) -> Tensor:
    """Every patch of `content` replaced by the style's most similar one, overlaps averaged.

    Chen & Schmidt 2016, section 3.1. `content` (B, C, H, W), `style` (B or 1, C, h, w), both at least `size` a side;
    patches of size x size each `stride`, the last row and column included. Similarity is the normalised
    cross-correlation. `chunk` style patches are compared at a time, which bounds the memory: chunk x H x W numbers.
    """
    pairs = zip(content, style.expand(len(content), *style.shape[1:]), strict=True)
    return torch.stack([_swap(features, patches, size, stride, chunk) for features, patches in pairs])


def _swap(content: Tensor, style: Tensor, size: int, stride: int, chunk: int) -> Tensor:
    if min(*content.shape[1:], *style.shape[1:]) < size:
        raise ValueError(
            f"patches of {size} pixels do not fit features of {[*content.shape[1:]]} and {[*style.shape[1:]]}"
        )
    (rows, columns), (style_rows, style_columns) = (
        [_origins(side, size, stride, x.device) for side in x.shape[1:]] for x in (content, style)
    )
    ys, xs = (axis.flatten() for axis in torch.meshgrid(style_rows, style_columns, indexing="ij"))
    windows = style.unfold(1, size, 1).unfold(2, size, 1)  # (C, h', w', size, size), a view
    best = content.new_full((len(rows), len(columns)), -torch.inf)
    match = torch.zeros_like(best, dtype=torch.long)
    for start in range(0, len(ys), chunk):
        part = slice(start, start + chunk)
        filters = windows[:, ys[part], xs[part]].transpose(0, 1).contiguous()
        filters = filters / filters.flatten(1).norm(dim=1).clamp(min=1e-6).view(-1, 1, 1, 1).to(filters.dtype)
        found, which = F.conv2d(content[None], filters)[0][:, rows][:, :, columns].max(0)
        match = torch.where(found > best, which + start, match)
        best = torch.maximum(found, best)
    result, count = torch.zeros_like(content), content.new_zeros(content.shape[1:])
    for dy in range(size):
        for dx in range(size):  # of C x H x W numbers each, where all patches at once would be size^2 times that
            place = slice(None), (rows + dy)[:, None], (columns + dx)[None]
            result[place] += style[:, ys[match] + dy, xs[match] + dx]
            count[place[1:]] += 1
    return result / count.clamp(min=1)


def _origins(side: int, size: int, stride: int, device: torch.device) -> Tensor:
    steps = [*range(0, side - size + 1, stride)]
    return torch.tensor(steps if steps[-1] == side - size else [*steps, side - size], device=device)


def blend(a: Tensor, b: Tensor, alpha: float | Tensor) -> Tensor:
    """(1 - alpha) a + alpha b, of (B, ...); `alpha` is one number, or one for each of the batch, (B,)."""
    return a.lerp(b, alpha.to(a.dtype).view(-1, *[1] * (a.dim() - 1)) if isinstance(alpha, Tensor) else alpha)


def add_residual(stylized: Tensor, rebuilt: Tensor, content: Tensor, weight: float | Tensor) -> Tensor:
    """Add back what a network loses of the content: stylized + weight (content - rebuilt).

    `rebuilt` is the network's result at alpha 0; all three are (B, 3, H, W), and the result is not clamped. `weight` in
    [0, 1] is a number or broadcasts. With weight 1 - alpha the result at alpha 0 is `content` exactly, bit for bit.
    """
    return (stylized - rebuilt) + torch.lerp(rebuilt, content, weight)


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


def luminance(image: Tensor) -> Tensor:
    """Luminance (B, 1, H, W) of RGB (B, 3, H, W), weighted as in ITU-R BT.601, which YIQ uses."""
    weights = image.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    return (image * weights).sum(1, keepdim=True)


def keep_luminance(painted: Tensor, content: Tensor) -> Tensor:
    """The painted picture's luminance with the content's colours, both (B, 3, H, W), RGB (Gatys et al. 2017, 5.1)."""
    return content + luminance(painted - content)


def match_colors(picture: Tensor, target: Tensor) -> Tensor:
    """`picture` with the mean and covariance of the colours of `target`, (B, 3, H, W) (Gatys et al. 2017, 5.2)."""
    (mean, covariance_), (target_mean, target_covariance) = covariance(picture), covariance(target)
    matrix = symmetric_power(target_covariance, 0.5).to(mean) @ symmetric_power(covariance_, -0.5)
    matched = matrix @ (picture.flatten(2).to(mean) - mean) + target_mean.to(mean)
    return matched.view(-1, *picture.shape[1:]).clamp(0, 1).to(picture)


def guided_filter(picture: Tensor, guide: Tensor, radius: int, eps: float = 1e-3) -> Tensor:
    """`picture` smoothed to be linear in `guide` within each window of 2 `radius` + 1 pixels (He et al. 2013, eq. 8).

    Both (B, 3, H, W); the guide is the mean of its channels. Its edges stay, and so do straight lines; what is
    painted beside them goes. A pixel depends on those at most 2 `radius` away.
    """
    guide = widened(guide).mean(1, keepdim=True)
    x = widened(picture)
    guide_mean, x_mean = box_mean(guide, radius), box_mean(x, radius)
    variance = box_mean(guide.square(), radius) - guide_mean.square()
    slope = (box_mean(guide * x, radius) - guide_mean * x_mean) / (variance + eps)
    return (box_mean(slope, radius) * guide + box_mean(x_mean - slope * guide_mean, radius)).to(picture.dtype)


def box_mean(values: Tensor, radius: int) -> Tensor:
    """Mean over windows of 2 `radius` + 1 pixels a side of (B, C, H, W); pixels outside of the image do not count."""
    sides = 2 * radius + 1
    values = F.avg_pool2d(values, (sides, 1), 1, (radius, 0), count_include_pad=False)
    return F.avg_pool2d(values, (1, sides), 1, (0, radius), count_include_pad=False)
