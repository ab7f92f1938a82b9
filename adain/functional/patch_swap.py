"""Style swap: every content patch is replaced by the most similar style patch."""

import torch
from torch import Tensor

from adain.functional import normalization, statistics
from adain.functional.statistics import at_least_float32


def swap(content: Tensor, style: Tensor, size: int = 3, stride: int = 1, chunk: int = 1024) -> Tensor:
    """Replace every patch of `content` by the most similar patch of `style`, and average overlaps.

    Chen & Schmidt 2016, section 3.1. Similarity is the normalized cross-correlation. The last row and column of patches
    are always included.

    Args:
        content: Features (B, C, H, W).
        style: Features (B or 1, C, h, w).
        size: Height and width of the patches.
        stride: Step between patches, at most `size`. Larger steps would leave gaps, which are filled with zeros.
        chunk: Number of style patches to compare at a time, rounded to whole rows, and at least 2 `size` rows. Each
            takes about 3 x H x W numbers.

    Returns:
        Features (B, C, H, W).

    Raises:
        ValueError: The patches are larger than the features.
    """
    style = style.expand(len(content), *style.shape[1:])
    results = []
    for content_features, style_features in zip(content, style, strict=True):
        results.append(_swap_one(content_features, style_features, size, stride, chunk))
    return torch.stack(results)


def swap_and_match(content: Tensor, style: Tensor, size: int = 3, stride: int = 1) -> Tensor:
    """Swap patches, and give the result the channel means and standard deviations of the style.

    Averages of overlapping patches vary less than the patches themselves. See `swap` for the arguments.
    """
    return normalization.adain(swap(content, style, size, stride), *statistics.mean_std(style))


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

    # Sums in half precision are too coarse to tell similar patches apart.
    features = at_least_float32(content), at_least_float32(style)
    match = _best_matches(*features, (rows, columns), (style_rows, style_columns), size, chunk)
    pixels = style.permute(1, 2, 0).contiguous()  # the channels of a pixel are copied at once
    result = torch.zeros_like(content.permute(1, 2, 0), memory_format=torch.contiguous_format)
    count = content.new_zeros(*content_shape, 1)
    # One pixel of all patches at a time takes C x H x W numbers. All pixels at once would take size^2 times as many.
    for dy in range(size):
        for dx in range(size):
            target_rows = (rows + dy)[:, None]
            target_columns = (columns + dx)[None]
            result[target_rows, target_columns] += pixels[ys[match] + dy, xs[match] + dx]
            count[target_rows, target_columns] += 1
    return (result / count.clamp(min=1)).permute(2, 0, 1).contiguous()


def _best_matches(
    content: Tensor,
    style: Tensor,
    content_origins: tuple[Tensor, Tensor],
    style_origins: tuple[Tensor, Tensor],
    size: int,
    chunk: int,
) -> Tensor:
    """Return the index of the most similar style patch for each content patch, (rows, columns).

    Args:
        content: Features (C, H, W).
        style: Features (C, h, w).
        content_origins: The rows and the columns where content patches start.
        style_origins: The rows and the columns where style patches start.
        size: Height and width of the patches.
        chunk: Number of style patches to compare at a time.
    """
    rows, columns = content_origins
    style_rows, style_columns = style_origins
    norms = _patch_norms(style, size)
    rows_at_a_time = max(2 * size, chunk // len(style_columns))
    best = content.new_full((len(rows), len(columns)), -torch.inf)
    match = torch.zeros_like(best, dtype=torch.long)
    start = 0
    for origins in style_rows.split(rows_at_a_time):
        first, last = int(origins[0]), int(origins[-1])
        products = _patch_products(content, style[:, first : last + size], size)
        similarity = products.div_(norms[first : last + 1])
        for axis, chosen in enumerate((rows, columns, origins - first, style_columns)):
            if len(chosen) < similarity.shape[axis]:  # with a stride above 1
                similarity = similarity.index_select(axis, chosen)
        similarity = similarity.flatten(2)
        chunk_best, chunk_match = similarity.max(2)
        match = torch.where(chunk_best > best, chunk_match + start, match)
        best = torch.maximum(chunk_best, best)
        start += similarity.shape[2]
    return match


def _patch_products(content: Tensor, style: Tensor, size: int) -> Tensor:
    """Return the inner product of each content patch with each style patch: (H', W', h', w').

    The product of two patches is the sum of those of their pixels. Each pixel belongs to size^2 patches, but is
    multiplied only once. The sums over rows and over columns follow one after the other.

    Args:
        content: Features (C, H, W).
        style: Features (C, h, w).
        size: Height and width of the patches.
    """
    products = torch.tensordot(content, style, dims=([0], [0]))  # (H, W, h, w)
    return _diagonal_sums(_diagonal_sums(products, 1, 3, size), 0, 2, size)


def _diagonal_sums(products: Tensor, content_axis: int, style_axis: int, size: int) -> Tensor:
    """Return the sums of `size` elements whose indices on both axes grow together."""
    content_length = products.shape[content_axis] - size + 1
    style_length = products.shape[style_axis] - size + 1
    sums = products.narrow(content_axis, 0, content_length).narrow(style_axis, 0, style_length).clone()
    for offset in range(1, size):
        sums += products.narrow(content_axis, offset, content_length).narrow(style_axis, offset, style_length)
    return sums


def _patch_norms(style: Tensor, size: int) -> Tensor:
    """Return the Euclidean norm of each patch of features (C, h, w), (h', w')."""
    squares = style.square().sum(0)
    return squares.unfold(0, size, 1).unfold(1, size, 1).sum((2, 3)).sqrt().clamp(min=1e-6)


def _origins(length: int, size: int, stride: int, device: torch.device) -> Tensor:
    """Return where patches start along an axis, every `stride` positions and at the last possible one."""
    last = length - size
    origins = list(range(0, last + 1, stride))
    if origins[-1] != last:
        origins.append(last)
    return torch.tensor(origins, device=device)
