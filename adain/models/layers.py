"""The 3x3 convolutions of all networks: drop-in layers that use the fastest exact algorithm on the device."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adain.functional import winograd
from adain.utils.checks import check_choice

Upsampling = Literal["nearest", "bilinear", "smooth"]

_TRANSPOSED = torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]], dtype=torch.float32)
TRANSPOSED = torch.kron(_TRANSPOSED, _TRANSPOSED).T
"""Map (9, 16) to the 4x4 kernel whose transposed convolution of stride 2 equals a 3x3 one after nearest upsampling."""

_BLUR = torch.tensor([0.25, 0.5, 0.25], dtype=torch.float32)
BLUR = torch.outer(_BLUR, _BLUR)
"""The (3, 3) kernel that turns nearest upsampling into bilinear upsampling, and that blurs the input of `smooth`."""


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` that uses Winograd's algorithm where `adain.functional.winograd.faster` returns True.

    The algorithm applies to 3x3 convolutions of stride 1 that preserve the size. Kernels that are not trained are
    transformed once and cached.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        geometry = (self.kernel_size, self.stride, self.padding, self.dilation, self.groups)
        is_3x3 = geometry == ((3, 3), (1, 1), (1, 1), (1, 1), 1)
        self.supports_winograd = is_3x3 and self.padding_mode in get_args(winograd.Border)
        self._cached_kernels: tuple[Tensor, tuple[int, int, float], list[Tensor | None]] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', H, W)."""
        if self._winograd_is_faster(x):
            return self._winograd(x)
        return super().forward(x)

    def _winograd_is_faster(self, x: Tensor) -> bool:
        trained = self.weight.requires_grad and torch.is_grad_enabled()
        return self.supports_winograd and winograd.faster(x, self.out_channels, trained)

    def _winograd(self, x: Tensor) -> Tensor:
        kernel, rotated = (None, None) if self.weight.requires_grad else self._transformed_kernels(x.requires_grad)
        return winograd.Convolution.apply(x, self.weight, self.bias, kernel, rotated, self.padding_mode)

    def _transformed_kernels(self, backward: bool) -> list[Tensor | None]:
        """Return the cached transformed kernel of a frozen layer, and the rotated one if the input needs a gradient."""
        # Changes through `weight.data`, such as those of a hand-written moving average, do not change the version. The
        # sum of the weights detects them, in a thousandth of the time of the convolution.
        version = 0 if self.weight.is_inference() else self.weight._version
        state = (self.weight.data_ptr(), version, self.weight.detach().sum().item())
        cached = self._cached_kernels
        if cached is None or cached[0] is not self.weight or cached[1] != state:
            cached = (self.weight, state, [None, None])
            self._cached_kernels = cached
        kernels = cached[2]
        with torch.inference_mode(False), torch.no_grad():  # so that autograd can use the kernels later
            if kernels[0] is None:
                kernels[0] = winograd.transform_kernel(self.weight)
            if backward and kernels[1] is None:
                kernels[1] = winograd.transform_kernel(winograd.rotate(self.weight))
        return kernels

    def bytes_to_cache(self) -> int:
        """Return the size of the transformed kernel that the first large input will add to the cache."""
        large = self.weight.new_empty(1).expand(1, self.in_channels, 512, 512)
        if self._cached_kernels is not None or not self._winograd_is_faster(large):
            return 0
        return winograd.WINDOW**2 * self.in_channels * self.out_channels * self.weight.itemsize

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        self._cached_kernels = None
        return super()._apply(fn, recurse)

    def __getstate__(self) -> dict[str, Any]:
        """Omit the cached kernels from copies and pickles."""
        return {**self.__dict__, "_cached_kernels": None}


class UpConv2d(nn.Conv2d):
    """A 3x3 convolution of the input upsampled by 2, computed without the upsampled image.

    It equals upsampling followed by `nn.Conv2d`, except that bilinear and smooth upsampling with reflection repeat the
    border pixels of the upsampled image. The arguments are those of `nn.Conv2d`. An unknown upsampling raises
    ValueError.

    - `nearest`: four pixels share a value, and their weights can be added. The result is one transposed 4x4 convolution
      of stride 2, with less than half of the products.
    - `bilinear`: nearest upsampling followed by a small blur. Convolutions commute, so that the output can be blurred
      instead.
    - `smooth`: bilinear upsampling of the input blurred with (1, 2, 1)/4 along each axis, which removes what alternates
      from pixel to pixel. Bilinear upsampling keeps half of such an alternation, and the next ReLU doubles its
      frequency: without the blur, results show grids with periods of 2 and 4 pixels.
    """

    transposed_taps: Tensor
    blur: Tensor

    def __init__(self, *args: Any, upsampling: Upsampling = "nearest", **kwargs: Any):
        check_choice("upsampling", upsampling, get_args(Upsampling))
        super().__init__(*args, **kwargs)
        self.upsampling = upsampling
        # These constants are buffers, so that they move to a device once, together with the weights.
        self.register_buffer("transposed_taps", TRANSPOSED, persistent=False)
        self.register_buffer("blur", BLUR, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C', 2 H, 2 W)."""
        if self.upsampling == "smooth":
            x = self.smoothed(x)
        if self.padding_mode == "zeros":
            if self.upsampling == "nearest":
                return self._transposed(x, crop=1)
            # Bilinear upsampling repeats the border of the image, which is padded only then.
            return super().forward(F.interpolate(x, scale_factor=2, mode="bilinear"))
        x = _padded(x)  # reflection at the border of an upsampled image repeats its last pixel
        if self.upsampling == "nearest":
            return self._transposed(x, crop=3)
        return self._blurred(self._transposed(x, crop=2))

    def smoothed(self, x: Tensor) -> Tensor:
        """Blur an input (B, C, H, W) of smooth upsampling to remove patterns that alternate from pixel to pixel."""
        return self._blurred(_padded(x))

    def _blurred(self, x: Tensor) -> Tensor:
        """Return `x`, blurred with (1, 2, 1)/4 along each axis, without its outer pixels."""
        channels = x.shape[1]
        return F.conv2d(x, self.blur.expand(channels, 1, 3, 3), groups=channels)

    def _transposed(self, x: Tensor, crop: int) -> Tensor:
        """Return the convolution of the nearest-upsampled `x`, without the outer `crop` pixels of the full result."""
        kernel = (self.weight.flatten(2) @ self.transposed_taps).unflatten(2, (4, 4))
        return F.conv_transpose2d(x, kernel.transpose(0, 1), self.bias, stride=2, padding=crop)


def upsampling_of_levels(upsampling: Upsampling | Sequence[Upsampling], levels: int) -> list[Upsampling]:
    """Return the upsampling of each `UpConv2d` of a network, from coarse to fine.

    Args:
        upsampling: One kind for all, or one for each.
        levels: Number of the network's `UpConv2d`.

    Raises:
        ValueError: An unknown kind, or another number of them.
    """
    kinds: list[Upsampling] = [upsampling] * levels if isinstance(upsampling, str) else [*upsampling]
    if len(kinds) != levels:
        raise ValueError(f"Expected one upsampling, or {levels} from coarse to fine, got {len(kinds)}")
    for kind in kinds:
        check_choice("upsampling", kind, get_args(Upsampling))
    return kinds


def _padded(x: Tensor) -> Tensor:
    """Repeat the border pixels once on every side."""
    if torch.compiler.is_compiling():
        # torch.compile computes wrong strides for the gradient of replication padding.
        x = torch.cat([x[:, :, :1], x, x[:, :, -1:]], 2)
        return torch.cat([x[..., :1], x, x[..., -1:]], 3)
    return F.pad(x, (1, 1, 1, 1), "replicate")
