"""WCT: whitening and coloring transform (Li et al., NIPS 2017, arXiv 1705.08086)."""

from torch import Tensor

from adain.functional import whitening
from adain.functional.statistics import StatisticsFn, at_least_float32, compute_statistics
from adain.methods.base import StyleCode
from adain.methods.feature_transform import FeatureTransform


class WCT(FeatureTransform):
    """The content's features given the style's mean and whole covariance, at AdaIN's layer, decoded by its decoder.

    The paper goes through five layers with a decoder each; this is its deepest-but-one step alone.

    Args:
        decoder: weights of an `AdaIN` that brings its encoder and its decoder: its name, or a file.
    """

    name = "wct"

    def code(self, features: Tensor) -> StyleCode:
        """The features' mean (B, C, 1) and the root of their covariance (B, C, C), which colors."""
        mean, covariance = whitening.covariance(features)
        return {"mean": mean.float(), "root": whitening.symmetric_power(covariance, 0.5).float()}

    def transform(self, features: Tensor, code: StyleCode, statistics_fn: StatisticsFn = compute_statistics) -> Tensor:
        """The features whitened, then colored: one product with each pixel's channels."""
        mean, covariance = statistics_fn(whitening.covariance, features)
        matrix = code["root"].to(mean) @ whitening.symmetric_power(covariance, -0.5)
        shift = code["mean"].to(mean) - matrix @ mean
        wide = at_least_float32(features)
        return (matrix.to(wide) @ wide.flatten(2) + shift.to(wide)).view(features.shape)
