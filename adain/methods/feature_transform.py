"""The base class of style swap and WCT: AdaIN's encoder and decoder with another transform of the features."""

from abc import abstractmethod

from torch import Tensor

from adain.functional import normalization
from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.methods.adain import AdaIN
from adain.methods.base import Alpha, EncodedContent, FeatureDecoder, StyleCode


class FeatureTransform(FeatureDecoder):
    """Encode the content, transform its features, and decode. Nothing is trained for the transform.

    Args:
        decoder: Weights of an `AdaIN`, whose encoder and decoder are used: its name, or a file.
    """

    def __init__(self, decoder: str = "adain"):
        from adain.methods import weights  # imports all methods, including the subclasses of this one

        super().__init__()
        inner = weights.load(decoder)
        if not isinstance(inner, AdaIN):
            raise ValueError(f"Expected the weights of an AdaIN as the decoder, got {decoder}; use adain")
        self.arguments = {"decoder": decoder}
        self.encoder = inner.encoder
        self.decoder = inner.decoder
        self.layer = inner.layer
        self.stride = inner.stride
        self.receptive_radius = inner.receptive_radius

    @abstractmethod
    def code(self, features: Tensor) -> StyleCode:
        """Return the style code for `transform` from the features of a style (B, C, h, w)."""

    @abstractmethod
    def transform(self, features: Tensor, code: StyleCode, statistics_fn: StatisticsFn = compute_statistics) -> Tensor:
        """Return the features of the content (B, C, H, W), transformed to the style."""

    def encode_style(self, style: Tensor) -> StyleCode:
        """Return the style code of the features of `style`."""
        return self.code(self.encoder(style)[self.layer])

    def decode(
        self,
        content: EncodedContent,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """Decode the transformed features. Below alpha 1, they are blended with the features of the content."""
        features = content.features
        transformed = self.transform(features, code, statistics_fn).to(features.dtype)
        return self.decoder(normalization.blend(features, transformed, alpha))
