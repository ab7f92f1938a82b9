"""Stylizing a batch in which each image has its own style and strength."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from adain.functional import normalization
from adain.imaging.photo import scaled, to_float
from adain.inference.tiles import Tile, padded_part
from adain.inference.tiling import padded_side
from adain.methods import EncoderDecoder, StyleCode

MAX_PIXELS = 2**21
"""Most pixels that are stylized at a time: 32 images of 256 x 256. It limits the memory for large batches and clips."""


def stylize_batch(
    method: EncoderDecoder,
    images: Tensor,
    code: StyleCode,
    alphas: Tensor,
    size: int | None = None,
    residual: bool = True,
) -> Tensor:
    """Stylize each image in its own style: (B, 3, H, W) in [0, 1], float32, on the device of the method.

    The result equals `adain.stylize` of each image alone, up to rounding.

    Args:
        method: Ready to stylize.
        images: (B, 3, H, W), in [0, 1] or of `torch.uint8` or `torch.uint16`.
        code: Style codes of the batch.
        alphas: (B,) strengths from 0 to 1, on the CPU.
        size: Shorter side in pixels at which the network works; None for that of the images.
        residual: Add back what the network cannot reconstruct of the content, in proportion to 1 - alpha.
    """
    width, height = scaled((images.shape[3], images.shape[2]), size)
    count = max(1, MAX_PIXELS // (height * width))
    parts = []
    for start in range(0, len(images), count):
        rows = slice(start, start + count)
        part_code = {name: part[rows] for name, part in code.items()}
        parts.append(_stylize_part(method, images[rows], part_code, alphas[rows], (height, width), residual))
    return torch.cat(parts)


def _stylize_part(
    method: EncoderDecoder, images: Tensor, code: StyleCode, alphas: Tensor, shape: tuple[int, int], residual: bool
) -> Tensor:
    """Stylize some images of a batch at the height and width `shape`. The other arguments are as of `stylize_batch`."""
    content = to_float(images.to(method.device))
    whole = (slice(0, padded_side(shape[0], method.stride)), slice(0, padded_side(shape[1], method.stride)))
    padded = padded_part(_resize(content, shape), Tile(whole, whole), method)

    def at_full_size(decoded: Tensor) -> Tensor:
        return _resize(decoded[..., : shape[0], : shape[1]].float().clamp(0, 1), content.shape[2:])

    below_one = alphas < 1
    blend = bool(below_one.any())
    encoded = method.encode_content(padded.to(method.dtype), blend=blend)
    style = {name: part.to(method.device) for name, part in code.items()}
    alpha = alphas.to(method.device) if blend else 1.0
    stylized = at_full_size(method.decode(encoded, style, alpha))
    if not (blend and residual):
        return stylized
    rows = below_one.nonzero()[:, 0].to(method.device)
    rebuilt = at_full_size(method.rebuild(encoded.rows(rows)))
    weight = (1 - alphas[below_one]).to(method.device)[:, None, None, None]
    blended = normalization.add_residual(stylized[rows], rebuilt, content[rows], weight)
    return stylized.index_copy(0, rows, blended.clamp(0, 1))


def _resize(images: Tensor, shape: Sequence[int]) -> Tensor:
    """Resize images (B, 3, H, W) to (height, width): antialiased bicubic."""
    if images.shape[2:] == torch.Size(shape):
        return images
    return F.interpolate(images, tuple(shape), mode="bicubic", antialias=True).clamp(0, 1)
