"""AdaIN: arbitrary style transfer in real time (Huang & Belongie, ICCV 2017, arXiv 1703.06868)."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from adain.functional import normalization, statistics
from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.methods.base import (
    Alpha,
    EncodedContent,
    FeatureDecoder,
    StyleCode,
    Trainable,
    extra_radius,
    upsampling_argument,
)
from adain.models.backbones import POOL, Backbone, Padding, Pooling
from adain.models.decoders import Norm, mirror
from adain.models.layers import Upsampling


class AdaIN(FeatureDecoder, Trainable):
    """Frozen encoder f, adaptive instance normalization, and learned decoder g: T(c, s) = g(AdaIN(f(c), f(s))).

    Args:
        backbone: Encoder, a row of `adain.models.backbones.BACKBONES`.
        layer: Layer at which the encoder ends and the channel statistics are aligned.
        weights: Weights of the backbone, see `adain.models.backbones.Backbone`.
        norm: Normalization in the decoder. The paper compares them in Fig. 6.
        padding: Padding in the encoder and the decoder.
        pooling: Pooling in the encoder.
        upsampling: Upsampling in the decoder, one kind or one for each level from coarse to fine. `bilinear` reduces
            the grid artifacts of the paper's `nearest`. `smooth` removes them, but loses some detail.
        extra_convolutions: Number of additional convolutions at the start of the decoder.
    """

    name = "adain"
    bf16_safe = True

    def __init__(
        self,
        backbone: str = "vgg19",
        layer: str = "relu4_1",
        weights: str | None = None,
        norm: Norm = "none",
        padding: Padding = "reflect",
        pooling: Pooling = "max",
        upsampling: Upsampling | Sequence[Upsampling] = "nearest",
        extra_convolutions: int = 0,
    ):
        super().__init__()
        self.layer = layer
        self.layers = (layer,)
        settings = {"weights": weights, "padding": padding, "pooling": pooling}
        self.network = {"name": backbone, **settings}
        self.arguments = {"backbone": backbone, "layer": layer, "norm": norm, **settings}
        self.arguments |= upsampling_argument(upsampling)
        if extra_convolutions:  # 0 has no entry, so that the fingerprints of older weights stay the same
            self.arguments["extra_convolutions"] = extra_convolutions

        self.encoder = Backbone(layers=self.layers, **self.network)
        self.decoder = mirror(self.encoder, layer, norm, padding, upsampling, extra_convolutions)
        self.stride = 2 ** self.encoder.plan(layer).count(POOL)
        encoder_radius = self.encoder.receptive_radius(layer)
        if norm in ("instance", "layer") or encoder_radius is None:
            self.receptive_radius = None
        else:
            # The decoder mirrors the encoder.
            self.receptive_radius = 2 * encoder_radius + extra_radius(self.decoder) + extra_convolutions * self.stride

    def encode_style(self, style: Tensor, statistics_fn: StatisticsFn = compute_statistics) -> StyleCode:
        """Return the channel means and standard deviations of f(s), each (B, C, 1, 1)."""
        mean, std = statistics_fn(statistics.mean_std, self.encoder(style)[self.layer])
        return {"mean": mean, "std": std}

    def decode(
        self,
        content: EncodedContent,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """Return g((1 - alpha) f(c) + alpha AdaIN(f(c), f(s))) (eq. 14)."""
        target = normalization.adain(content.features, code["mean"], code["std"], statistics_fn)
        return self.decoder(normalization.blend(content.features, target, alpha))

    def forward(
        self,
        content: Tensor,
        style: Tensor,
        content_features: Mapping[str, Tensor],
        style_features: Mapping[str, Tensor],
    ) -> Tensor:
        """Return g(AdaIN(f(c), f(s))) for given f(c) and f(s)."""
        mean, std = statistics.mean_std(style_features[self.layer])
        return self.decoder(normalization.adain(content_features[self.layer], mean, std))
