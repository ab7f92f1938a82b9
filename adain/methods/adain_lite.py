"""AdaIN-lite: a small network for CPUs, designed for this project. Encoders and decoder are trained together."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adain.functional import normalization, statistics
from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.methods.base import Alpha, EncodedContent, EncoderDecoder, StyleCode, Trainable, upsampling_argument
from adain.models.layers import Conv2d, UpConv2d, Upsampling, upsampling_of_levels


class Block(nn.Module):
    """A residual block of two convolutions, whose outputs get the style's means and standard deviations."""

    def __init__(self, width: int):
        super().__init__()
        self.conv1 = _conv(width, width)
        self.conv2 = _conv(width, width)

    def forward(self, x: Tensor, statistics: list[Tensor], statistics_fn: StatisticsFn) -> Tensor:
        """Apply the block.

        Args:
            x: Features (B, C, H, W).
            statistics: Mean and deviation for each of the two convolutions, each (B or 1, C, 1, 1).
            statistics_fn: Computes the statistics of features.
        """
        mean1, std1, mean2, std2 = statistics
        y = F.relu(normalization.adain(self.conv1(x), mean1, std1, statistics_fn))
        return x + normalization.adain(self.conv2(y), mean2, std2, statistics_fn)


class AdaINLite(EncoderDecoder, Trainable):
    """A small encoder-decoder with adaptive instance normalization, controlled by a small style encoder.

    Content: three convolutions downsample to a quarter of the size. In the residual blocks, the output of every
    convolution is normalized to a mean and deviation of the style (Dumoulin et al. 2017, conditional instance
    normalization). Convolutions upsample to the full size, and the style scales and shifts their channels (Perez et al.
    2018, FiLM). All statistics of the content are computed at a quarter of its size, where they are cheap.

    Style: the channel means and deviations after each of four convolutions are projected to one vector, the style code.
    Alpha blends it with the style code of the content, for which the network has learned to reconstruct the content.

    Args:
        widths: Channels of the content encoder's convolutions. The residual blocks have as many channels as the last.
        blocks: Number of residual blocks.
        style_widths: Channels of the style encoder's convolutions.
        code: Length of the style code.
        upsampling: Upsampling in the decoder, one kind or one for each level from coarse to fine. `smooth` removes the
            grid artifacts of `nearest`, but loses some detail.
        skips: Whether 1x1 convolutions carry the encoder's features at half of the size and at the full size to the
            decoder, which otherwise has to rebuild fine detail from a quarter of the size.

    Raises:
        ValueError: Unknown upsampling.
    """

    name = "adain-lite"
    stride = 4
    bytes_per_pixel = 400
    bf16_safe = True

    def __init__(
        self,
        widths: tuple[int, int, int] = (16, 32, 64),
        blocks: int = 5,
        style_widths: tuple[int, ...] = (16, 32, 64, 128),
        code: int = 160,
        upsampling: Upsampling | Sequence[Upsampling] = "nearest",
        skips: bool = False,
    ):
        super().__init__()
        self.arguments = {"widths": list(widths), "blocks": blocks, "style_widths": list(style_widths), "code": code}
        self.arguments |= upsampling_argument(upsampling)
        if skips:
            self.arguments["skips"] = True  # no entry otherwise: the fingerprints of earlier weights stay the same
            self.bytes_per_pixel = 600  # the features for the decoder are kept
        # Each block has two convolutions at a quarter of the size. The rest is downsampling and upsampling.
        self.receptive_radius = 8 * blocks + 24
        # Modules are built in a fixed order, which determines the initial weights for a given seed.
        self._build_content_network(widths, blocks, upsampling_of_levels(upsampling, 2))
        self._build_style_network(widths, blocks, style_widths, code)
        self._initialize_outputs(code)
        self.skips = _zero_skips(widths[:2]) if skips else None

    def _build_content_network(self, widths: tuple[int, int, int], blocks: int, upsampling: list[Upsampling]) -> None:
        first, second, deep = widths
        self.down = nn.Sequential(
            _conv(3, first),
            nn.ReLU(inplace=True),
            _conv(first, second, stride=2),
            nn.ReLU(inplace=True),
            _conv(second, deep, stride=2),
        )
        self.blocks = nn.ModuleList(Block(deep) for _ in range(blocks))
        self.up2 = _up_conv(deep, second, upsampling[0])
        self.up1 = _up_conv(second, first, upsampling[1])
        self.out = _conv(first, 3)

    def _build_style_network(
        self, widths: tuple[int, int, int], blocks: int, style_widths: tuple[int, ...], code: int
    ) -> None:
        convolutions: list[nn.Module] = []
        inputs = 3
        for width in style_widths:
            stride = 1 if not convolutions else 2
            convolutions.append(_conv(inputs, width, stride))
            inputs = width
        self.style = nn.ModuleList(convolutions)
        self.squeeze = nn.Linear(2 * sum(style_widths), code)

        # The code is mapped to a shift and a scale for each normalized or modulated layer.
        first, second, deep = widths
        normalized = 1 + 2 * blocks  # the encoder's output, and two convolutions per block
        self.sizes = []
        for width in [deep] * normalized + [second, first]:
            self.sizes += [width, width]
        self.spread = nn.Linear(code, sum(self.sizes))

    def _initialize_outputs(self, code: int) -> None:
        """Initialize so that at first all styles look about the same, and all images are about mid-gray."""
        nn.init.normal_(self.spread.weight, std=0.1 / code**0.5)
        nn.init.zeros_(self.spread.bias)
        nn.init.normal_(self.out.weight, std=0.01)
        nn.init.constant_(self.out.bias, 0.45)  # type: ignore[arg-type]

    def encode_style(self, style: Tensor, statistics_fn: StatisticsFn = compute_statistics) -> StyleCode:
        """Return one vector per image, (B, code)."""
        x = style * 2 - 1
        moments: list[Tensor] = []
        for conv in self.style:
            x = F.relu(conv(x))
            mean, std = statistics_fn(statistics.mean_std, x)
            moments += [mean, std]
        vector = torch.cat(moments, 1).flatten(1).to(x.dtype)
        return {"code": self.squeeze(vector)}

    def encode_content(
        self, content: Tensor, statistics_fn: StatisticsFn = compute_statistics, blend: bool = True
    ) -> EncodedContent:
        """Return features at a quarter of the content's size, and for blending, the style code of the content."""
        code = self.encode_style(content, statistics_fn) if blend else {}
        x = content * 2 - 1
        if self.skips is None:
            return EncodedContent(self.down(x), code)
        full = self.down[:2](x)
        half = self.down[2:4](full)
        return EncodedContent(self.down[4:](half), code, details=(half, full))

    def decode(
        self,
        content: EncodedContent,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """Decode the content with statistics from the style code. Below alpha 1, blend it with the content's code."""
        dtype = content.features.dtype
        vector = content.blended(code, alpha)["code"].to(dtype)  # a saved code is in float32
        spread = self.spread(F.relu(vector))[..., None, None].split(self.sizes, 1)
        shifts = spread[0::2]
        scales = [1 + scale for scale in spread[1::2]]

        x = F.relu(normalization.adain(content.features, shifts[0], scales[0], statistics_fn))
        for i, block in enumerate(self.blocks):
            a = 1 + 2 * i
            b = a + 1
            x = block(x, [shifts[a], scales[a], shifts[b], scales[b]], statistics_fn)
        for level, up in enumerate((self.up2, self.up1)):
            x = up(x)
            if self.skips is not None:
                x = x + self.skips[level](content.details[level])
            x = F.relu(torch.addcmul(shifts[level - 2], x, scales[level - 2]))
        return self.out(x)


def _zero_skips(widths: Sequence[int]) -> nn.ModuleList:
    """Return the skip connections from coarse to fine. They start at zero, to continue from weights without them."""
    skips = nn.ModuleList(nn.Conv2d(width, width, 1, bias=False) for width in reversed(widths))
    for skip in skips:
        nn.init.zeros_(skip.weight)  # type: ignore[arg-type]
    return skips


def _conv(inputs: int, outputs: int, stride: int = 1) -> nn.Conv2d:
    return _initialized(Conv2d(inputs, outputs, 3, stride, 1, padding_mode="reflect"))


def _up_conv(inputs: int, outputs: int, upsampling: Upsampling) -> nn.Conv2d:
    return _initialized(UpConv2d(inputs, outputs, 3, padding=1, padding_mode="reflect", upsampling=upsampling))


def _initialized(conv: nn.Conv2d) -> nn.Conv2d:
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv
