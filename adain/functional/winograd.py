"""3x3 convolutions in float32 on CPUs by Winograd's minimal filtering F(4x4, 3x3), in plain PyTorch.

Lavin & Gray 2016 (arXiv 1509.09308): Y = A^T [(G g G^T) * (B^T d B)] A computes a 4x4 tile of the output from a 6x6
tile of the input with 36 multiplications per pair of channels, where the direct convolution takes 144. For all tiles
and channels together, these are 36 matrix products. `Convolution` also implements the gradients. `faster` decides where
the algorithm is used.

Activations are (B, H, W, C) in this module, so that a row of pixels is contiguous. Tiles are processed in strips, so
that the output of the transforms is still in the cache when it is read.
"""

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from adain.utils.rounding import ceil_div

Border = Literal["reflect", "replicate", "zeros"]

TILE = 4  # height and width of an output tile in pixels
WINDOW = TILE + 2  # height and width of the input tile that it depends on

# The interpolation points are 0, 1, -1, 2, -2 and infinity.
B_T = torch.tensor(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ],
    dtype=torch.float32,
)
G = torch.tensor(
    [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
    dtype=torch.float32,
)
A_T = torch.tensor(
    [
        [1, 1, 1, 1, 1, 0],
        [0, 1, -1, 2, -2, 0],
        [0, 1, 1, 4, 4, 0],
        [0, 1, -1, 8, -8, 1],
    ],
    dtype=torch.float32,
)
KERNEL = torch.kron(G, G)  # (36, 9): the transform along both axes at once

STRIP_TILES = 128
"""Number of tiles that are transformed at a time."""


@dataclass(frozen=True)
class Limits:
    """Minimum sizes at which Winograd's algorithm is faster than a direct convolution."""

    channels: int
    """Minimum number of input channels, and of output channels."""
    tiles: int
    """Minimum number of tiles in the batch."""
    trained: bool = False
    """Whether the kernel must be trained. Its gradient is the slowest part of the direct convolution."""


MEASURED = {
    "AVX2": (
        Limits(channels=128, tiles=64),
        Limits(channels=64, tiles=256, trained=True),
    ),
    "AVX512": (Limits(channels=128, tiles=64),),
}
"""Limits by `torch.backends.cpu.get_cpu_capability()`. Processors that are not listed use the direct convolution.

The table is fixed and not measured at run time, so that results do not depend on the load of a machine.
`python -m benchmarks.winograd` prints the times behind it: those on an AMD EPYC for AVX2, and on an Intel Xeon for
AVX-512. With 64 channels, the transforms take as long as the matrix products. The algorithm is then faster than
PyTorch only on AVX2, and only if the gradient of the kernel is needed.
"""


def enabled() -> bool:
    """Return whether the algorithm may be used: True unless the environment variable ADAIN_WINOGRAD is 0."""
    return os.environ.get("ADAIN_WINOGRAD", "1") != "0"


def faster(x: Tensor, outputs: int, trained: bool = False) -> bool:
    """Return whether this module computes a 3x3 convolution faster than PyTorch.

    This is always False on devices other than the CPU, for types other than float32, under autocast, and while a graph
    is exported or compiled.

    Args:
        x: Input (B, C, H, W).
        outputs: Number of output channels.
        trained: Whether the kernel needs a gradient.
    """
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    if torch.onnx.is_in_onnx_export() or torch.compiler.is_compiling() or not enabled():
        return False
    batch, inputs, height, width = x.shape
    if min(height, width) < TILE:
        return False  # mostly padding
    tiles = batch * _tiles(height) * _tiles(width)
    for limit in MEASURED.get(torch.backends.cpu.get_cpu_capability(), ()):
        enough_channels = min(inputs, outputs) >= limit.channels
        enough_tiles = tiles >= limit.tiles
        if enough_channels and enough_tiles and trained >= limit.trained:
            return True
    return False


def transform_kernel(weight: Tensor) -> Tensor:
    """Return G g G^T of a kernel (O, C, 3, 3) as (36, C, O), in the order of `_transform_input`."""
    outputs, inputs = weight.shape[:2]
    flat = weight.permute(3, 2, 1, 0).reshape(9, inputs * outputs)  # (column, row), as in the tiles
    return (KERNEL @ flat).view(WINDOW**2, inputs, outputs)


def rotate(weight: Tensor) -> Tensor:
    """Return the kernel (C, O, 3, 3) that maps the output gradient to the input gradient; `weight` is (O, C, 3, 3)."""
    return weight.flip(2, 3).transpose(0, 1)


def convolve(x: Tensor, kernel: Tensor, bias: Tensor | None, border: Border, padding: int = 1) -> Tensor:
    """Convolve `x` with a transformed kernel.

    Args:
        x: Contiguous input (B, H, W, C).
        kernel: Kernel (36, C, O) from `transform_kernel`.
        bias: Bias (O,), if any.
        border: How to pad the input.
        padding: Number of pixels that are added to every side.

    Returns:
        Output (B, O, H + 2 padding - 2, W + 2 padding - 2), channels last in memory.
    """
    batch = len(x)
    height = x.shape[1] + 2 * padding - 2
    width = x.shape[2] + 2 * padding - 2
    outputs = kernel.shape[2]
    down = _tiles(height)
    across = _tiles(width)
    shape = (batch, outputs, down * TILE, across * TILE)
    result = torch.empty(shape, dtype=x.dtype, memory_format=torch.channels_last)
    strips = result.permute(0, 2, 3, 1).view(batch * down, TILE, across * TILE * outputs)
    scratch = Scratch(x)
    for rows in _strips(x, down, across):
        n = len(rows)
        tiles = _transform_input(x, rows, down, across, border, padding, scratch)
        products = torch.bmm(tiles, kernel, out=scratch.get("products", WINDOW**2, n * across, outputs))
        if bias is not None:
            # A^T is 1 in the whole column of point 1, so a value added there is added to every pixel of the tile.
            products[WINDOW + 1] += bias
        products = products.view(WINDOW, WINDOW, n, across, outputs).permute(0, 2, 1, 3, 4)
        columns = scratch.get("rows", n, WINDOW, across, TILE, outputs)
        _reduce_columns(products, columns, scratch)
        torch.bmm(A_T.expand(n, TILE, WINDOW), columns.view(n, WINDOW, -1), out=strips[rows.start : rows.stop])
    if (height, width) == (down * TILE, across * TILE):
        return result  # not a view: PyTorch allows later layers to change the output of a `Convolution` in place
    return result[:, :, :height, :width].contiguous(memory_format=torch.channels_last)


def weight_gradient(x: Tensor, gradient: Tensor, border: Border) -> Tensor:
    """Return the gradient (O, C, 3, 3) of the kernel.

    This is the transpose of the forward algorithm: G^T [sum over tiles of (B^T d B) (A y A^T)] G.

    Args:
        x: Contiguous input (B, H, W, C).
        gradient: Gradient of the output (B, H, W, O).
        border: How the input was padded.
    """
    batch, height, width, inputs = x.shape
    outputs = gradient.shape[3]
    down = _tiles(height)
    across = _tiles(width)
    gradient = F.pad(gradient, (0, 0, 0, across * TILE - width, 0, down * TILE - height)).contiguous()
    gradient = gradient.view(batch * down, TILE, across * TILE * outputs)
    total = x.new_zeros(WINDOW**2, inputs, outputs)
    scratch = Scratch(x)
    for rows in _strips(x, down, across):
        n = len(rows)
        tiles = _transform_input(x, rows, down, across, border, 1, scratch)
        lines = scratch.get("rows", n, WINDOW, across * TILE * outputs)
        torch.bmm(A_T.T.expand(n, WINDOW, TILE), gradient[rows.start : rows.stop], out=lines)
        spread = scratch.get("products", WINDOW, WINDOW, n, across, outputs)
        _expand_columns(lines.view(n, WINDOW, across, TILE, outputs).permute(3, 1, 0, 2, 4), spread)
        total.baddbmm_(tiles.mT, spread.view(WINDOW**2, n * across, outputs))
    kernel = KERNEL.T @ total.view(WINDOW**2, -1)
    return kernel.view(3, 3, inputs, outputs).permute(3, 2, 1, 0)


class Convolution(torch.autograd.Function):
    """A 3x3 convolution of (B, C, H, W) whose output and gradients are computed by this module.

    It is called as `Convolution.apply(x, weight, bias, kernel, rotated, border)`. `weight` is (O, C, 3, 3). `kernel`
    and `rotated` are the results of `transform_kernel` for `weight` and `rotate(weight)` if they are known, else None.
    """

    @staticmethod
    def forward(  # noqa: D102
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        kernel: Tensor | None,
        rotated: Tensor | None,
        border: Border,
    ) -> Tensor:
        if kernel is None:
            kernel = transform_kernel(weight)
        return convolve(_nhwc(x), kernel, bias, border)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:  # noqa: D102
        x, weight, _, _, rotated, border = inputs
        ctx.save_for_backward(x, weight, rotated)
        ctx.border = border

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        x, weight, rotated = ctx.saved_tensors
        if torch.is_grad_enabled():  # the gradient will be differentiated, which needs differentiable operations
            return (*_differentiable_gradients(ctx, x, weight, gradient), None, None, None)
        gradient = _nhwc(gradient)
        to_x = to_weight = to_bias = None
        if ctx.needs_input_grad[0]:
            if rotated is None:
                rotated = transform_kernel(rotate(weight))
            padded_gradient = convolve(gradient, rotated, None, "zeros", padding=2)
            to_x = _fold(padded_gradient, ctx.border)
        if ctx.needs_input_grad[1]:
            to_weight = weight_gradient(_nhwc(x), gradient, ctx.border)
        if ctx.needs_input_grad[2]:
            to_bias = gradient.sum((0, 1, 2))
        return to_x, to_weight, to_bias, None, None, None


def _differentiable_gradients(ctx: Any, x: Tensor, weight: Tensor, gradient: Tensor) -> list[Tensor | None]:
    """Return the gradients of `x`, `weight`, and the bias by PyTorch's own convolution, with their graph."""
    mode = "constant" if ctx.border == "zeros" else ctx.border
    output = F.conv2d(F.pad(x, (1, 1, 1, 1), mode), weight)
    gradients: list[Tensor | None] = []
    for needed, source in zip(ctx.needs_input_grad, (x, weight), strict=False):
        gradients.append(torch.autograd.grad(output, source, gradient, create_graph=True)[0] if needed else None)
    to_bias = gradient.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
    return [*gradients, to_bias]


class Scratch:
    """Named buffers that all strips of a call reuse. The system would have to zero new memory first."""

    def __init__(self, like: Tensor):
        self.like = like
        self.buffers: dict[str, Tensor] = {}

    def get(self, name: str, *shape: int) -> Tensor:
        """Return an uninitialized tensor, which overwrites the previous one of this name."""
        size = math.prod(shape)
        if name not in self.buffers or self.buffers[name].numel() < size:
            self.buffers[name] = self.like.new_empty(size)
        return self.buffers[name][:size].view(shape)


def _strips(x: Tensor, down: int, across: int) -> Iterator[range]:
    """Yield the rows of tiles to process at a time. They are numbered through the batch, `down` in each image."""
    step = max(1, STRIP_TILES // across)
    total = len(x) * down
    for first in range(0, total, step):
        yield range(first, min(first + step, total))


def _transform_input(
    x: Tensor, rows: range, down: int, across: int, border: Border, padding: int, scratch: Scratch
) -> Tensor:
    """Return B^T d B of some rows of tiles, (36, tiles, C). The 36 values are ordered by column, then by row."""
    _, _, width, channels = x.shape
    n = len(rows)
    full = TILE * across + 2
    lines = scratch.get("rows", n, WINDOW, full, channels)
    inside = lines[:, :, padding : padding + width].flatten(2)
    for image in range(rows.start // down, (rows.stop - 1) // down + 1):
        first = max(rows.start, image * down)
        last = min(rows.stop, (image + 1) * down)
        source_rows = _rows(x[image], TILE * (first - image * down) - padding, TILE * (last - first) + 2, border)
        step = width * channels
        windows = source_rows.as_strided((last - first, WINDOW, step), (TILE * step, step, 1))
        target = inside[first - rows.start : last - rows.start]
        torch.bmm(B_T.expand(last - first, WINDOW, WINDOW), windows, out=target)
    for column in (*range(padding), *range(padding + width, full)):
        source = _source(column - padding, width, border)
        lines[:, :, column] = 0 if source is None else lines[:, :, padding + source]
    tiles = scratch.get("tiles", WINDOW, WINDOW, n, across, channels)
    lines = lines.transpose(0, 1)
    columns = [lines[:, :, k : k + TILE * across - 3 : TILE] for k in range(WINDOW)]
    _expand_windows(columns, tiles)
    return tiles.view(WINDOW**2, n * across, channels)


def _rows(image: Tensor, first: int, count: int, border: Border) -> Tensor:
    """Return `count` rows of an image (H, W, C), starting at `first`. Rows may lie outside the image."""
    if first >= 0 and first + count <= len(image):
        return image[first : first + count]
    sources = [_source(row, len(image), border) for row in range(first, first + count)]
    rows = image.index_select(0, torch.tensor([source or 0 for source in sources]))
    for row, source in enumerate(sources):
        if source is None:
            rows[row] = 0
    return rows


def _source(position: int, size: int, border: Border) -> int | None:
    """Return the source of the value at `position` along a padded axis of `size`, or None if the value is 0."""
    if 0 <= position < size:
        return position
    if border == "zeros":
        return None
    if border == "reflect":
        position = -position if position < 0 else 2 * (size - 1) - position
    return min(max(position, 0), size - 1)  # positions further outside only affect pixels that are cropped


def _expand_windows(x: Sequence[Tensor], result: Tensor) -> None:
    """Apply B^T along the columns of each window by elementwise passes. `x` holds the six columns."""
    x0, x1, x2, x3, x4, x5 = x
    y0, y1, y2, y3, y4, y5 = result
    even = torch.sub(x4, x2, alpha=4, out=y0)
    odd = torch.sub(x3, x1, alpha=4, out=y5)
    torch.add(even, odd, out=y1)
    torch.sub(even, odd, out=y2)
    even = torch.sub(x4, x2, out=y0)
    odd = torch.sub(x3, x1, out=y5)
    torch.add(even, odd, alpha=2, out=y3)
    torch.sub(even, odd, alpha=2, out=y4)
    y0.add_(x0, alpha=4).sub_(x2, alpha=4)  # 4 x0 - 5 x2 + x4
    y5.mul_(-4).add_(x5).sub_(x3)  # 4 x1 - 5 x3 + x5


def _reduce_columns(x: Tensor, result: Tensor, scratch: Scratch) -> None:
    """Apply A^T along the columns of each tile: `x` (6, ..., N) to `result` (..., 4, N)."""
    x0, x1, x2, x3, x4, x5 = x
    y0, y1, y2, y3 = result.unbind(-2)
    one, two = scratch.get("tiles", 2, *x0.shape)
    torch.add(x1, x2, out=one)
    torch.add(x3, x4, out=two)
    torch.add(one, two, out=y0).add_(x0)
    torch.add(one, two, alpha=4, out=y2)
    torch.sub(x1, x2, out=one)
    torch.sub(x3, x4, out=two)
    torch.add(one, two, alpha=2, out=y1)
    torch.add(one, two, alpha=8, out=y3).add_(x5)


def _expand_columns(x: Tensor, result: Tensor) -> None:
    """Apply A along the columns of each tile: `x` (4, ...) to `result` (6, ...)."""
    x0, x1, x2, x3 = x
    y0, y1, y2, y3, y4, y5 = result
    even = torch.add(x0, x2, out=y0)
    odd = torch.add(x1, x3, out=y5)
    torch.add(even, odd, out=y1)
    torch.sub(even, odd, out=y2)
    even = torch.add(x0, x2, alpha=4, out=y0)
    odd = torch.add(x1, x3, alpha=4, out=y5)
    torch.add(even, odd, alpha=2, out=y3)
    torch.sub(even, odd, alpha=2, out=y4)
    y0.copy_(x0)
    y5.copy_(x3)


def _fold(gradient: Tensor, border: Border) -> Tensor:
    """Return the gradient of an image, given that of the image with a border of one pixel, (B, C, H + 2, W + 2)."""
    if border != "zeros":
        inner = 2 if border == "reflect" else 1
        for axis in (2, 3):
            last = gradient.shape[axis] - 1
            gradient.select(axis, inner).add_(gradient.select(axis, 0))
            gradient.select(axis, last - inner).add_(gradient.select(axis, last))
    return gradient[..., 1:-1, 1:-1].contiguous(memory_format=torch.channels_last)


def _tiles(length: int) -> int:
    """Return the number of tiles that cover an axis."""
    return ceil_div(length, TILE)


def _nhwc(x: Tensor) -> Tensor:
    return x.permute(0, 2, 3, 1).contiguous()
