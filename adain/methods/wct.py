"""WCT: whitening and colouring transform (Li et al., NIPS 2017, arXiv 1705.08086)."""

from torch import Tensor

from adain import ops
from adain.methods.base import StyleCode
from adain.methods.transform import FeatureTransform


class WCT(FeatureTransform):
    """The content's features given the style's mean and whole covariance, at AdaIN's layer, decoded by its decoder.

    The paper goes through five layers with a decoder each; this is its deepest-but-one step alone.

    Args:
        decoder: weights of an `AdaIN` that brings its encoder and its decoder: its name, or a file.
    """

    name = "wct"

    def code(self, features: Tensor) -> StyleCode:
        """The features' mean (B, C, 1) and the root of their covariance (B, C, C), which colours."""
        mean, covariance = ops.covariance(features)
        return {"mean": mean.float(), "root": ops.symmetric_power(covariance, 0.5).float()}

    def transform(self, features: Tensor, code: StyleCode, measure: ops.Measure = ops.whole) -> Tensor:
        """The features whitened, then coloured: one product with each pixel's channels."""
        mean, covariance = measure(ops.covariance, features)
        matrix = code["root"].to(mean) @ ops.symmetric_power(covariance, -0.5)
        shift = code["mean"].to(mean) - matrix @ mean
        wide = ops.widened(features)
        return (matrix.to(wide) @ wide.flatten(2) + shift.to(wide)).view(features.shape)
