"""WCT: whitening and coloring transform (Li et al., NIPS 2017, arXiv 1705.08086)."""

from torch import Tensor

from adain.functional import whitening
from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.methods.base import StyleCode
from adain.methods.feature_transform import FeatureTransform


class WCT(FeatureTransform):
    """Transfer the mean and full covariance of the style's features at AdaIN's layer, and decode with its decoder.

    The paper applies the transform at five layers, with a decoder for each. This class applies it at one layer, by
    default the paper's second deepest (relu4_1).

    Args:
        decoder: Weights of an `AdaIN`, whose encoder and decoder are used: its name, or a file.
    """

    name = "wct"

    def code(self, features: Tensor) -> StyleCode:
        """Return the mean (B, C, 1) and the square root of the covariance (B, C, C) of the features."""
        mean, covariance = whitening.covariance(features)
        root = whitening.symmetric_power(covariance, 0.5)
        return {"mean": mean.float(), "root": root.float()}

    def transform(self, features: Tensor, code: StyleCode, statistics_fn: StatisticsFn = compute_statistics) -> Tensor:
        """Whiten and color the features."""
        mean, covariance = statistics_fn(whitening.covariance, features)
        return whitening.whiten_and_color(features, mean, covariance, code["mean"], code["root"])
