"""The interface that all methods share."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from adain.functional import normalization
from adain.functional.losses import Features
from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.models.backbones import Backbone
from adain.models.layers import UpConv2d, Upsampling

Alpha = float | Tensor
"""Strength of the style in [0, 1]. Exported graphs use a tensor (B,) with one value per image."""

StyleCode = dict[str, Tensor]
"""A pre-encoded style: tensors (B, ...) by name, small enough to save. Averages of them are meaningful."""


@dataclass(frozen=True)
class EncodedContent:
    """The part of a method's computation that depends on the content only, and not on the style or alpha."""

    features: Tensor
    """Features of the encoder (B, C, H, W), or the content image itself."""
    code: StyleCode = field(default_factory=dict)
    """Style code of the content image, for methods whose alpha blends codes."""
    details: tuple[Tensor, ...] = ()
    """Features at larger sizes (B, C', H', W'), from coarse to fine, for decoders with skip connections."""

    def blended(self, code: StyleCode, alpha: Alpha) -> StyleCode:
        """Return (1 - alpha) times the content's code plus alpha times `code`."""
        if not below_one(alpha):
            return code
        blended = {}
        for name, content_part in self.code.items():
            style_part = code[name].to(content_part.dtype)
            blended[name] = normalization.blend(content_part, style_part, alpha)
        return blended

    def rows(self, index: Tensor) -> "EncodedContent":
        """Return the samples of the batch that `index` (N,) lists. Indices may repeat."""
        code = {name: part.index_select(0, index) for name, part in self.code.items()}
        features = self.features.index_select(0, index)
        details = tuple(level.index_select(0, index) for level in self.details)
        return EncodedContent(features, code, details)


class Method(nn.Module, ABC):
    """Base class of all methods: stylizes any content image in any style.

    Images are RGB in [0, 1], (B, 3, H, W), with height and width multiples of `stride`. `adain.stylize` pads images to
    such sizes and clamps the result. The state dict contains the trained weights only.

    Attributes:
        name: Identifier in weight files. Built-in methods use their key in `METHODS`; the default is the class name.
        arguments: Arguments of `__init__` as plain values. They rebuild the method, together with the state dict.
        code_arguments: Names of the arguments that style codes depend on; None for all.
        stride: Factor by which the network downsamples an image.
        takes_style: Whether the method takes a style image. Otherwise it always stylizes in the one style that it was
            trained on, at alpha 1, and ignores the style code.
        supports_mixing: Whether the average of several style codes is a valid style code.
        receptive_radius: Maximum distance in pixels between an output pixel and the input pixels that affect it, other
            than through statistics; None if the method needs the whole image and cannot process it in tiles.
        bytes_per_pixel: Peak memory per pixel of the image, in bytes, for stylizing in float32.
        bf16_safe: Whether results in bfloat16 differ from results in float32 by at most 1/255 on average.
        bf16_warmup: Whether the first steps of an optimization run in bfloat16; `adain.prepare` enables it where
            bfloat16 is faster.
        supports_masks: Whether the method handles masks itself, by `guide`.
        iterative: Whether the method takes many steps and calls its `callback` after each of them.
        trained: Whether the method has weights of its own. Otherwise the user chooses its arguments.
        loaded_fingerprint: Fingerprint (`adain.methods.weights.fingerprint`) of the file that the weights were loaded
            from, if any.
        loaded_digests: Digests of these weights in each precision. They reveal a later change of the weights.
    """

    name: str
    arguments: dict[str, Any]
    code_arguments: Sequence[str] | None = None
    stride: int
    takes_style = True
    supports_mixing = True
    receptive_radius: int | None = None
    bytes_per_pixel = 1000
    bf16_safe = False
    bf16_warmup = False
    supports_masks = False
    iterative = False
    trained = False
    loaded_fingerprint: str | None = None
    loaded_digests: frozenset[str] = frozenset()

    def __init_subclass__(cls, **kwargs: Any):
        """Set `name` to the class name, unless the class sets it: a subclass of AdaIN has other weights than AdaIN."""
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__

    @abstractmethod
    def encode_style(self, style: Tensor) -> StyleCode:
        """Return the style codes of a batch of style images (B, 3, H, W)."""

    @abstractmethod
    def stylize(
        self,
        content: Tensor,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """Stylize `content` in the style of `code`.

        Args:
            content: Content images (B, 3, H, W).
            code: Style codes of the batch, or one style code for all images.
            alpha: Strength of the style, from no style (0) to full strength (1).
            statistics_fn: Computes the statistics of features. To support tiles, a method must compute everything that
                is averaged over the whole content by this function.

        Returns:
            Stylized images (B, 3, H, W), which are not clamped.
        """

    def encode_content(
        self, content: Tensor, statistics_fn: StatisticsFn = compute_statistics, blend: bool = True
    ) -> EncodedContent:
        """Return the input of `decode` for content images (B, 3, H, W). The default is the images themselves.

        Args:
            content: Content images (B, 3, H, W).
            statistics_fn: Computes the statistics of features, see `stylize`.
            blend: Whether `decode` may be called with alpha below 1. If False, the style code of the content is omitted
                and no statistics are computed.
        """
        return EncodedContent(content)

    def decode(
        self,
        content: EncodedContent,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """Stylize an encoded content. See `stylize` for the arguments."""
        return self.stylize(content.features, code, alpha, statistics_fn)

    def tiles(self, alpha: float) -> bool:
        """Return whether the method can stylize in tiles at this alpha."""
        return self.receptive_radius is not None

    def guide(self, codes: Sequence[StyleCode], alphas: Sequence[float], masks: Sequence[Tensor]) -> StyleCode:
        """Return one code that applies each style within its mask, for methods with `supports_masks`.

        Args:
            codes: One style code per mask.
            alphas: One strength per mask.
            masks: Weights (1, 1, H, W) in [0, 1].

        Raises:
            NotImplementedError: The method does not support masks.
        """
        raise NotImplementedError

    @cached_property
    def code_shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shapes of style codes by name, without the batch; None for a side that depends on the style."""
        examples = []
        with torch.inference_mode():
            for strides in (2, 4):
                side = strides * self.stride
                examples.append(self.encode_style(torch.zeros(1, 3, side, side, device=self.device, dtype=self.dtype)))
        shapes: dict[str, tuple[int | None, ...]] = {}
        for name, tensor in examples[0].items():
            sides = zip(tensor.shape[1:], examples[1][name].shape[1:], strict=True)
            shapes[name] = tuple(side if side == other else None for side, other in sides)
        return shapes

    @property
    def device(self) -> torch.device:
        """Device of the weights. Inputs must be on it."""
        return self._first_tensor().device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights. Inputs must have it."""
        return self._first_tensor().dtype

    def _first_tensor(self) -> Tensor:
        return next(itertools.chain(self.parameters(), self.buffers()))


def below_one(alpha: Alpha) -> bool:
    """Return whether `alpha` is below 1. It is True for tensors, whose values are unknown while a graph is exported."""
    return isinstance(alpha, Tensor) or alpha < 1


class EncoderDecoder(Method):
    """A feed-forward method whose alpha blends in feature space (Huang & Belongie 2017, eq. 14).

    At alpha 0, the method returns the network's reconstruction of the content, not the content. `adain.stylize` adds
    the difference by `adain.functional.normalization.add_residual`.
    """

    @abstractmethod
    def encode_content(
        self, content: Tensor, statistics_fn: StatisticsFn = compute_statistics, blend: bool = True
    ) -> EncodedContent:
        """See `Method.encode_content`."""

    @abstractmethod
    def decode(
        self,
        content: EncodedContent,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """See `Method.decode`."""

    def rebuild(self, content: EncodedContent, statistics_fn: StatisticsFn = compute_statistics) -> Tensor:
        """Return the result of `decode` at alpha 0, bit for bit. The default decodes with the content's own code."""
        return self.decode(content, content.code, statistics_fn=statistics_fn)

    def stylize(
        self,
        content: Tensor,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """Encode `content`, blend with the style in feature space, and decode. See `Method.stylize`."""
        encoded = self.encode_content(content, statistics_fn, blend=below_one(alpha))
        return self.decode(encoded, code, alpha, statistics_fn)


class FeatureDecoder(EncoderDecoder):
    """A method that changes the encoder's features of one layer, and decodes them.

    Attributes:
        encoder: Network whose features are changed.
        layer: Layer of the encoder.
        decoder: Network that maps the features to an image.
    """

    encoder: Backbone
    layer: str
    decoder: nn.Module

    def encode_content(
        self, content: Tensor, statistics_fn: StatisticsFn = compute_statistics, blend: bool = True
    ) -> EncodedContent:
        """Return the features of the content."""
        return EncodedContent(self.encoder(content)[self.layer])

    def rebuild(self, content: EncodedContent, statistics_fn: StatisticsFn = compute_statistics) -> Tensor:
        """Decode the features of the content."""
        return self.decoder(content.features)


class Trainable(Method):
    """A feed-forward network that is trained with the losses of a frozen backbone.

    Attributes:
        network: Arguments of the `Backbone` whose features `forward` takes and the losses compare. It is empty for the
            embedded VGG-19.
        layers: Layers of the backbone that `forward` reads, if any.
    """

    trained = True
    network: Mapping[str, Any] = MappingProxyType({})
    layers: tuple[str, ...] = ()

    def forward(self, content: Tensor, style: Tensor, content_features: Features, style_features: Features) -> Tensor:
        """Return the stylized batch for training. The default is `stylize` at full strength.

        The losses need the backbone's features of content and style in any case. A method that encodes with the same
        network reads them instead of computing them again.

        Args:
            content: Content images (B, 3, H, W).
            style: Style images (B, 3, h, w).
            content_features: The backbone's features of `content`.
            style_features: The backbone's features of `style`.
        """
        return self.stylize(content, self.encode_style(style))


def upsampling_argument(upsampling: Upsampling | Sequence[Upsampling]) -> dict[str, Any]:
    """Return the entry of `arguments` for the upsampling of a network.

    `nearest` has none, so that the fingerprints of weights from before there was a choice stay the same.
    """
    if upsampling == "nearest":
        return {}
    return {"upsampling": upsampling if isinstance(upsampling, str) else [*upsampling]}


def extra_radius(network: nn.Module) -> int:
    """Return by how many pixels the blurs of `smooth` upsampling enlarge the receptive field of a network.

    Args:
        network: Its `UpConv2d` layers are in their order, from coarse to fine.
    """
    layers = [module for module in network.modules() if isinstance(module, UpConv2d)]
    radius = 0
    for level, layer in enumerate(reversed(layers)):
        if layer.upsampling == "smooth":
            radius += 2 ** (level + 1)  # a pixel of the input of this upsampling
    return radius
