"""Decoders that mirror a backbone: features back to a picture."""

from collections import OrderedDict
from typing import Literal, get_args

from torch import nn

from adain.models.backbones import POOL, Backbone, Padding
from adain.models.layers import Conv2d, UpConv2d, Upsampling
from adain.utils.checks import check_choice

Norm = Literal["none", "batch", "instance"]
NORMS = {"none": None, "batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}


def mirror(
    backbone: Backbone,
    layer: str,
    norm: Norm = "none",
    padding: Padding = "reflect",
    upsampling: Upsampling = "nearest",
) -> nn.Sequential:
    """The mirror of `backbone` up to `layer`: its convolutions in reverse, poolings become upsampling by 2.

    For VGG-19 at relu4_1: 512-256 | up | 256 256 256 128 | up | 128 64 | up | 64 3, each 3x3 and followed by a ReLU
    but the last, whose output is the picture (Huang & Belongie 2017, section 6.1). They found any `norm` harmful
    (their Fig. 6); it is here so that this can be shown. Their upsampling is nearest; bilinear leaves less of a grid.
    """
    check_choice("norm", norm, NORMS)
    check_choice("upsampling", upsampling, get_args(Upsampling))
    widths = [3, *backbone.plan(layer)]
    net = OrderedDict[str, nn.Module]()
    for i in range(len(widths) - 1, 0, -1):
        if widths[i] == POOL:
            continue
        outputs = next(width for width in reversed(widths[:i]) if width != POOL)
        if widths[i + 1 : i + 2] == [POOL]:
            net[f"conv{i}"] = UpConv2d(widths[i], outputs, 3, padding=1, padding_mode=padding, upsampling=upsampling)
        else:
            net[f"conv{i}"] = Conv2d(widths[i], outputs, 3, padding=1, padding_mode=padding)
        if i > 1:
            if kind := NORMS[norm]:
                net[f"norm{i}"] = kind(outputs, affine=True)
            net[f"relu{i}"] = nn.ReLU(inplace=True)
    return _initialize(nn.Sequential(net))


def _initialize(decoder: nn.Sequential) -> nn.Sequential:
    """He et al. 2015, eq. 10: the signal keeps its scale, where torch's default shrinks it threefold a layer.

    The last convolution starts small around mid-gray, so that training begins inside the range of pictures.
    """
    *hidden, last = (part for part in decoder if isinstance(part, nn.Conv2d))
    for convolution in hidden:
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.constant_(convolution.bias, 0)  # type: ignore[arg-type]
    nn.init.normal_(last.weight, std=0.01 / last.weight[0].numel() ** 0.5)
    nn.init.constant_(last.bias, 0.45)  # type: ignore[arg-type]
    return decoder
