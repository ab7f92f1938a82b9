"""Training losses as plain functions of feature mappings, and their weighted sum."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from adain import ops

Features = Mapping[str, Tensor]


def content_loss(features: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of two feature maps, in float32 (Huang & Belongie 2017, eq. 12)."""
    return F.mse_loss(features.float(), target.float())


def style_loss(features: Tensor, style: Tensor, reduction: Literal["mean", "sum"] = "mean") -> Tensor:
    """Squared differences of channel means and standard deviations of one layer (Huang & Belongie 2017, eq. 13).

    `reduction` is over channels; over the batch it is always the mean. The authors sum, which gives deeper layers
    more weight; `mean` is what later implementations settled on.
    """
    (mean, std), (style_mean, style_std) = ops.mean_std(features), ops.mean_std(style)
    loss = F.mse_loss(mean, style_mean) + F.mse_loss(std, style_std)
    return loss * features.shape[1] if reduction == "sum" else loss


@dataclass(frozen=True)
class PerceptualLoss:
    """Content and style losses on a backbone's features, and a pixel loss for reconstruction.

    The two public weightings of AdaIN are `style_reduction` sum with `style_weight` 0.01 (the authors' code) and mean
    with 10 (the default). They weigh the layers differently: 0.64, 1.28, 2.56, 5.12 against 10 each.

    Args:
        content_layer: where the content is compared, and where AdaIN's target is formed.
        style_layers: where channel statistics are compared, each counting the same.
        content_weight: factor of the content loss.
        style_weight: factor of the sum of the layers' style losses.
        style_reduction: over channels, see above.
        reconstruction_weight: factor of the mean squared error, in pixels of [0, 1], of a picture stylised as
            itself; 0 leaves that pass out. It brings alpha 0 nearer to the content.
    """

    content_layer: str = "relu4_1"
    style_layers: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
    content_weight: float = 1.0
    style_weight: float = 10.0
    style_reduction: Literal["mean", "sum"] = "mean"
    reconstruction_weight: float = 0.0

    @property
    def layers(self) -> tuple[str, ...]:
        """Every layer that a backbone must return for this loss."""
        return tuple(dict.fromkeys((*self.style_layers, self.content_layer)))

    def __call__(self, stylized: Features, content: Features, style: Features) -> dict[str, Tensor]:
        """Unweighted terms by name from the features of three batches: `content`, `style` and `style/<layer>`."""
        target = ops.adain(content[self.content_layer], *ops.mean_std(style[self.content_layer]))
        layers = {
            f"style/{layer}": style_loss(stylized[layer], style[layer], self.style_reduction)
            for layer in self.style_layers
        }
        return {
            "content": content_loss(stylized[self.content_layer], target),
            "style": torch.stack(list(layers.values())).sum(),
            **layers,
        }

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """The weighted sum of the terms, `reconstruction` among them if it is there."""
        weights = {
            "content": self.content_weight,
            "style": self.style_weight,
            "reconstruction": self.reconstruction_weight,
        }
        return torch.stack([weight * terms[name] for name, weight in weights.items() if name in terms]).sum()
