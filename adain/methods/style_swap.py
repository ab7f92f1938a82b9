"""Style swap: content patches are replaced by the most similar style patches (Chen & Schmidt 2016)."""

from torch import Tensor

from adain.functional import patch_swap
from adain.functional.losses import Features
from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.methods.adain import AdaIN
from adain.methods.base import StyleCode
from adain.methods.feature_transform import FeatureTransform
from adain.models.checkpoint_io import CHECKPOINTS

INVERSE_NETWORK = CHECKPOINTS / "style_swap.safetensors"
"""An `AdaIN` at relu3_1, whose decoder inverts the features of that layer."""


class StyleSwap(FeatureTransform):
    """Patch swap at relu3_1, decoded by a network that inverts its features (arXiv 1612.04337, sections 3 and 4).

    The style code is the features of the style themselves, so that styles cannot be mixed.

    Args:
        patch: Height and width of the patches in feature pixels.
        stride: Step between patches of content and style in feature pixels.
        match_statistics: Give the swapped features the channel means and standard deviations of the style. Averages of
            overlapping patches vary less than the patches. The paper leaves them as they are.
        decoder: Weights of an `AdaIN`, whose encoder and decoder are used: its name, or a file. The default is the
            embedded inverse network, at relu3_1.

    Raises:
        ValueError: The stride is not between 1 and the patch size, or the decoder is not an AdaIN.
    """

    name = "style-swap"
    supports_mixing = False

    def __init__(self, patch: int = 3, stride: int = 1, match_statistics: bool = True, decoder: str | None = None):
        if not 1 <= stride <= patch:
            raise ValueError(f"Expected 1 <= stride <= patch, got stride {stride} and patch {patch}")
        super().__init__(decoder or str(INVERSE_NETWORK))
        self.arguments = {"decoder": decoder, "patch": patch, "stride": stride, "match_statistics": match_statistics}
        self.patch = patch
        self.step = stride
        self.match_statistics = match_statistics
        self.receptive_radius = None  # at the borders of tiles, other patches of the style would be the most similar

    def code(self, features: Tensor) -> StyleCode:
        """Return the features."""
        return {"features": features}

    def transform(self, features: Tensor, code: StyleCode, statistics_fn: StatisticsFn = compute_statistics) -> Tensor:
        """Swap the patches of the features. Features smaller than a patch use smaller patches."""
        patch = min(self.patch, *features.shape[2:], *code["features"].shape[2:])
        stride = min(self.step, patch)
        style_features = code["features"].to(features)
        swap = patch_swap.swap_and_match if self.match_statistics else patch_swap.swap
        return swap(features, style_features, patch, stride)


class InverseNetwork(AdaIN):
    """The network of `StyleSwap` in training: an `AdaIN` whose decoder learns to invert swapped features (section 4).

    Its weights are those of an `AdaIN`.
    """

    name = "adain"

    def forward(self, content: Tensor, style: Tensor, content_features: Features, style_features: Features) -> Tensor:
        """Decode the content's features with the patches and statistics of the style. See `Trainable.forward`."""
        return self.decoder(patch_swap.swap_and_match(content_features[self.layer], style_features[self.layer]))
