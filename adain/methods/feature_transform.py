"""What style-swap and WCT share: AdaIN's encoder and decoder around another transform of the features between."""

from abc import abstractmethod

from torch import Tensor

from adain.functional import normalization
from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.methods.adain import AdaIN
from adain.methods.base import Alpha, EncodedContent, EncoderDecoder, StyleCode


class FeatureTransform(EncoderDecoder):
    """Encode, transform, decode. A method is a transform of the content's features; nothing is trained for it.

    Args:
        decoder: weights of an `AdaIN` that brings its encoder and its decoder: its name, or a file.
    """

    def __init__(self, decoder: str = "adain"):
        from adain.methods import weights  # which knows all methods, these too

        super().__init__()
        inner = weights.load(decoder)
        if not isinstance(inner, AdaIN):
            raise ValueError(f"{decoder} is no AdaIN, whose decoder is needed here")
        self.arguments = {"decoder": decoder}
        self.encoder, self.decoder, self.layer = inner.encoder, inner.decoder, inner.layer
        self.stride, self.receptive_radius = inner.stride, inner.receptive_radius

    @abstractmethod
    def code(self, features: Tensor) -> StyleCode:
        """What `transform` needs of a style's features (B, C, h, w)."""

    @abstractmethod
    def transform(self, features: Tensor, code: StyleCode, statistics_fn: StatisticsFn = compute_statistics) -> Tensor:
        """The content's features (B, C, H, W) in the style."""

    def encode_style(self, style: Tensor) -> StyleCode:
        """Of the style's features."""
        return self.code(self.encoder(style)[self.layer])

    def encode_content(
        self, content: Tensor, statistics_fn: StatisticsFn = compute_statistics, blend: bool = True
    ) -> EncodedContent:
        """The content's features."""
        return EncodedContent(self.encoder(content)[self.layer])

    def decode(
        self,
        content: EncodedContent,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """The transformed features decoded; below alpha 1 blended with the content's own."""
        features = content.features
        transformed = self.transform(features, code, statistics_fn).to(features.dtype)
        return self.decoder(normalization.blend(features, transformed, alpha))

    def rebuild(self, content: EncodedContent, statistics_fn: StatisticsFn = compute_statistics) -> Tensor:
        """The content's features decoded."""
        return self.decoder(content.features)
