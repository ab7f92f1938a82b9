"""Clustering of feature vectors by their directions."""

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ROUNDS = 50


def spherical_kmeans(vectors: Tensor, clusters: int) -> tuple[Tensor, Tensor]:
    """Group vectors by direction (Dhillon & Modha 2001, spherical k-means). The result is deterministic.

    The first center is the direction closest to the mean. Each further center is the vector that is least similar to
    all previous centers.

    Args:
        vectors: (N, C), of any length.
        clusters: Maximum number of clusters; fewer are returned if there are fewer distinct directions.

    Returns:
        The cluster index of each vector (N,), and the centers (K, C), each of length 1.
    """
    directions = F.normalize(vectors.float(), dim=1)
    centers = _spread_centers(directions, clusters)
    labels = (directions @ centers.T).argmax(1)
    for _ in range(MAX_ROUNDS):
        sums = torch.zeros_like(centers).index_add_(0, labels, directions)
        occupied = labels.bincount(minlength=len(centers)) > 0
        centers = F.normalize(sums[occupied], dim=1)
        before, labels = labels, (directions @ centers.T).argmax(1)
        if torch.equal(before, labels):
            break
    return labels, centers


def _spread_centers(directions: Tensor, clusters: int) -> Tensor:
    """Return up to `clusters` of the directions (N, C) that differ most from each other, (K, C)."""
    first = (directions @ directions.mean(0)).argmax()
    chosen = [first]
    similarity = directions @ directions[first]
    while len(chosen) < clusters and similarity.min() < 1 - 1e-6:
        farthest = similarity.argmin()
        chosen.append(farthest)
        similarity = similarity.maximum(directions @ directions[farthest])
    return directions[torch.stack(chosen)]
