"""Photorealistic results: the content itself, recolored as the stylized image is."""

import torch
from torch import Tensor

from adain.functional.guided_filter import fit_linear
from adain.imaging import resampling
from adain.imaging.photo import to_float
from adain.imaging.resampling import Upsampler
from adain.inference import full_size
from adain.inference.guided_upsampling import add_linear_
from adain.inference.strips import map_strips

SIDE = 256
"""Shorter side in pixels at which the change of the colors is fitted."""

SHARE = 1 / 8
"""Radius of the windows of the fit, as a share of the shorter side."""

EPS = 1e-2
"""Variance of the content's colors below which they change by the same amount in the whole window."""


def transfer_colors(
    stylized: Tensor,
    content: Tensor,
    weight: Tensor | None = None,
    share: float = SHARE,
    eps: float = EPS,
    strip: int = resampling.STRIP,
) -> Tensor:
    """Recolor the content as `stylized` does, without its strokes.

    What is stylized minus the content is replaced by a linear function of the content's colors around each pixel
    (`adain.functional.guided_filter.fit_linear`). Such a function adds neither edges nor texture. Because the ridge
    penalty applies to the change, and not to the result, the content's own edges and texture remain. The function is
    fitted to small copies (He & Sun 2015).

    Args:
        stylized: (B, 3, H, W) in [0, 1], or of `torch.uint8` or `torch.uint16`; the result is alike.
        content: The same shape.
        weight: (1, 1, H, W), uint8: how much of each pixel is stylized, 255 for all of it. Where it is 0, the result is
            `content` exactly.
        share: Radius of the windows over the shorter side.
        eps: Weight of the ridge penalty, a variance of the content's colors.
        strip: Rows that are computed at a time.
    """
    height, width = stylized.shape[2:]
    shape = full_size.work_shape(min(SIDE, height, width), (height, width))
    radius = max(1, round(share * min(shape)))
    with torch.inference_mode():
        guide = resampling.downsample(content, shape)
        change = resampling.downsample(stylized, shape) - guide
        small_weight = None if weight is None else resampling.downsample(weight, shape).to(guide)
        model = fit_linear(change, guide, radius, eps, small_weight)
    upsampler = Upsampler(shape, (height, width), stylized.device)

    def recolor(rows: slice) -> Tensor:
        content_rows = to_float(content[:, :, rows])
        offset = upsampler.rows(model.offset, rows, "bilinear")
        change_rows = add_linear_(offset, model.slopes, content_rows, upsampler, rows)
        if weight is not None:
            change_rows *= weight[:, :, rows].to(change_rows) / 255
        return content_rows + change_rows

    return map_strips(recolor, stylized, strip)
