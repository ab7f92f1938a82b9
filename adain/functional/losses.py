"""Losses on feature maps, and the weighted sum of losses that training minimizes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adain.functional import normalization, patch_swap, statistics
from adain.functional.statistics import at_least_float32

Features = Mapping[str, Tensor]
"""Feature maps (B, C, H, W) by layer name."""


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Return the mean squared difference of two feature maps (Huang & Belongie 2017, eq. 12).

    Args:
        features: Features (B, C, H, W).
        target: Features of the same shape.

    Returns:
        Losses (B,) in at least float32.
    """
    return (at_least_float32(features) - target).square().flatten(1).mean(1)


def style_loss(features: Tensor, style: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Return the squared differences of channel means and standard deviations (Huang & Belongie 2017, eq. 13).

    Args:
        features: Features of one layer (B, C, H, W).
        style: Features of the same layer (B, C, h, w).
        reduction: Reduction over channels. The authors use `sum`, which gives deeper layers more weight. Later
            implementations use `mean`.

    Returns:
        Losses (B,) in at least float32.
    """
    mean, std = statistics.mean_std(features)
    style_mean, style_std = statistics.mean_std(style)
    squares = (mean - style_mean).square() + (std - style_std).square()
    if reduction == "sum":
        return squares.flatten(1).sum(1)
    return squares.flatten(1).mean(1)


def gram_loss(features: Tensor, gram: Tensor) -> Tensor:
    """Return the squared Frobenius distance of Gram matrices (Johnson et al. 2016, eq. 4).

    Args:
        features: Features (B, C, H, W).
        gram: Gram matrices (B or 1, C, C) to compare with.

    Returns:
        Losses (B,) in at least float32.
    """
    return (statistics.gram(features) - gram).square().flatten(1).sum(1)


def total_variation(image: Tensor) -> Tensor:
    """Return the mean squared difference of neighboring pixels (Mahendran & Vedaldi 2015, eq. 6, beta = 2).

    The means over vertical and horizontal neighbors are added. An image (B, C, H, W) gives losses (B,).
    """
    wide = at_least_float32(image)
    total = wide.new_zeros(len(wide))
    for differences in (wide.diff(dim=2), wide.diff(dim=3)):
        if differences.numel():  # a line of pixels has neighbors along one axis only
            total = total + differences.square().flatten(1).mean(1)
    return total


@dataclass(frozen=True)
class PerceptualLoss:
    """Content and style losses on a backbone's features, and pixel losses.

    AdaIN has two public weightings: `style_reduction` sum with `style_weight` 0.01 (the authors' code), and mean with
    10 (the default). The style layers weigh 0.64, 1.28, 2.56, and 5.12 with `sum`, and 10 each with `mean`.

    Args:
        content_layer: Layer of the content loss, which also forms AdaIN's target.
        style_layers: Layers of the style loss.
        style_layer_weights: Factors of the style layers, in the same order; null weights all of them by 1.
        content_target: Target of the content layer: `adain`, the content's features with the style's statistics, which
            a method that decodes them inverts; `swap`, the style's patches that are most similar to the content's
            (`adain.functional.patch_swap.swap_and_match`); or `content`, the content's own features.
        content_weight: Factor of the content loss.
        style_weight: Factor of the sum of the layers' style losses.
        style_reduction: Reduction over channels: `mean`; or `sum`, as in the authors' code, which goes with a style
            weight of 0.01.
        style_statistics: Statistics that a style layer compares: `moments`, means and standard deviations of the
            channels; or `gram`, Gram matrices (`gram_loss`, where `style_reduction` does not apply).
        relative: Divide the content and style loss of each pair by the distance between its two images, as
            `adain.evaluation.metrics.scores` does. Otherwise the gradients of a few pairs of very different images
            exceed those of all others.
        reconstruction_weight: Factor of the mean squared error, for pixels in [0, 1], of an image stylized as itself; 0
            omits that pass. It brings alpha 0 closer to the content.
        tv_weight: Factor of the total variation of the result.
        adversarial_weight: Factor of the adversarial loss (`adain.training.adversarial`), by which results look like
            photos; 0 trains no discriminator.
    """

    content_layer: str = "relu4_1"
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    style_layer_weights: tuple[float, ...] | None = None
    content_target: Literal["adain", "swap", "content"] = "adain"
    content_weight: float = 1.0
    style_weight: float = 10.0
    style_reduction: Literal["mean", "sum"] = "mean"
    style_statistics: Literal["moments", "gram"] = "moments"
    relative: bool = False
    reconstruction_weight: float = 0.0
    tv_weight: float = 0.0
    adversarial_weight: float = 0.0

    def __post_init__(self) -> None:
        """Raise ValueError unless there are style layers, with one weight for each if there are weights."""
        if not self.style_layers:
            raise ValueError("Expected at least one of style_layers, got none; set style_weight to 0 for no style loss")
        weights = self.style_layer_weights
        if weights is not None and len(weights) != len(self.style_layers):
            raise ValueError(
                f"Expected {len(self.style_layers)} style_layer_weights (one per style layer), got {len(weights)}"
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that a backbone must return for this loss."""
        return tuple(dict.fromkeys((*self.style_layers, self.content_layer)))

    def __call__(self, stylized: Features, content: Features, style: Features) -> dict[str, Tensor]:
        """Return the unweighted terms by name: `content`, `style`, and `style/<layer>`, each the mean over the batch.

        Args:
            stylized: Features of the results. A relative loss needs images of one size.
            content: Features of the content images.
            style: Features of the style images.
        """
        content_features = content[self.content_layer]
        style_features = style[self.content_layer]
        target = content_features
        if self.content_target == "adain":
            target = normalization.adain(content_features, *statistics.mean_std(style_features))
        elif self.content_target == "swap":
            target = patch_swap.swap_and_match(content_features, style_features)
        content_term = content_loss(stylized[self.content_layer], target)
        layer_terms = self._style_losses(stylized, style)
        if self.relative:
            content_term = content_term / (content_loss(style_features, content_features) + 1e-5)
            scale = _sum(self._style_losses(content, style)) + 1e-5
            layer_terms = {layer: loss / scale for layer, loss in layer_terms.items()}

        terms = {"content": content_term.mean(), "style": _sum(layer_terms).mean()}
        for layer, loss in layer_terms.items():
            terms[f"style/{layer}"] = loss.mean()
        return terms

    def _style_losses(self, features: Features, style: Features) -> dict[str, Tensor]:
        """Return the weighted style loss of each layer, each (B,)."""
        weights = self.style_layer_weights or (1.0,) * len(self.style_layers)
        losses = {}
        for layer, weight in zip(self.style_layers, weights, strict=True):
            if self.style_statistics == "gram":
                loss = gram_loss(features[layer], statistics.gram(style[layer]))
            else:
                loss = style_loss(features[layer], style[layer], self.style_reduction)
            losses[layer] = weight * loss
        return losses

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of the terms that are present, including those that need no features."""
        weights = {
            "content": self.content_weight,
            "style": self.style_weight,
            "reconstruction": self.reconstruction_weight,
            "tv": self.tv_weight,
            "adversarial": self.adversarial_weight,
            "discriminator": 1.0,
        }
        weighted = [weight * terms[name] for name, weight in weights.items() if name in terms]
        return torch.stack(weighted).sum()


def _sum(losses: Mapping[str, Tensor]) -> Tensor:
    """Return the sum of losses (B,) over the layers."""
    return torch.stack(list(losses.values())).sum(0)
