"""The part of `adain.stylize` that an ONNX file contains, as a module of tensor operations."""

import torch
from torch import Tensor, nn

from adain.functional import normalization
from adain.methods import EncodedContent, EncoderDecoder, Method, StyleCode


class StyleEncoderGraph(nn.Module):
    """The style encoder of a method.

    Args:
        method: The method, ready to stylize.
    """

    def __init__(self, method: Method):
        super().__init__()
        self.method = method

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the tensors of the style code.

        Args:
            inputs: One tensor, style images (B, 3, h, w), RGB in [0, 1]; variadic like the inputs of `StylizeGraph`.
        """
        (style,) = inputs
        return tuple(encode_style(self.method, style).values())


class StylizeGraph(nn.Module):
    """A method with the padding, cropping, and blending of `adain.stylize`, in operations that ONNX can express.

    Args:
        method: The method, ready to stylize.
        code_names: Names of the style code's tensors, if these are the inputs; empty if the style image is the input.
        alpha_input: Whether alpha is an input. If not, the style has its full strength, and nothing of the content is
            computed that only blending needs.
        residual: Add back what the network cannot reconstruct of the content, as `adain.stylize` does by default.
    """

    def __init__(
        self, method: Method, code_names: tuple[str, ...] = (), alpha_input: bool = True, residual: bool = True
    ):
        super().__init__()
        self.method = method
        self.code_names = code_names
        self.alpha_input = alpha_input and method.takes_style
        self.residual = residual and self.alpha_input and isinstance(method, EncoderDecoder)

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the stylized image (B, 3, H, W) in [0, 1].

        Args:
            inputs: The content (B, 3, H, W). For a method that takes a style, also the style or the tensors of its
                code, and alpha if it is an input. These have a batch of B, or a smaller one, whose last item serves
                all further contents.
        """
        content, *style_inputs = inputs
        batch, _, height, width = content.shape
        code: StyleCode = {}
        alpha: Tensor | float = 1.0
        if self.alpha_input:
            alpha = _expand_to_batch(style_inputs.pop().clamp(0, 1), batch)
        if self.method.takes_style:
            code = {name: _expand_to_batch(part, batch) for name, part in self._style_code(style_inputs).items()}
        padded = _pad_to_stride(content, self.method.stride, reflect=True)
        encoded = self.method.encode_content(padded.to(self.method.dtype), blend=self.alpha_input)
        if isinstance(alpha, Tensor) and self.residual:
            return self._decode_with_residual(content, encoded, code, alpha)
        return self._decode(encoded, code, alpha)[..., :height, :width]

    def _style_code(self, styles: list[Tensor]) -> StyleCode:
        """Return the style code: the inputs themselves, or the encoded style image."""
        if self.code_names:
            return dict(zip(self.code_names, styles, strict=True))
        return encode_style(self.method, styles[0])

    def _decode(self, encoded: EncodedContent, code: StyleCode, alpha: Tensor | float) -> Tensor:
        return self.method.decode(encoded, code, alpha).float().clamp(0, 1)

    def _decode_with_residual(self, content: Tensor, encoded: EncodedContent, code: StyleCode, alpha: Tensor) -> Tensor:
        """Decode, and add back what is lost of the content where alpha is below 1.

        Contents with alpha below 1 are decoded twice, the second time at alpha 0. Both passes are in one batch, so
        int8 rounds them alike, and at alpha 1 nothing is decoded twice.
        """
        batch, _, height, width = content.shape
        below_one = (alpha < 1).nonzero()[:, 0]
        rows = torch.cat([torch.arange(batch), below_one])
        code = {name: part.index_select(0, rows) for name, part in code.items()}
        residual_weight = 1 - alpha.index_select(0, below_one)
        alphas = torch.cat([alpha, torch.zeros_like(residual_weight)])
        decoded = self._decode(encoded.rows(rows), code, alphas)[..., :height, :width]
        stylized, reconstructed = decoded[:batch], decoded[batch:]
        blended = normalization.add_residual(
            stylized.index_select(0, below_one),
            reconstructed,
            content.index_select(0, below_one),
            residual_weight.view(-1, 1, 1, 1),
        )
        return stylized.index_copy(0, below_one, blended).clamp(0, 1)


def encode_style(method: Method, style: Tensor) -> StyleCode:
    """Return the style code of style images (B, 3, h, w) of any size."""
    padded = _pad_to_stride(style, method.stride, reflect=False)
    return method.encode_style(padded.to(method.dtype))


def _expand_to_batch(x: Tensor, batch: int) -> Tensor:
    """Return `batch` items of `x`; the last item is repeated if there are fewer."""
    return x.index_select(0, torch.minimum(torch.arange(batch), torch.arange(x.shape[0])[-1]))


def _pad_to_stride(x: Tensor, stride: int, reflect: bool) -> Tensor:
    """Return `x` with rows and columns added as `adain.stylize` adds them.

    Each side is padded to at least two strides. With `reflect` it is padded to a multiple of the stride, by reflection
    where the image is large enough for it, and else by repeating the border.

    Padding is written as indexing, which works for any size. The padding operator must know that the size suffices.

    Args:
        x: (B, C, H, W).
        stride: Of the network, in pixels.
        reflect: True for contents, False for styles.
    """
    sides = x.shape[2:]
    targets = []
    for side in sides:
        # Not -(-side // stride): ONNX rounds integer division toward zero.
        rounded = (side + stride - 1) // stride * stride if reflect else side
        targets.append(torch.sym_max(2 * stride, rounded))
    positions = [torch.arange(target) for target in targets]
    lasts = [torch.arange(side)[-1] for side in sides]
    margins = [2 * last - position[-1] for last, position in zip(lasts, positions, strict=True)]
    fits = torch.stack(margins).min() >= 0
    for axis, (position, last) in enumerate(zip(positions, lasts, strict=True), 2):
        index = torch.minimum(position, last)
        if reflect:
            reflected = last - (last - position).abs()
            index = torch.where(fits, reflected, index)
        x = x.index_select(axis, index)
    return x
