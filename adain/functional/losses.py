"""Training losses as plain functions of feature mappings, and their weighted sum."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adain.functional import normalization, statistics
from adain.functional.statistics import at_least_float32

Features = Mapping[str, Tensor]


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of two feature maps, (B,) in float32 at least (Huang & Belongie 2017, eq. 12)."""
    return (at_least_float32(features) - target).square().flatten(1).mean(1)


def style_loss(features: Tensor, style: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Squared differences of channel means and standard deviations of one layer (Huang & Belongie 2017, eq. 13).

    Each (B,) in float32. `reduction` is over channels: the authors sum, which gives deeper layers more weight; `mean`
    is what later implementations settled on.
    """
    (mean, std), (style_mean, style_std) = statistics.mean_std(features), statistics.mean_std(style)
    squares = (mean - style_mean).square() + (std - style_std).square()
    return squares.flatten(1).sum(1) if reduction == "sum" else squares.flatten(1).mean(1)


def gram_loss(features: Tensor, gram: Tensor) -> Tensor:
    """Squared distance of the Gram matrix of `features` from another, (B,) (Johnson et al. 2016, eq. 4)."""
    return (statistics.gram(features) - gram).square().flatten(1).sum(1)


def total_variation(picture: Tensor) -> Tensor:
    """Mean squared difference of neighbors, down plus across, (B,) (Mahendran & Vedaldi 2015, eq. 6, beta 2)."""
    down, across = (at_least_float32(picture).diff(dim=dim) for dim in (2, 3))
    return down.square().flatten(1).mean(1) + across.square().flatten(1).mean(1)


@dataclass(frozen=True)
class PerceptualLoss:
    """Content and style losses on a backbone's features, and a pixel loss for reconstruction.

    The two public weightings of AdaIN are `style_reduction` sum with `style_weight` 0.01 (the authors' code) and mean
    with 10 (the default). They weigh the layers differently: 0.64, 1.28, 2.56, 5.12 against 10 each.

    Args:
        content_layer: where the content is compared, and where AdaIN's target is formed.
        style_layers: where channel statistics are compared.
        style_layer_weights: the factor of each of them, in the same order; null weighs all of them by 1.
        content_target: what the content layer should hold: `adain`, the content's features with the style's
            statistics, which a method that decodes them inverts; or `content`, the content's own features.
        content_weight: factor of the content loss.
        style_weight: factor of the sum of the layers' style losses.
        style_reduction: over channels, see above.
        style_statistics: what is compared of a style layer: its `moments`, means and deviations of the channels; or its
            `gram` matrix (`gram_loss`, for which `style_reduction` means nothing).
        relative: divide each pair's content and style loss by the distance of its two pictures from each other, as
            `adain.evaluation.metrics.scores` does. Without it, the gradients of a few pairs that lie far apart exceed
            those of all others.
        reconstruction_weight: factor of the mean squared error, in pixels of [0, 1], of a picture stylized as
            itself; 0 leaves that pass out. It brings alpha 0 nearer to the content.
        tv_weight: factor of the total variation of the result.
    """

    content_layer: str = "relu4_1"
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    style_layer_weights: tuple[float, ...] | None = None
    content_target: Literal["adain", "content"] = "adain"
    content_weight: float = 1.0
    style_weight: float = 10.0
    style_reduction: Literal["mean", "sum"] = "mean"
    style_statistics: Literal["moments", "gram"] = "moments"
    relative: bool = False
    reconstruction_weight: float = 0.0
    tv_weight: float = 0.0

    def __post_init__(self) -> None:
        """Raises ValueError unless there are as many style layer weights as style layers."""
        weights = self.style_layer_weights
        if weights is not None and len(weights) != len(self.style_layers):
            raise ValueError(
                f"expected {len(self.style_layers)} style_layer_weights (one per style layer), got {len(weights)}"
            )

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer that a backbone must return for this loss."""
        return tuple(dict.fromkeys((*self.style_layers, self.content_layer)))

    def __call__(self, stylized: Features, content: Features, style: Features) -> dict[str, Tensor]:
        """Unweighted terms by name from the features of three batches, each the mean over its pairs.

        They are `content`, `style` and `style/<layer>`. A relative loss takes pictures of one size.
        """
        target = content[self.content_layer]
        apart = style[self.content_layer]
        if self.content_target == "adain":
            target = normalization.adain(target, *statistics.mean_std(apart))
        terms = {"content": content_loss(stylized[self.content_layer], target)}
        layers = self._style(stylized, style)
        if self.relative:
            terms["content"] /= content_loss(apart, content[self.content_layer]) + 1e-5
            scale = torch.stack(list(self._style(content, style).values())).sum(0) + 1e-5
            layers = {layer: loss / scale for layer, loss in layers.items()}
        terms["style"] = torch.stack(list(layers.values())).sum(0)
        terms |= {f"style/{layer}": loss for layer, loss in layers.items()}
        return {name: term.mean() for name, term in terms.items()}

    def _style(self, features: Features, style: Features) -> dict[str, Tensor]:
        """The weighted style loss of each layer, each (B,)."""
        losses, weights = {}, self.style_layer_weights or (1.0,) * len(self.style_layers)
        for layer, weight in zip(self.style_layers, weights, strict=True):
            if self.style_statistics == "gram":
                loss = gram_loss(features[layer], statistics.gram(style[layer]))
            else:
                loss = style_loss(features[layer], style[layer], self.style_reduction)
            losses[layer] = weight * loss
        return losses

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the terms, `reconstruction` and `tv` among them if they are there."""
        weighted = (name for name in ("content", "style", "reconstruction", "tv") if name in terms)
        return torch.stack([getattr(self, f"{name}_weight") * terms[name] for name in weighted]).sum()
