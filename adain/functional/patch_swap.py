"""Style-swap: every content patch replaced by the most similar style patch."""

import torch
import torch.nn.functional as F
from torch import Tensor


def swap(content: Tensor, style: Tensor, size: int = 3, stride: int = 1, chunk: int = 1024) -> Tensor:
    """Every patch of `content` replaced by the style's most similar one, overlaps averaged.

    Chen & Schmidt 2016, section 3.1. `content` (B, C, H, W), `style` (B or 1, C, h, w), both at least `size` a side;
    patches of size x size each `stride`, the last row and column included. Similarity is the normalized
    cross-correlation. `chunk` style patches are compared at a time, which bounds the memory: chunk x H x W numbers.
    """
    pairs = zip(content, style.expand(len(content), *style.shape[1:]), strict=True)
    return torch.stack([_swap(features, patches, size, stride, chunk) for features, patches in pairs])


def _swap(content: Tensor, style: Tensor, size: int, stride: int, chunk: int) -> Tensor:
    if min(*content.shape[1:], *style.shape[1:]) < size:
        raise ValueError(
            f"patches of {size} pixels do not fit features of {[*content.shape[1:]]} and {[*style.shape[1:]]}"
        )
    (rows, columns), (style_rows, style_columns) = (
        [_origins(side, size, stride, x.device) for side in x.shape[1:]] for x in (content, style)
    )
    ys, xs = (axis.flatten() for axis in torch.meshgrid(style_rows, style_columns, indexing="ij"))
    windows = style.unfold(1, size, 1).unfold(2, size, 1)  # (C, h', w', size, size), a view
    best = content.new_full((len(rows), len(columns)), -torch.inf)
    match = torch.zeros_like(best, dtype=torch.long)
    for start in range(0, len(ys), chunk):
        part = slice(start, start + chunk)
        filters = windows[:, ys[part], xs[part]].transpose(0, 1).contiguous()
        filters = filters / filters.flatten(1).norm(dim=1).clamp(min=1e-6).view(-1, 1, 1, 1).to(filters.dtype)
        found, which = F.conv2d(content[None], filters)[0][:, rows][:, :, columns].max(0)
        match = torch.where(found > best, which + start, match)
        best = torch.maximum(found, best)
    result, count = torch.zeros_like(content), content.new_zeros(content.shape[1:])
    for dy in range(size):
        for dx in range(size):  # of C x H x W numbers each, where all patches at once would be size^2 times that
            place = slice(None), (rows + dy)[:, None], (columns + dx)[None]
            result[place] += style[:, ys[match] + dy, xs[match] + dx]
            count[place[1:]] += 1
    return result / count.clamp(min=1)


def _origins(side: int, size: int, stride: int, device: torch.device) -> Tensor:
    steps = [*range(0, side - size + 1, stride)]
    return torch.tensor(steps if steps[-1] == side - size else [*steps, side - size], device=device)
