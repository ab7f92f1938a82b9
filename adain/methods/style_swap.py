"""Style-swap: every patch of the content's features replaced by the style's most similar (Chen & Schmidt 2016)."""

from torch import Tensor

from adain.functional import patch_swap
from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.methods.base import StyleCode
from adain.methods.feature_transform import FeatureTransform


class StyleSwap(FeatureTransform):
    """Patch swap at AdaIN's layer (arXiv 1612.04337, section 3), decoded by its decoder.

    The code is the style's features themselves, so that styles cannot be mixed.

    Args:
        patch: pixels a side of the patches, in features.
        stride: step between patches, of content and of style.
        decoder: weights of an `AdaIN` that brings its encoder and its decoder: its name, or a file.
    """

    name = "style-swap"
    supports_mixing = False

    def __init__(self, patch: int = 3, stride: int = 1, decoder: str = "adain"):
        if not 1 <= stride <= patch:
            raise ValueError(f"patch {patch} and stride {stride} do not fit: 1 <= stride <= patch")
        super().__init__(decoder)
        self.arguments |= {"patch": patch, "stride": stride}
        self.patch, self.step = patch, stride
        self.receptive_radius = None  # any patch of the style may be the best, but not the same one for a part's border

    def code(self, features: Tensor) -> StyleCode:
        """The features."""
        return {"features": features}

    def transform(self, features: Tensor, code: StyleCode, statistics_fn: StatisticsFn = compute_statistics) -> Tensor:
        """The features with their patches swapped; of tiny pictures' features smaller patches."""
        patch = min(self.patch, *features.shape[2:], *code["features"].shape[2:])
        return patch_swap.swap(features, code["features"].to(features), patch, min(self.step, patch))
