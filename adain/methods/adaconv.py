"""AdaConv: adaptive convolutions for structure-aware style transfer (Chandran et al., CVPR 2021)."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adain.functional import adaptive_convolution, statistics
from adain.functional.losses import Features
from adain.functional.statistics import StatisticsFn, at_least_float32, compute_statistics
from adain.methods.base import (
    Alpha,
    EncodedContent,
    EncoderDecoder,
    StyleCode,
    Trainable,
    extra_radius,
    upsampling_argument,
)
from adain.models.backbones import Backbone
from adain.models.decoders import mirror
from adain.models.layers import UpConv2d, Upsampling

LAYER = "relu4_1"
POOLED_SIZE = 4  # height and width of the style encoder's last features, as in the paper for styles of 256 px
KERNEL_SIZE = 3  # height and width of the descriptor, and of the depthwise kernels


class Predictor(nn.Module):
    """Predicts the kernel and bias of one scale from the style descriptor (section 3.2 of the paper).

    Args:
        descriptor: Number of channels of the descriptor.
        channels: Number of channels of the predicted convolution.
        groups: Number of groups of the predicted convolution.
        residual: Whether the predicted convolution is in a residual block.
    """

    def __init__(self, descriptor: int, channels: int, groups: int, residual: bool):
        super().__init__()
        channels_per_group = channels // groups
        self.shape = (channels, channels_per_group)
        self.depthwise = nn.Conv2d(descriptor, channels * channels_per_group, 3, padding=1)
        self.pointwise = nn.Linear(descriptor, channels * channels_per_group)
        self.bias = nn.Linear(descriptor, channels)
        # The convolution starts as the identity, or as zero in a residual block, which adds the identity.
        identity = torch.eye(channels_per_group).repeat(groups, 1).flatten()
        depthwise_bias = torch.zeros_like(identity) if residual else identity.clone()
        self._initialize(self.depthwise, depthwise_bias, residual)
        self._initialize(self.pointwise, identity, residual)
        self._initialize(self.bias, torch.zeros(channels), residual)

    @staticmethod
    def _initialize(layer: nn.Conv2d | nn.Linear, bias: Tensor, residual: bool) -> None:
        std = 0 if residual else 0.1 / layer.weight[0].numel() ** 0.5
        nn.init.normal_(layer.weight, std=std)
        layer.bias = nn.Parameter(bias)

    def forward(self, descriptor: Tensor) -> tuple[Tensor, Tensor]:
        """Map a descriptor (B, channels, 3, 3) to a kernel (B, C, C / groups, 3, 3) and a bias (B, C)."""
        pooled = descriptor.mean((2, 3))
        depthwise = self.depthwise(descriptor).unflatten(1, self.shape)
        pointwise = self.pointwise(pooled).unflatten(1, self.shape)
        return adaptive_convolution.compose(depthwise, pointwise), self.bias(pooled)


class AdaConv(EncoderDecoder, Trainable):
    """AdaIN's encoder and mirrored decoder, with convolutions at each decoder scale that are predicted from the style.

    The style's relu4_1 features pass through three convolutions, pooling, and a linear layer, which gives a descriptor.
    A predictor per scale maps the descriptor to kernels. The kernels represent small structures of the style, where
    AdaIN only uses means and standard deviations. A block consists of instance normalization and the predicted
    convolutions, followed by the convolutions of the decoder. Alpha and mixtures of styles blend the predicted kernels.
    The paper does not define either.

    Args:
        descriptor: Number of channels of the style descriptor, 512 in the paper.
        style_width: Number of channels of the style encoder's convolutions, 512 in the paper.
        groups: Number of groups of the predicted convolutions at each scale, deepest first. The paper uses C, C/2, C/4,
            and C/8.
        residual: Add the result of each block to AdaIN's at the deepest scale, and to its input at the others. Training
            then starts as AdaIN, whose decoder `--model.start` loads. The paper has no such shortcut.
        upsampling: Upsampling in the decoder, one kind or one for each level from coarse to fine. `smooth` removes the
            grid artifacts of `nearest`, but loses some detail.

    Raises:
        ValueError: The groups do not match the scales, or unknown upsampling.
    """

    name = "adaconv"
    layers = (LAYER,)
    bytes_per_pixel = 1700

    def __init__(
        self,
        descriptor: int = 64,
        style_width: int = 128,
        groups: Sequence[int] = (512, 128, 32, 8),
        residual: bool = True,
        upsampling: Upsampling | Sequence[Upsampling] = "nearest",
    ):
        super().__init__()
        self.arguments = {
            "descriptor": descriptor,
            "style_width": style_width,
            "groups": list(groups),
            "residual": residual,
        }
        self.arguments |= upsampling_argument(upsampling)
        self.residual = residual
        self.groups = tuple(groups)
        self.encoder = Backbone(layers=self.layers)
        self.decoder = mirror(self.encoder, LAYER, upsampling=upsampling)
        self.scales = _split_at_upsampling(self.decoder)
        widths = [scale[0].in_channels for scale in self.scales if isinstance(scale[0], nn.Conv2d)]
        _check_groups(groups, widths)
        self.stride = 2 ** (len(widths) - 1)
        self.receptive_radius = 2 * (self.encoder.receptive_radius(LAYER) or 0) + 2 * self.stride
        self.receptive_radius += extra_radius(self.decoder)

        # Modules are built in a fixed order, which determines the initial weights for a given seed.
        convolutions = []
        for inputs in (widths[0], style_width, style_width):
            convolutions.append(nn.Conv2d(inputs, style_width, 3, padding=1, padding_mode="replicate"))
        for convolution in convolutions:
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="leaky_relu")
        self.style = nn.ModuleList(convolutions)
        self.describe = nn.Linear(style_width * POOLED_SIZE**2, descriptor * KERNEL_SIZE**2)
        self.predictors = nn.ModuleList()
        for width, scale_groups in zip(widths, groups, strict=True):
            self.predictors.append(Predictor(descriptor, width, scale_groups, residual))

    def tiles(self, alpha: float) -> bool:
        """Return True at full strength only. Below, the content's own kernels depend on the whole image."""
        return alpha == 1

    def encode_style(self, style: Tensor) -> StyleCode:
        """Return the predicted kernels and biases: `kernel/0`, `bias/0`, and so on, deepest scale first."""
        return self.predict(self.encoder(style)[LAYER])

    def predict(self, features: Tensor) -> StyleCode:
        """Return the style code for the relu4_1 features of a style (B, 512, h, w)."""
        x = features
        for convolution in self.style:
            x = F.avg_pool2d(F.leaky_relu(convolution(x)), 2, ceil_mode=True)
        x = self.describe(adaptive_convolution.pool(x, POOLED_SIZE).flatten(1))
        descriptor = x.unflatten(1, (-1, KERNEL_SIZE, KERNEL_SIZE))

        kernels = {}
        biases = {}
        for i, predictor in enumerate(self.predictors):
            kernel, bias = predictor(descriptor)
            kernels[f"kernel/{i}"] = at_least_float32(kernel)
            biases[f"bias/{i}"] = at_least_float32(bias)
        code = {**kernels, **biases}
        if self.residual:
            mean, std = statistics.mean_std(features)
            adain_kernel = adaptive_convolution.diagonal_kernel(std.flatten(1), self.groups[0], KERNEL_SIZE)
            code["bias/0"] = code["bias/0"] + mean.flatten(1)
            code["kernel/0"] = code["kernel/0"] + adain_kernel
        return code

    def encode_content(
        self, content: Tensor, statistics_fn: StatisticsFn = compute_statistics, blend: bool = True
    ) -> EncodedContent:
        """Return the relu4_1 features of the content, and for blending, the kernels predicted from them."""
        features = self.encoder(content)[LAYER]
        return EncodedContent(features, self.predict(features) if blend else {})

    def decode(
        self,
        content: EncodedContent,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """Decode the features with the style's kernels. Below alpha 1, blend these with the content's own kernels."""
        return self._convolve(content.features, content.blended(code, alpha), statistics_fn)

    def _convolve(self, x: Tensor, code: StyleCode, statistics_fn: StatisticsFn = compute_statistics) -> Tensor:
        """Decode features (B, C, h, w) to an image, with a predicted convolution before each scale of the decoder."""
        for i, scale in enumerate(self.scales):
            residual = self.residual and i > 0  # at the deepest scale, the kernel contains AdaIN
            x = adaptive_convolution.adaconv(x, code[f"kernel/{i}"], code[f"bias/{i}"], residual, statistics_fn)
            for module in scale:
                x = module(x)
        return x

    def forward(self, content: Tensor, style: Tensor, content_features: Features, style_features: Features) -> Tensor:
        """Return the result of `stylize` at full strength for given features."""
        return self._convolve(content_features[LAYER], self.predict(style_features[LAYER]))


def _split_at_upsampling(decoder: nn.Sequential) -> list[list[nn.Module]]:
    """Return the modules of each scale of a decoder. A scale ends with an upsampling convolution and its ReLU."""
    modules = list(decoder)
    ends = [i + 2 for i, module in enumerate(modules) if isinstance(module, UpConv2d)]
    scales = []
    for start, end in pairwise([0, *ends, len(modules)]):
        scales.append(modules[start:end])
    return scales


def _check_groups(groups: Sequence[int], widths: list[int]) -> None:
    """Raise ValueError unless there is a divisor of the width for each scale."""
    valid = len(groups) == len(widths)
    for width, scale_groups in zip(widths, groups, strict=False):
        valid = valid and scale_groups > 0 and width % scale_groups == 0
    if not valid:
        raise ValueError(f"Expected groups that divide the widths {widths}, one number per scale, got {list(groups)}")
