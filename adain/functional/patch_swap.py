"""Style swap: every content patch is replaced by the most similar style patch."""

import torch
import torch.nn.functional as F
from torch import Tensor


def swap(content: Tensor, style: Tensor, size: int = 3, stride: int = 1, chunk: int = 1024) -> Tensor:
    """Replace every patch of `content` by the most similar patch of `style`, and average overlaps.

    Chen & Schmidt 2016, section 3.1. Similarity is the normalized cross-correlation. The last row and column of patches
    are always included.

    Args:
        content: features (B, C, H, W).
        style: features (B or 1, C, h, w).
        size: height and width of the patches.
        stride: step between patches.
        chunk: number of style patches to compare at a time, which bounds the memory to chunk x H x W numbers.

    Returns:
        Features (B, C, H, W).

    Raises:
        ValueError: the patches are larger than the features.
    """
    style = style.expand(len(content), *style.shape[1:])
    results = []
    for content_features, style_features in zip(content, style, strict=True):
        results.append(_swap_one(content_features, style_features, size, stride, chunk))
    return torch.stack(results)


def _swap_one(content: Tensor, style: Tensor, size: int, stride: int, chunk: int) -> Tensor:
    """Swap the patches of one content (C, H, W) with those of one style (C, h, w)."""
    content_shape = [*content.shape[1:]]
    style_shape = [*style.shape[1:]]
    if min(content_shape + style_shape) < size:
        raise ValueError(f"patches of {size} pixels do not fit features of {content_shape} and {style_shape}")
    rows = _origins(content_shape[0], size, stride, content.device)
    columns = _origins(content_shape[1], size, stride, content.device)
    style_rows = _origins(style_shape[0], size, stride, style.device)
    style_columns = _origins(style_shape[1], size, stride, style.device)
    grid_ys, grid_xs = torch.meshgrid(style_rows, style_columns, indexing="ij")
    ys = grid_ys.flatten()
    xs = grid_xs.flatten()

    match = _best_matches(content, style, (rows, columns), (ys, xs), size, chunk)
    result = torch.zeros_like(content)
    count = content.new_zeros(content_shape)
    # One pixel of all patches at a time takes C x H x W numbers. All pixels at once would take size^2 times as many.
    for dy in range(size):
        for dx in range(size):
            target_rows = (rows + dy)[:, None]
            target_columns = (columns + dx)[None]
            result[:, target_rows, target_columns] += style[:, ys[match] + dy, xs[match] + dx]
            count[target_rows, target_columns] += 1
    return result / count.clamp(min=1)


def _best_matches(
    content: Tensor,
    style: Tensor,
    content_grid: tuple[Tensor, Tensor],
    style_origins: tuple[Tensor, Tensor],
    size: int,
    chunk: int,
) -> Tensor:
    """Return the index of the most similar style patch for each content patch, (rows, columns).

    Args:
        content: features (C, H, W).
        style: features (C, h, w).
        content_grid: the rows and the columns where content patches start.
        style_origins: the row and the column where each style patch starts.
        size: height and width of the patches.
        chunk: number of style patches to compare at a time.
    """
    rows, columns = content_grid
    ys, xs = style_origins
    windows = style.unfold(1, size, 1).unfold(2, size, 1)  # (C, h', w', size, size), a view
    best = content.new_full((len(rows), len(columns)), -torch.inf)
    match = torch.zeros_like(best, dtype=torch.long)
    for start in range(0, len(ys), chunk):
        part = slice(start, start + chunk)
        filters = windows[:, ys[part], xs[part]].transpose(0, 1).contiguous()
        norms = filters.flatten(1).norm(dim=1).clamp(min=1e-6).view(-1, 1, 1, 1)
        filters = filters / norms.to(filters.dtype)
        similarity = F.conv2d(content[None], filters)[0][:, rows][:, :, columns]
        chunk_best, chunk_match = similarity.max(0)
        match = torch.where(chunk_best > best, chunk_match + start, match)
        best = torch.maximum(chunk_best, best)
    return match


def _origins(length: int, size: int, stride: int, device: torch.device) -> Tensor:
    """Return where patches start along an axis, every `stride` positions and at the last possible one."""
    last = length - size
    origins = list(range(0, last + 1, stride))
    if origins[-1] != last:
        origins.append(last)
    return torch.tensor(origins, device=device)
