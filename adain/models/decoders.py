"""Decoders that mirror a backbone and map its features back to an image."""

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Literal

from torch import nn

from adain.models.backbones import POOL, Backbone, Padding
from adain.models.layers import Conv2d, UpConv2d, Upsampling, upsampling_of_levels
from adain.utils.checks import check_choice

Norm = Literal["none", "batch", "instance", "layer"]
NORMS = {
    "none": None,
    "batch": nn.BatchNorm2d,
    "instance": nn.InstanceNorm2d,
    "layer": partial(nn.GroupNorm, 1),  # over all channels and pixels of an image
}

MAX_EXTRA_CONVOLUTIONS = 16
"""Files of weights, which are not trusted, contain this argument."""


def mirror(
    backbone: Backbone,
    layer: str,
    norm: Norm = "none",
    padding: Padding = "reflect",
    upsampling: Upsampling | Sequence[Upsampling] = "nearest",
    extra_convolutions: int = 0,
) -> nn.Sequential:
    """Return a decoder that mirrors `backbone` up to `layer`: convolutions in reverse, and upsampling for pooling.

    For VGG-19 at relu4_1: 512-256 | up | 256 256 256 128 | up | 128 64 | up | 64 3. Each convolution is 3x3 and
    followed by a ReLU, except the last one, whose output is the image (Huang & Belongie 2017, section 6.1).

    Args:
        backbone: The encoder.
        layer: Layer of the encoder whose features are decoded.
        norm: Normalization after each convolution. The authors found any normalization harmful (Fig. 6). The option
            serves to reproduce that.
        padding: Padding of the convolutions.
        upsampling: Upsampling by 2, one kind or one for each level from coarse to fine. The authors use `nearest`.
        extra_convolutions: Number of convolutions before the mirrored ones. They preserve the number of channels.

    Raises:
        ValueError: Unknown normalization or upsampling, or a wrong number of upsamplings or extra convolutions.
    """
    check_choice("norm", norm, NORMS)
    if not 0 <= extra_convolutions <= MAX_EXTRA_CONVOLUTIONS:
        raise ValueError(f"Expected 0 to {MAX_EXTRA_CONVOLUTIONS} extra_convolutions, got {extra_convolutions}")
    widths = [3, *backbone.plan(layer)]
    widths += extra_convolutions * [[width for width in widths if width != POOL][-1]]
    kinds = iter(upsampling_of_levels(upsampling, widths.count(POOL)))
    net = OrderedDict[str, nn.Module]()
    for i in range(len(widths) - 1, 0, -1):
        if widths[i] == POOL:
            continue
        outputs = [width for width in widths[:i] if width != POOL][-1]  # the previous convolution
        if widths[i + 1 : i + 2] == [POOL]:
            net[f"conv{i}"] = UpConv2d(widths[i], outputs, 3, padding=1, padding_mode=padding, upsampling=next(kinds))
        else:
            net[f"conv{i}"] = Conv2d(widths[i], outputs, 3, padding=1, padding_mode=padding)
        if i == 1:
            break  # the image: no normalization, no ReLU
        norm_layer = NORMS[norm]
        if norm_layer:
            net[f"norm{i}"] = norm_layer(outputs, affine=True)
        net[f"relu{i}"] = nn.ReLU(inplace=True)
    return _initialize(nn.Sequential(net))


def _initialize(decoder: nn.Sequential) -> nn.Sequential:
    """Initialize the convolutions so that the signal keeps its scale (He et al. 2015, eq. 10).

    PyTorch's default shrinks the signal threefold per layer. The last convolution starts with small weights around
    mid-gray, so that training begins inside the range of images.
    """
    *hidden, last = [module for module in decoder if isinstance(module, nn.Conv2d)]
    for convolution in hidden:
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.constant_(convolution.bias, 0)  # type: ignore[arg-type]
    nn.init.normal_(last.weight, std=0.01 / last.weight[0].numel() ** 0.5)
    nn.init.constant_(last.bias, 0.45)  # type: ignore[arg-type]
    return decoder
