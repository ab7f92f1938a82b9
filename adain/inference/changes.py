"""The names and types of options that are given as keywords, for type checkers and editors.

Functions take them as `**changes: Unpack[...]`. Defaults and checks are those of `StyleOptions` and the methods.
"""

from collections.abc import Callable, Sequence
from typing import Literal, TypedDict

from adain.inference.image_types import ImageLike
from adain.inference.options import AlphaBlend, Color, StyleSize, WorkSize
from adain.methods.pixel_descent import OptimizerName
from adain.methods.progress import Progress
from adain.models.backbones import Padding, Pooling


class StyleChanges(TypedDict, total=False):
    """The fields of `StyleOptions`."""

    alpha: float | Sequence[float]
    alpha_blend: AlphaBlend
    style_size: StyleSize
    style_weight: Sequence[float] | None
    mask: ImageLike | Sequence[ImageLike] | None
    feather: float
    regions: int | None
    color: Color
    photorealistic: bool
    work_size: WorkSize
    detail: float
    tile: int | None
    max_memory: float | None


class ChangesAndSettings(StyleChanges, total=False):
    """The fields of `StyleOptions`, and the settings of all methods without weights of their own.

    gatys has a setting `style_weight`, too, which only `adain.prepare` takes: here it is the option.
    """

    # wct and style-swap
    decoder: str | None
    patch: int
    stride: int
    match_statistics: bool

    # gatys
    backbone: str
    weights: str | None
    pooling: Pooling
    padding: Padding
    content_layers: Sequence[str]
    content_layer_weights: Sequence[float]
    style_layers: Sequence[str]
    style_layer_weights: Sequence[float]
    content_weight: float
    tv_weight: float
    form: Literal["normalized", "original"]
    style_distance: Literal["squared", "norm"]
    optimizer: OptimizerName
    lr: float | None
    history: int
    momentum: float
    steps: int
    tolerance: float
    init: str
    seed: int
    coarsest: int
    precondition: float
    callback: Callable[[Progress], None] | None
