"""Decoders that mirror a backbone: features back to a picture."""

from collections import OrderedDict
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adain.backbones import POOL, Backbone, Padding, check_choice

Norm = Literal["none", "batch", "instance"]
NORMS = {"none": None, "batch": nn.BatchNorm2d, "instance": nn.InstanceNorm2d}


def mirror(backbone: Backbone, layer: str, norm: Norm = "none", padding: Padding = "reflect") -> nn.Sequential:
    """The mirror of `backbone` up to `layer`: its convolutions in reverse, poolings become nearest upsampling.

    For VGG-19 at relu4_1: 512-256 | up | 256 256 256 128 | up | 128 64 | up | 64 3, each 3x3 and followed by a ReLU
    but the last, whose output is the picture (Huang & Belongie 2017, section 6.1). They found any `norm` harmful
    (their Fig. 6); it is here so that this can be shown.
    """
    check_choice("norm", norm, NORMS)
    widths = [3, *backbone.plan(layer)]
    net = OrderedDict[str, nn.Module]()
    for i in range(len(widths) - 1, 0, -1):
        if widths[i] == POOL:
            continue
        outputs = next(width for width in reversed(widths[:i]) if width != POOL)
        convolution = UpConv2d if widths[i + 1 : i + 2] == [POOL] else nn.Conv2d
        net[f"conv{i}"] = convolution(widths[i], outputs, 3, padding=1, padding_mode=padding)
        if i > 1:
            if kind := NORMS[norm]:
                net[f"norm{i}"] = kind(outputs, affine=True)
            net[f"relu{i}"] = nn.ReLU(inplace=True)
    return _initialise(nn.Sequential(net))


_SIDE = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 1.0], [1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
SHARED = torch.kron(_SIDE, _SIDE).T
"""(9, 16): which weights of a 3x3 kernel are summed in each of a 4x4 one for what is not yet upsampled."""


class UpConv2d(nn.Conv2d):
    """A 3x3 convolution of its input upsampled by 2 (nearest), equal to `nn.Upsample` and `nn.Conv2d` in turn.

    The four pixels that share a value share the sums of their weights: one transposed 4x4 convolution of stride 2, with
    less than half of the products, and nothing of the upsampled size but the result.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to (B, C', 2 H, 2 W)."""
        kernel = (self.weight.flatten(2) @ SHARED.to(self.weight)).unflatten(2, (4, 4))
        # Reflected beyond its border, an upsampled picture repeats its last pixel.
        x = F.pad(x, (1, 1, 1, 1), mode="replicate" if self.padding_mode == "reflect" else "constant")
        return F.conv_transpose2d(x, kernel.transpose(0, 1), self.bias, stride=2, padding=3)


def _initialise(decoder: nn.Sequential) -> nn.Sequential:
    """He et al. 2015, eq. 10: the signal keeps its scale, where torch's default shrinks it threefold a layer.

    The last convolution starts small around mid-grey, so that training begins inside the range of pictures.
    """
    *hidden, last = (part for part in decoder if isinstance(part, nn.Conv2d))
    for convolution in hidden:
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")
        nn.init.constant_(convolution.bias, 0)  # type: ignore[arg-type]
    nn.init.normal_(last.weight, std=0.01 / last.weight[0].numel() ** 0.5)
    nn.init.constant_(last.bias, 0.45)  # type: ignore[arg-type]
    return decoder
