"""What Gatys' optimization minimizes: the content, style, and total variation losses (Gatys et al. 2016, eq. 7)."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adain.functional import statistics
from adain.functional.losses import Features, content_loss, gram_loss, total_variation

NO_DISTANCE = 1e-12  # added before a square root, whose gradient is infinite at 0


@dataclass(frozen=True)
class Objective:
    """The weighted losses of an image.

    Attributes:
        content_layers: Factors of the layers of the content loss, by name.
        style_layers: Factors of the layers of the style loss, by name.
        content_weight: Factor of the content loss.
        style_weight: Factor of the style loss.
        tv_weight: Factor of the total variation.
        original: Whether losses are the sums of the paper (eq. 1 and 4) instead of means.
        squared: Whether the distances of Gram matrices are squared, as in the paper.
    """

    content_layers: Mapping[str, float]
    style_layers: Mapping[str, float]
    content_weight: float
    style_weight: float
    tv_weight: float
    original: bool
    squared: bool

    def losses(
        self, image: Tensor, features: Features, content: Features, grams: Features, regions: Features
    ) -> Tensor:
        """Return the weighted content, style, and total variation losses, (3,).

        Args:
            image: Image (1, 3, H, W).
            features: Features (1, C, h, w) of the image by layer.
            content: Features (1, C, h, w) of the content by layer.
            grams: Target Gram matrices (R, C, C) by layer, for R regions.
            regions: What `region_factors` returns.
        """
        content_part, style_part, tv_part = image.new_zeros(3).unbind()
        for layer, weight in self.content_layers.items():
            scale = content[layer].numel() / 2 if self.original else 1
            content_part = content_part + weight * scale * content_loss(features[layer], content[layer]).sum()
        for layer, weight in self.style_layers.items():
            scale = 1 / 4 if self.original else 1
            distances = scale * gram_loss(_apply_regions(features, regions, layer), grams[layer])
            if not self.squared:
                distances = (distances + NO_DISTANCE).sqrt()
            style_part = style_part + weight * distances.sum()
        if self.tv_weight:
            tv_part = total_variation(image).sum()
        terms = torch.stack([content_part, style_part, tv_part])
        return terms * terms.new_tensor([self.content_weight, self.style_weight, self.tv_weight])

    def target_grams(self, content: Features, styles: Features, regions: Features, alpha: Tensor) -> dict[str, Tensor]:
        """Return the target Gram matrices (R, C, C) by layer, blended from those of the content and of R styles.

        Args:
            content: Features (1, C, h, w) of the content by layer.
            styles: Gram matrices (R, C, C) of the styles by layer.
            regions: What `region_factors` returns.
            alpha: Strengths (R,) of the styles, from 0 (the content's Gram matrices) to 1.
        """
        targets = {}
        for layer in self.style_layers:
            content_gram = statistics.gram(_apply_regions(content, regions, layer))
            targets[layer] = content_gram.lerp(styles[layer], alpha.to(content_gram).view(-1, 1, 1))
        return targets

    def region_factors(self, features: Features, mask: Tensor | None) -> dict[str, Tensor]:
        """Return the factors of each style layer's features in each region, (R, 1, h, w), or nothing without masks.

        The factors are square roots of weights whose spatial mean is 1, so that the Gram matrix of a region does not
        depend on its size (Gatys et al., CVPR 2017, eq. 5).
        """
        factors: dict[str, Tensor] = {}
        if mask is None:
            return factors
        for layer in self.style_layers:
            layer_features = features[layer]
            resized = F.interpolate(mask.to(layer_features.device).float(), layer_features.shape[2:], mode="area")
            weights = resized / resized.mean((2, 3), keepdim=True).clamp(min=1e-6)
            factors[layer] = weights.sqrt().to(layer_features.dtype)
        return factors


def _apply_regions(features: Features, regions: Features, layer: str) -> Tensor:
    """Return the features of a layer (1, C, h, w), or their products with each region (R, C, h, w)."""
    if not regions:
        return features[layer]
    return features[layer] * regions[layer]
