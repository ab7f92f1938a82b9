"""Regions of an image, each stylized with its own style, and how they are combined."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adain.functional import normalization
from adain.methods import StyleCode

Finish = Callable[[Tensor, Tensor], Tensor]
"""Changes stylized colors, given the content: takes and returns (B, 3, H, W) in [0, 1]."""

Window = tuple[slice, slice]
"""Rows and columns of an image."""


@dataclass(frozen=True)
class Region:
    """Where, and how strongly, one style applies.

    Args:
        code: The style.
        alpha: Strength of the style, from 0 to 1.
        mask: Where the style applies: (1, 1, H, W), uint8, of the image's size; None for everywhere.
        residual: Weight, from 0 to 1, with which `adain.functional.normalization.add_residual` adds back what the
            network cannot reconstruct of the content.
    """

    code: StyleCode
    alpha: float = 1.0
    mask: Tensor | None = None
    residual: float = 0.0


@dataclass(frozen=True)
class Layers:
    """The outputs of the network for a part of an image, (B, 3, h, w) in [0, 1], float32, and their weights."""

    stylized: Tensor
    """The regions' results, blended where their masks overlap."""
    reconstructed: Tensor | None
    """The content as the network reconstructs it; None where nothing is added back."""
    residual: Tensor
    """The weight of what is added back: one number, or (1, 1, h, w) if there are masks."""
    covered: Tensor | None
    """(1, 1, h, w): how much the masks cover the content; None without masks."""

    def over(self, content: Tensor, finish: Finish | None) -> Tensor:
        """Combine all layers with the content, after `finish` has changed their colors."""
        stylized = finish(self.stylized, content) if finish else self.stylized
        if self.reconstructed is not None:
            reconstructed = finish(self.reconstructed, content) if finish else self.reconstructed
            stylized = normalization.add_residual(stylized, reconstructed, content, self.residual)
        if self.covered is None:
            return stylized
        return content.lerp(stylized, self.covered)


def blend_regions(
    content: Tensor,
    window: Window,
    regions: Sequence[Region],
    stylize: Callable[[int], Tensor],
    reconstruct: Callable[[], Tensor],
) -> Layers:
    """Stylize a part of an image in all regions, and blend the results by their masks.

    Args:
        content: (B, 3, h, w) in [0, 1]: the part, possibly padded at the bottom and right.
        window: The rows and columns of the part in the image.
        regions: One region without a mask, or several with masks.
        stylize: Returns the part in the style of the region with the given index, without its mask.
        reconstruct: Returns the part as the network reconstructs it; called only where something is added back.
    """
    if regions[0].mask is None:
        stylized = stylize(0)
        residual = content.new_tensor(regions[0].residual)
        covered = None
    else:
        shares, covered = _shares(regions, content, window)
        stylized = torch.zeros_like(content)
        residual = torch.zeros_like(covered)
        for i, (region, share) in enumerate(zip(regions, shares, strict=True)):
            if share.any():
                stylized += share * stylize(i)
                residual += share * region.residual
    reconstructed = reconstruct() if residual.any() else None
    return Layers(stylized, reconstructed, residual, covered)


def _shares(regions: Sequence[Region], content: Tensor, window: Window) -> tuple[list[Tensor], Tensor]:
    """Return each region's share of the blend, and how much all of them cover the content: (1, 1, h, w) in [0, 1]."""
    rows, columns = window
    masks = [region.mask[..., rows, columns] for region in regions if region.mask is not None]
    bottom = content.shape[2] - masks[0].shape[2]
    right = content.shape[3] - masks[0].shape[3]
    amounts = [F.pad(mask.to(content) / 255, (0, right, 0, bottom)) for mask in masks]
    total = torch.stack(amounts).sum(0)
    shares = [amount / total.clamp(min=1e-6) for amount in amounts]
    return shares, total.clamp(max=1)


def any_below_full_strength(regions: Sequence[Region]) -> bool:
    """Return whether the content is blended with the style in any region."""
    return any(region.alpha < 1 for region in regions)
