"""AdaIN-lite: a small network for CPUs, its encoders and decoder trained together. Own design."""

import itertools
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adain.functional import normalization, statistics
from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.methods.base import Alpha, EncodedContent, EncoderDecoder, StyleCode, Trainable
from adain.models.layers import Conv2d, UpConv2d, Upsampling
from adain.utils.checks import check_choice


class Block(nn.Module):
    """A residual block whose two normalized convolutions take their means and deviations from a style."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1, self.conv2 = _conv(width, width), _conv(width, width)

    def forward(self, x: Tensor, statistics: list[Tensor], statistics_fn: StatisticsFn) -> Tensor:
        """`x` (B, C, H, W); `statistics` two means and two deviations (B or 1, C, 1, 1)."""
        mean1, std1, mean2, std2 = statistics
        y = F.relu(normalization.adain(self.conv1(x), mean1, std1, statistics_fn))
        return x + normalization.adain(self.conv2(y), mean2, std2, statistics_fn)


class AdaINLite(EncoderDecoder, Trainable):
    """A slim hourglass with adaptive instance normalization in its trunk, steered by a slim style encoder.

    Content: three convolutions to a quarter of the size, residual blocks in which every convolution is normalized
    and then given a mean and a deviation by the style (Dumoulin et al. 2017, conditional instance normalization),
    and convolutions back up, whose channels the style scales and shifts (Perez et al. 2018, FiLM). All statistics of
    the content are taken at a quarter of its size, where they are cheap.

    Style: the channel means and deviations after each of four convolutions, brought to one vector, the code. Alpha
    blends it with the content's own code, for which the network learned to give the content back.

    Args:
        widths: channels of the content's convolutions, the last ones also of the blocks.
        blocks: residual blocks.
        style_widths: channels of the style encoder's convolutions.
        code: length of the style's code.
        upsampling: on the way back up; `bilinear` leaves less of a grid than `nearest`.
    """

    name = "adain-lite"
    stride = 4
    bytes_per_pixel = 300
    bf16_safe = True

    def __init__(
        self,
        widths: tuple[int, int, int] = (16, 32, 64),
        blocks: int = 5,
        style_widths: tuple[int, ...] = (16, 32, 64, 128),
        code: int = 160,
        upsampling: Upsampling = "nearest",
    ):
        super().__init__()
        check_choice("upsampling", upsampling, get_args(Upsampling))
        self.arguments = {"widths": list(widths), "blocks": blocks, "style_widths": list(style_widths), "code": code}
        if upsampling != "nearest":  # named only then, so that fingerprints of earlier weights stay the same
            self.arguments["upsampling"] = upsampling
        self.receptive_radius = 8 * blocks + 24  # two convolutions a block, at a quarter; and the ways down and up
        first, second, deep = widths
        self.down = nn.Sequential(
            _conv(3, first), nn.ReLU(True), _conv(first, second, 2), nn.ReLU(True), _conv(second, deep, 2)
        )
        self.blocks = nn.ModuleList(Block(deep) for _ in range(blocks))
        self.up2, self.up1 = _up_conv(deep, second, upsampling), _up_conv(second, first, upsampling)
        self.out = _conv(first, 3)
        pairs = enumerate(itertools.pairwise((3, *style_widths)))
        self.style = nn.ModuleList(_conv(a, b, 2 if i else 1) for i, (a, b) in pairs)
        self.squeeze = nn.Linear(2 * sum(style_widths), code)
        self.sizes = [width for width in (*[deep] * (2 * blocks + 1), second, first) for _ in range(2)]
        self.spread = nn.Linear(code, sum(self.sizes))
        nn.init.normal_(self.spread.weight, std=0.1 / code**0.5)  # first, every style is about the same
        nn.init.zeros_(self.spread.bias)
        nn.init.normal_(self.out.weight, std=0.01)  # and every picture about mid-gray
        nn.init.constant_(self.out.bias, 0.45)  # type: ignore[arg-type]

    def encode_style(self, style: Tensor, statistics_fn: StatisticsFn = compute_statistics) -> StyleCode:
        """One vector (B, code)."""
        x = style * 2 - 1
        found: list[Tensor] = []
        for conv in self.style:
            x = F.relu(conv(x))
            found += statistics_fn(statistics.mean_std, x)
        return {"code": self.squeeze(torch.cat(found, 1).flatten(1).to(x.dtype))}

    def encode_content(
        self, content: Tensor, statistics_fn: StatisticsFn = compute_statistics, blend: bool = True
    ) -> EncodedContent:
        """Features at a quarter of the content's size, and for blending the content's own code."""
        code = self.encode_style(content, statistics_fn) if blend else {}
        return EncodedContent(self.down(content * 2 - 1), code)

    def decode(
        self,
        content: EncodedContent,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """The decoded content, its statistics from the code; below alpha 1 blended with the content's own."""
        vector = content.blended(code, alpha)["code"].to(content.features.dtype)  # a saved one is float32
        spread = self.spread(F.relu(vector))[..., None, None].split(self.sizes, 1)
        shifts, scales = list(spread[0::2]), [1 + scale for scale in spread[1::2]]
        x = F.relu(normalization.adain(content.features, shifts.pop(0), scales.pop(0), statistics_fn))
        for i, block in enumerate(self.blocks):
            x = block(x, [shifts[2 * i], scales[2 * i], shifts[2 * i + 1], scales[2 * i + 1]], statistics_fn)
        for conv, shift, scale in zip((self.up2, self.up1), shifts[-2:], scales[-2:], strict=True):
            x = F.relu(torch.addcmul(shift, conv(x), scale))
        return self.out(x)


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return _initialized(Conv2d(inputs, outputs, 3, stride, 1, padding_mode="reflect"))


def _up_conv(inputs: int, outputs: int, upsampling: Upsampling) -> nn.Conv2d:
    return _initialized(UpConv2d(inputs, outputs, 3, padding=1, padding_mode="reflect", upsampling=upsampling))


def _initialized(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
