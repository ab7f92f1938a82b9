"""AdaIN: arbitrary style transfer in real time (Huang & Belongie, ICCV 2017, arXiv 1703.06868)."""

from collections.abc import Mapping

from torch import Tensor

from adain.functional import normalization, statistics
from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.methods.base import Alpha, EncodedContent, EncoderDecoder, StyleCode, Trainable
from adain.models.backbones import POOL, Backbone, Padding, Pooling
from adain.models.decoders import Norm, mirror
from adain.models.layers import Upsampling


class AdaIN(EncoderDecoder, Trainable):
    """Frozen encoder, adaptive instance normalization, learned decoder: T(c, s) = g(AdaIN(f(c), f(s))).

    Args:
        backbone: the encoder, a row of `adain.models.backbones.BACKBONES`.
        layer: where it is cut, and its channels aligned.
        weights: of the backbone, as `adain.models.backbones.Backbone` takes them.
        norm: in the decoder; the paper's Fig. 6 compares them.
        padding: in encoder and decoder.
        pooling: in the encoder.
        upsampling: in the decoder; `bilinear` leaves less of a grid than the paper's `nearest`.
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
        upsampling: Upsampling = "nearest",
    ):
        super().__init__()
        self.layer, self.layers = layer, (layer,)
        settings = {"weights": weights, "padding": padding, "pooling": pooling}
        self.network = {"name": backbone, **settings}
        self.arguments = {"backbone": backbone, "layer": layer, "norm": norm, **settings}
        if upsampling != "nearest":  # named only then, so that fingerprints of earlier weights stay the same
            self.arguments["upsampling"] = upsampling
        self.encoder = Backbone(layers=self.layers, **self.network)
        self.decoder = mirror(self.encoder, layer, norm, padding, upsampling)
        self.stride = 2 ** self.encoder.plan(layer).count(POOL)
        reach = None if norm == "instance" else self.encoder.receptive_radius(layer)
        self.receptive_radius = reach and 2 * reach  # the decoder sees as far as the encoder that it mirrors

    def encode_style(self, style: Tensor) -> StyleCode:
        """Channel means and standard deviations (B, C, 1, 1) of f(s)."""
        mean, std = statistics.mean_std(self.encoder(style)[self.layer])
        return {"mean": mean, "std": std}

    def encode_content(
        self, content: Tensor, statistics_fn: StatisticsFn = compute_statistics, blend: bool = True
    ) -> EncodedContent:
        """f(c)."""
        return EncodedContent(self.encoder(content)[self.layer])

    def decode(
        self,
        content: EncodedContent,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """g((1 - alpha) f(c) + alpha AdaIN(f(c), f(s))) (eq. 14)."""
        target = normalization.adain(content.features, code["mean"], code["std"], statistics_fn)
        return self.decoder(normalization.blend(content.features, target, alpha))

    def rebuild(self, content: EncodedContent, statistics_fn: StatisticsFn = compute_statistics) -> Tensor:
        """g(f(c))."""
        return self.decoder(content.features)

    def forward(
        self,
        content: Tensor,
        style: Tensor,
        content_features: Mapping[str, Tensor],
        style_features: Mapping[str, Tensor],
    ) -> Tensor:
        """g(AdaIN(f(c), f(s))), both features as given."""
        return self.decoder(
            normalization.adain(content_features[self.layer], *statistics.mean_std(style_features[self.layer]))
        )
