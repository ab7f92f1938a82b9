"""The shape that all methods share."""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from adain.functional import normalization
from adain.functional.losses import Features
from adain.functional.statistics import StatisticsFn, compute_statistics

Alpha = float | Tensor
"""Strength of the style, from 0 to 1; exports give a tensor, (B,), one for each of the batch."""

StyleCode = dict[str, Tensor]
"""What a method keeps of a style: tensors (B, ...) by name, small enough to save, and meaningful to average."""


@dataclass(frozen=True)
class EncodedContent:
    """What a method computes of a content once, whatever the style and its strength."""

    features: Tensor
    """(B, C, H, W): of the encoder, or the content itself."""
    code: StyleCode = field(default_factory=dict)
    """The content's own style code, for methods whose alpha blends codes."""

    def blended(self, code: StyleCode, alpha: Alpha) -> StyleCode:
        """(1 - alpha) the content's own code + alpha `code`."""
        if not below_one(alpha):
            return code
        return {name: normalization.blend(own, code[name].to(own.dtype), alpha) for name, own in self.code.items()}

    def rows(self, index: Tensor) -> "EncodedContent":
        """Those of the batch that `index` (N,) lists, which may repeat."""
        code = {name: part.index_select(0, index) for name, part in self.code.items()}
        return EncodedContent(self.features.index_select(0, index), code)


class Method(nn.Module, ABC):
    """Paints any content in any style.

    Pictures are RGB in [0, 1], (B, 3, H, W), height and width multiples of `stride`; `adain.stylize` sees to that
    and to the range of the result. The state dict holds the trained weights only.

    Attributes:
        name: what files of its weights call it: a key of `METHODS` for methods that are there, by default the class's.
        arguments: what `__init__` was given, as plain values: with the state dict, all that rebuilds the method.
        stride: how far the network shrinks a picture on its way.
        styled: whether it takes a style; if not, it paints in one, whatever code it is given, and always at alpha 1.
        mixes: whether the average of several styles' codes is a code.
        reach: how many pixels around a pixel of the result depend on it alone, not through statistics, at most; None
            if it must see the whole picture, and cannot paint it in tiles.
        bytes_per_pixel: of the picture, that painting takes at its peak in float32.
        rounds: whether its pictures in bfloat16 stay within 1/255, on average, of those in float32.
        drafts: whether steps on the way are in bfloat16; `adain.prepare` asks for it where that is faster.
        guided: whether it takes masks itself, by `guide`.
        iterative: whether it takes many steps, after each of which it calls the `callback` it was built with.
        trained: whether it has weights of its own; if not, its arguments are the user's.
        loaded_fingerprint: of the file that its weights were loaded from (`adain.methods.weights.fingerprint`), if any.
        loaded_digests: of these weights in each precision, by which a later change of them is noticed.
    """

    name: str
    arguments: dict[str, Any]
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
        """Name the class, unless it names itself: a subclass of AdaIN is another method, with other weights."""
        super().__init_subclass__(**kwargs)
        if "name" not in cls.__dict__:
            cls.name = cls.__name__

    @abstractmethod
    def encode_style(self, style: Tensor) -> StyleCode:
        """The codes of a batch of style pictures."""

    @abstractmethod
    def stylize(
        self,
        content: Tensor,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """`content` in the style of `code`, from untouched style (`alpha` 0) to all of it (1). Not clamped.

        Whatever is averaged over the whole content must come from `statistics_fn`, if there are tiles to be.
        """

    def encode_content(
        self, content: Tensor, statistics_fn: StatisticsFn = compute_statistics, blend: bool = True
    ) -> EncodedContent:
        """What `decode` takes of a content (B, 3, H, W); by default the content itself.

        Without `blend`, `decode` may be called at alpha 1 only: the content's own code is left out, and nothing is
        measured.
        """
        return EncodedContent(content)

    def decode(
        self,
        content: EncodedContent,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """As `stylize`, of an encoded content."""
        return self.stylize(content.features, code, alpha, statistics_fn)

    def tiles(self, alpha: float) -> bool:
        """Whether it can paint in tiles at this strength."""
        return self.receptive_radius is not None

    def guide(self, codes: Sequence[StyleCode], alphas: Sequence[float], masks: Sequence[Tensor]) -> StyleCode:
        """The one code by which a `guided` method paints each style, as strongly, where its mask says."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        """The device of the weights, which inputs must be on."""
        return self._first_tensor().device

    @property
    def dtype(self) -> torch.dtype:
        """The type of the weights, which inputs must have."""
        return self._first_tensor().dtype

    def _first_tensor(self) -> Tensor:
        return next(itertools.chain(self.parameters(), self.buffers()))


def below_one(alpha: Alpha) -> bool:
    """Whether `alpha` is below 1; True for a tensor, whose values are not known while a graph is exported."""
    return isinstance(alpha, Tensor) or alpha < 1


class EncoderDecoder(Method):
    """A feed-forward method whose alpha blends in feature space (Huang & Belongie 2017, eq. 14).

    At alpha 0 it returns what the network can rebuild of the content, not the content. `adain.stylize` adds the rest,
    which `ops.add_residual` defines.
    """

    @abstractmethod
    def encode_content(
        self, content: Tensor, statistics_fn: StatisticsFn = compute_statistics, blend: bool = True
    ) -> EncodedContent:
        """As of `Method`."""

    @abstractmethod
    def decode(
        self,
        content: EncodedContent,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """As of `Method`."""

    def rebuild(self, content: EncodedContent, statistics_fn: StatisticsFn = compute_statistics) -> Tensor:
        """What `decode` returns at alpha 0, bit for bit, whatever the style; by default with the content's own code."""
        return self.decode(content, content.code, statistics_fn=statistics_fn)

    def stylize(
        self,
        content: Tensor,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """`content` encoded, blended with the style in feature space, and decoded."""
        return self.decode(self.encode_content(content, statistics_fn, below_one(alpha)), code, alpha, statistics_fn)


class Trainable(Method):
    """A network of one pass, trained against the losses of a frozen one.

    Attributes:
        network: arguments of the `Backbone` whose features `forward` takes, and the losses compare; none of them
            for the embedded VGG-19.
        layers: those of its layers that `forward` reads, if any.
    """

    trained = True
    network: Mapping[str, Any] = MappingProxyType({})
    layers: tuple[str, ...] = ()

    def forward(self, content: Tensor, style: Tensor, content_features: Features, style_features: Features) -> Tensor:
        """For training: the stylized batch, from pictures and the loss network's features of them.

        The features are needed for the losses anyway; a method that encodes with the same network takes them from
        there instead of computing them again. By default as `stylize` at full strength, for one that does not.
        """
        return self.stylize(content, self.encode_style(style))
