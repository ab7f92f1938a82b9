"""AdaConv: adaptive convolutions for structure-aware style transfer (Chandran et al., CVPR 2021)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adain.functional import adaptive_convolution, statistics
from adain.functional.losses import Features
from adain.functional.statistics import StatisticsFn, at_least_float32, compute_statistics
from adain.methods.base import Alpha, EncodedContent, EncoderDecoder, StyleCode, Trainable
from adain.models.backbones import Backbone
from adain.models.decoders import mirror
from adain.models.layers import UpConv2d, Upsampling

LAYER = "relu4_1"
POOLED = 4  # pixels a side of what the style encoder's last layer sees; the paper's, for styles of 256 px
SIDE = 3  # pixels a side of the descriptor, and of the depthwise kernels


class Predictor(nn.Module):
    """A descriptor to the kernel and bias of one scale (section 3.2 of the paper)."""

    def __init__(self, descriptor: int, channels: int, groups: int, residual: bool):
        super().__init__()
        members = channels // groups
        self.shape = channels, members
        self.depthwise = nn.Conv2d(descriptor, channels * members, 3, padding=1)
        self.pointwise = nn.Linear(descriptor, channels * members)
        self.bias = nn.Linear(descriptor, channels)
        # First the identity; nothing in a residual block, which has it already.
        identity = torch.eye(members).repeat(groups, 1).flatten()
        first: dict[nn.Conv2d | nn.Linear, Tensor] = {
            self.depthwise: identity * (not residual),
            self.pointwise: identity,
            self.bias: torch.zeros(channels),
        }
        for layer, bias in first.items():
            nn.init.normal_(layer.weight, std=0 if residual else 0.1 / layer.weight[0].numel() ** 0.5)
            layer.bias = nn.Parameter(bias)

    def forward(self, descriptor: Tensor) -> tuple[Tensor, Tensor]:
        """(B, descriptor, 3, 3) to (B, C, C / groups, 3, 3) and (B, C)."""
        pooled = descriptor.mean((2, 3))
        depthwise, pointwise = self.depthwise(descriptor), self.pointwise(pooled)
        return adaptive_convolution.compose(
            depthwise.unflatten(1, self.shape), pointwise.unflatten(1, self.shape)
        ), self.bias(pooled)


class AdaConv(EncoderDecoder, Trainable):
    """AdaIN's encoder and mirrored decoder, which at each of its scales convolves with kernels read from the style.

    The style's relu4_1 goes through three convolutions, pooling and one linear layer to a descriptor, from which a
    predictor for each scale makes kernels: they carry its small structures, where AdaIN has means and deviations only.
    A block is instance normalization and the predicted convolutions; the decoder's own convolutions follow. Alpha, and
    mixtures of styles, blend the predicted kernels, which the paper leaves open.

    Args:
        descriptor: channels of the style's descriptor, 512 in the paper.
        style_width: channels of the style encoder's convolutions, 512 in the paper.
        groups: of the predicted convolutions at each scale, deepest first; the paper's C, C/2, C/4 and C/8.
        residual: add each block's result to AdaIN's at the deepest scale, and to its input at the others. Then training
            starts as AdaIN, whose decoder `--model.start` takes. The paper has no such shortcut.
        upsampling: in the decoder; `bilinear` leaves less of a grid than `nearest`.
    """

    name = "adaconv"
    layers = (LAYER,)
    bytes_per_pixel = 1400

    def __init__(
        self,
        descriptor: int = 64,
        style_width: int = 128,
        groups: Sequence[int] = (512, 128, 32, 8),
        residual: bool = True,
        upsampling: Upsampling = "nearest",
    ):
        super().__init__()
        self.arguments = {
            "descriptor": descriptor,
            "style_width": style_width,
            "groups": list(groups),
            "residual": residual,
        }
        if upsampling != "nearest":  # named only then, so that fingerprints of earlier weights stay the same
            self.arguments["upsampling"] = upsampling
        self.residual, self.groups = residual, tuple(groups)
        self.encoder = Backbone(layers=self.layers)
        self.decoder = mirror(self.encoder, LAYER, upsampling=upsampling)
        children = list(self.decoder)
        cuts = [0, *(i + 2 for i, part in enumerate(children) if isinstance(part, UpConv2d)), len(children)]
        self.scales = [children[a:b] for a, b in pairwise(cuts)]
        widths = [part[0].in_channels for part in self.scales if isinstance(part[0], nn.Conv2d)]
        if len(groups) != len(widths) or any(w % n for w, n in zip(widths, groups, strict=True)):
            raise ValueError(f"groups {list(groups)}: give one number for each scale, a divisor of {widths}")
        self.stride = 2 ** (len(widths) - 1)
        self.receptive_radius = 2 * (self.encoder.receptive_radius(LAYER) or 0) + 2 * self.stride
        inputs = [widths[0], style_width, style_width]
        convs = [nn.Conv2d(width, style_width, 3, padding=1, padding_mode="replicate") for width in inputs]
        for conv in convs:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="leaky_relu")
        self.style = nn.ModuleList(convs)
        self.describe = nn.Linear(style_width * POOLED**2, descriptor * SIDE**2)
        self.predictors = nn.ModuleList(
            Predictor(descriptor, *scale, residual) for scale in zip(widths, groups, strict=True)
        )

    def tiles(self, alpha: float) -> bool:
        """At full strength only: the content's own kernels are read from the whole of it."""
        return alpha == 1

    def encode_style(self, style: Tensor) -> StyleCode:
        """The predicted kernels and biases, `kernel/0`, `bias/0` and so on from the deepest scale up."""
        return self.predict(self.encoder(style)[LAYER])

    def predict(self, features: Tensor) -> StyleCode:
        """As `encode_style`, from the style's relu4_1."""
        x = features
        for conv in self.style:
            x = F.avg_pool2d(F.leaky_relu(conv(x)), 2, ceil_mode=True)
        x = self.describe(adaptive_convolution.pool(x, POOLED).flatten(1))
        descriptor = x.unflatten(1, (-1, SIDE, SIDE))
        kernels, biases = zip(*(predictor(descriptor) for predictor in self.predictors), strict=True)
        code = {f"kernel/{i}": at_least_float32(kernel) for i, kernel in enumerate(kernels)}
        code |= {f"bias/{i}": at_least_float32(bias) for i, bias in enumerate(biases)}
        if self.residual:
            mean, std = (statistic.flatten(1) for statistic in statistics.mean_std(features))
            code["bias/0"] = code["bias/0"] + mean
            code["kernel/0"] = code["kernel/0"] + adaptive_convolution.diagonal_kernel(std, self.groups[0], SIDE)
        return code

    def encode_content(
        self, content: Tensor, statistics_fn: StatisticsFn = compute_statistics, blend: bool = True
    ) -> EncodedContent:
        """The content's relu4_1, and for blending the kernels predicted from it."""
        features = self.encoder(content)[LAYER]
        return EncodedContent(features, self.predict(features) if blend else {})

    def decode(
        self,
        content: EncodedContent,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """The content's features decoded with the style's kernels; below alpha 1 blended with the content's own."""
        return self._convolve(content.features, content.blended(code, alpha), statistics_fn)

    def _convolve(self, x: Tensor, code: StyleCode, statistics_fn: StatisticsFn = compute_statistics) -> Tensor:
        for i, scale in enumerate(self.scales):
            x = adaptive_convolution.adaconv(
                x, code[f"kernel/{i}"], code[f"bias/{i}"], self.residual and i > 0, statistics_fn
            )
            for part in scale:
                x = part(x)
        return x

    def forward(self, content: Tensor, style: Tensor, content_features: Features, style_features: Features) -> Tensor:
        """As `stylize` at full strength, both features as given."""
        return self._convolve(content_features[LAYER], self.predict(style_features[LAYER]))
