"""How an image is stylized. This module does not import torch, so that the command line starts fast."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from adain.imaging.options import check_size
from adain.utils.checks import check_choice

if TYPE_CHECKING:
    from adain.inference.image_types import ImageLike

AlphaBlend = Literal["residual", "features"]
Color = Literal["style", "keep-luminance", "coral"]
StyleSize = int | Literal["content"] | None
WorkSize = int | Literal["content"] | None

ALPHA_BLENDS = get_args(AlphaBlend)
COLORS = get_args(Color)

SMALLEST_WORK_SIZE = 64
"""The smallest shorter side, in pixels, at which a network works."""

MOST_REGIONS = 16
"""The largest number of regions that content and style are divided into."""

Options = TypeVar("Options")


@dataclass(frozen=True)
class StyleOptions:
    """How an image is stylized, whatever the method.

    Args:
        alpha: Strength of the style, from 0 (the content) to 1; one for all styles, or one for each. Mixed styles have
            one strength, the mean weighted by their shares; with masks, each region has its own.
        alpha_blend: How an alpha below 1 blends. residual blends features and adds back, in proportion to 1 - alpha,
            what the network cannot reconstruct of the content, so that alpha 0 is the content itself. features is
            equation 14 of the AdaIN paper, whose alpha 0 is the network's reconstruction. Not for johnson; gatys
            ignores it.
        style_size: Stroke size: shorter side of the style image in pixels, or content for that of the content (default:
            its own, at most 1024). Larger styles give coarser strokes.
        style_weight: Share of each of several styles that are mixed, of any sum (default: equal shares).
        mask: An image for each style, white where the style applies. Where masks overlap, their styles are blended;
            where all are black, the content stays as it is. With one mask fewer than styles, the first style applies to
            the rest.
        feather: Soften the masks over this many pixels.
        regions: Divide content and style into up to this many regions of similar content each, and stylize every region
            of the content like the most similar one of the style. For adain and adain-lite, with one style image.
        color: Which colors the result has: those of the style; those of the content (keep-luminance); or those of the
            style after it was recolored like the content (coral).
        photorealistic: Transfer only the colors of the stylized image to the content, smoothly and without strokes.
        work_size: Shorter side in pixels at which the network processes the content (default: 512 for contents above
            1024, else the content's own). The result is then upsampled along the content's edges, so that stroke size
            and time do not depend on the content's resolution. content always uses the content's own size. Not for
            gatys, which works at several sizes.
        detail: Share of the stylized luminance detail that is replaced by the content's, from 0 to 1. Above 0, faces
            stay more recognizable.
        tile: Side in pixels of the tiles that are stylized one at a time, with the statistics of the whole image
            (default: the whole image if it fits into memory).
        max_memory: Memory in GiB that the process may use (default: 1 GiB for the image on a CPU, at most half of the
            free memory). Large images are stylized faster with more memory.

    Raises:
        ValueError: An option is out of range.
    """

    alpha: float | Sequence[float] = 1.0
    alpha_blend: AlphaBlend = "residual"
    style_size: StyleSize = None
    style_weight: Sequence[float] | None = None
    mask: "ImageLike | Sequence[ImageLike] | None" = None
    feather: float = 0.0
    regions: int | None = None
    color: Color = "style"
    photorealistic: bool = False
    work_size: WorkSize = None
    detail: float = 0.0
    tile: int | None = None
    max_memory: float | None = None

    def __post_init__(self) -> None:
        """Check the ranges that do not depend on the images or the method."""
        if not self.alphas:
            raise ValueError("Expected one alpha for all styles or one for each, got none")
        for alpha in self.alphas:
            check_alpha(alpha)
        check_choice("alpha_blend", self.alpha_blend, ALPHA_BLENDS)
        check_choice("color", self.color, COLORS)
        _check_style_size(self.style_size)
        if not 0 <= self.detail <= 1:
            raise ValueError(f"detail must be between 0 and 1, got {self.detail:g}")
        if not 0 <= self.feather < math.inf:
            raise ValueError(f"feather must be at least 0 pixels and finite, got {self.feather:g}")
        if self.feather and self.mask is None:
            raise ValueError(f"Expected a mask with feather, got feather {self.feather:g} and no mask")
        if self.regions is not None and not 1 <= self.regions <= MOST_REGIONS:
            raise ValueError(f"regions must be between 1 and {MOST_REGIONS}, got {self.regions}")
        if self.regions is not None and self.mask is not None:
            raise ValueError("Expected masks or a number of regions, got both; leave out one of them")
        if self.tile is not None and self.tile < 1:
            raise ValueError(f"tile must be at least 1 pixel, got {self.tile}")
        if self.max_memory is not None and not self.max_memory > 0:  # NaN is refused, too
            raise ValueError(f"max_memory must be positive, in GiB, got {self.max_memory:g}")
        _check_work_size(self.work_size)

    @property
    def alphas(self) -> list[float]:
        """`alpha` as a list: one value, or one for each style."""
        try:
            return [float(alpha) for alpha in self.alpha]  # type: ignore[union-attr]
        except TypeError:  # one number
            return [float(self.alpha)]  # type: ignore[arg-type]


def override(
    options: Options, changes: Mapping[str, Any], exclude: Sequence[str] = ()
) -> tuple[Options, dict[str, Any]]:
    """Replace fields of a dataclass of options by those of `changes` with the same names; also return the rest.

    Fields in `exclude` are not replaced: their names have another meaning for the caller.
    """
    names = {field.name for field in fields(options)} - {*exclude}  # type: ignore[arg-type]
    own = {name: value for name, value in changes.items() if name in names}
    rest = {name: value for name, value in changes.items() if name not in names}
    return replace(options, **own), rest  # type: ignore[type-var]


def check_alpha(alpha: float, where: str = "") -> None:
    """Raise ValueError, with a message that starts with `where`, unless alpha is between 0 and 1."""
    if not 0 <= alpha <= 1:
        raise ValueError(f"{where}alpha must be between 0 (the content) and 1 (the style), got {alpha:g}")


def _check_style_size(style_size: StyleSize) -> None:
    if isinstance(style_size, str) and style_size != "content":
        raise ValueError(f"style_size must be content or at least 1 pixel, got {style_size}")
    check_size(None if style_size == "content" else style_size)


def _check_work_size(work_size: WorkSize) -> None:
    if work_size is None or work_size == "content":
        return
    if isinstance(work_size, bool) or not isinstance(work_size, Integral) or work_size < SMALLEST_WORK_SIZE:
        raise ValueError(f"work_size must be content or at least {SMALLEST_WORK_SIZE} pixels, got {work_size}")


DEFAULT_STYLE_OPTIONS = StyleOptions()
