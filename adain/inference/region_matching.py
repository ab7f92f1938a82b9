"""Regions of a content, each matched with the most similar region of the style.

Both images are divided into regions of similar features, such as sky, water, and houses. Each region of the content is
then stylized with the statistics of the style's region that is most similar to it. The idea is that of semantic style
transfer without labels (Champandard 2016; Luan et al. 2017 use segmentations).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adain.functional.clustering import spherical_kmeans
from adain.functional.guided_filter import guided_filter
from adain.functional.statistics import StatisticsFn
from adain.imaging.photo import to_float
from adain.models.backbones import Backbone

LAYER = "relu4_1"

ANALYSIS_SIDE = 384
"""Shorter side in pixels at which regions are found: 48 features along it."""

SMOOTHING = 3
"""Side of the window, in features, over which features are averaged before they are grouped."""

EDGE_RADIUS = 24
"""Radius in pixels, at `ANALYSIS_SIDE`, of the filter that aligns the regions with the content's edges."""


@dataclass(frozen=True)
class Match:
    """A region of the content, and where its style is found."""

    content_mask: Tensor
    """(1, 1, H, W), uint8, of the content's size; soft at its edges. The masks of all regions add up to 255."""
    style_mask: Tensor
    """(1, 1, h, w), bool: the region of the style, on the grid of the features."""


def match_regions(content: Tensor, style: Tensor, count: int) -> list[Match]:
    """Divide both images into regions, and match each region of the content with the most similar one of the style.

    Features are compared by the cosine of their differences from the mean of their own image, so that a photo and a
    painting are comparable. The result is deterministic.

    Args:
        content: (1, 3, H, W) in [0, 1], or of `torch.uint8` or `torch.uint16`.
        style: (1, 3, h, w) in [0, 1].
        count: Largest number of regions of each image.
    """
    small_content = _small(to_float(content))
    content_labels, content_centers = _clusters(_features(small_content), count)
    style_labels, style_centers = _clusters(_features(_small(style)), count)
    partners = (content_centers @ style_centers.T).argmax(1)

    # Regions of the content with the same partner are one region.
    used = partners.unique()
    masks = torch.stack([(partners[content_labels] == partner).float() for partner in used])
    matches = []
    for partner, mask in zip(used, _soft_masks(masks, small_content, content.shape[2:]), strict=True):
        matches.append(Match(mask[None, None], (style_labels == partner)[None, None]))
    return matches


def statistics_within(mask: Tensor) -> StatisticsFn:
    """Return a function that computes the statistics of features within a mask only.

    Args:
        mask: (1, 1, h, w), bool, with at least one pixel; it is resized to the features.
    """

    def compute(statistic: Callable[[Tensor], Any], features: Tensor) -> Any:
        share = F.interpolate(mask.float(), features.shape[2:], mode="area").flatten()
        inside = (share >= share.max() / 2).nonzero()[:, 0].to(features.device)
        return statistic(features.flatten(2).index_select(2, inside).unsqueeze(3))

    return compute


@cache
def _backbone() -> Backbone:
    return Backbone(layers=(LAYER,)).eval()


def _features(image: Tensor) -> Tensor:
    """Return smoothed features (1, C, h, w), without their mean."""
    with torch.no_grad():
        features = _backbone()(image)[LAYER]
    smoothed = F.avg_pool2d(features, SMOOTHING, 1, SMOOTHING // 2, count_include_pad=False)
    return smoothed - smoothed.mean((2, 3), keepdim=True)


def _small(image: Tensor) -> Tensor:
    """Resize an image (1, 3, H, W) so that its shorter side is `ANALYSIS_SIDE`, or its longer side four times that."""
    shorter, longer = sorted(image.shape[2:])
    scale = min(ANALYSIS_SIDE / shorter, 4 * ANALYSIS_SIDE / longer)
    sides = [max(16, round(side * scale)) for side in image.shape[2:]]
    return F.interpolate(image.cpu().float(), sides, mode="bilinear", antialias=True)


def _clusters(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the cluster of each feature (h, w), and the centers (K, C)."""
    labels, centers = spherical_kmeans(features.flatten(2)[0].T, count)
    return labels.view(features.shape[2:]), centers


def _soft_masks(masks: Tensor, small_content: Tensor, sides: torch.Size) -> Tensor:
    """Bring masks (K, h, w) to `sides`, along the edges of the content: (K, H, W), uint8, with a sum of 255."""
    guide = small_content.mean(1, keepdim=True).expand(len(masks), -1, -1, -1)
    soft = F.interpolate(masks[:, None], guide.shape[2:], mode="bilinear")
    aligned = guided_filter(soft, guide, EDGE_RADIUS).clamp(min=0)
    full = F.interpolate(aligned, sides, mode="bilinear")[:, 0]
    cumulative = (full.cumsum(0) / full.sum(0) * 255).round()
    steps = torch.diff(cumulative, dim=0, prepend=torch.zeros_like(cumulative[:1]))
    return steps.to(torch.uint8)
