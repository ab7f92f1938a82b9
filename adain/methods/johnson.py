"""Johnson: one network per style, without a style image at inference (Johnson, Alahi & Fei-Fei, ECCV 2016)."""

from collections.abc import Callable, Sequence
from functools import partial

from torch import Tensor, nn

from adain.functional.statistics import StatisticsFn, compute_statistics
from adain.methods.base import Alpha, StyleCode, Trainable, upsampling_argument
from adain.models.layers import Conv2d, UpConv2d, Upsampling, upsampling_of_levels


class Residual(nn.Module):
    """A residual block of two normalized convolutions."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(*_layer(width, width), *_layer(width, width)[:-1])

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        return x + self.body(x)


class Johnson(Trainable):
    """A feed-forward network for the one style that it was trained on. Style images and alpha do not apply.

    The layers are a 9x9 convolution, two convolutions of stride 2, residual blocks, two upsampling convolutions, and a
    9x9 convolution (Johnson et al. 2016, supplement), with the instance normalization of Ulyanov et al. 2016 and
    reflection padding throughout.

    Args:
        width: Number of channels of the first convolution. The residual blocks have four times as many.
        blocks: Number of residual blocks.
        upsampling: Upsampling before the last two 3x3 convolutions, one kind or one for each. `smooth` removes the grid
            artifacts of `nearest`, but loses some detail.

    Raises:
        ValueError: Unknown upsampling.
    """

    name = "johnson"
    stride = 4
    takes_style = False

    def __init__(self, width: int = 32, blocks: int = 5, upsampling: Upsampling | Sequence[Upsampling] = "nearest"):
        super().__init__()
        self.arguments = {"width": width, "blocks": blocks}
        self.arguments |= upsampling_argument(upsampling)
        up2, up1 = (partial(UpConv2d, upsampling=kind) for kind in upsampling_of_levels(upsampling, 2))
        last = nn.Conv2d(width, 3, 9, padding=4, padding_mode="reflect")
        nn.init.normal_(last.weight, std=0.1 / last.weight[0].numel() ** 0.5)  # start around mid-gray
        nn.init.constant_(last.bias, 0.45)  # type: ignore[arg-type]
        self.net = nn.Sequential(
            *_layer(3, width, 9),
            *_layer(width, 2 * width, stride=2),
            *_layer(2 * width, 4 * width, stride=2),
            *(Residual(4 * width) for _ in range(blocks)),
            *_layer(4 * width, 2 * width, kind=up2),
            *_layer(2 * width, width, kind=up1),
            last,
        )

    def encode_style(self, style: Tensor) -> StyleCode:
        """Return an empty style code, because the style is in the weights."""
        return {}

    def stylize(
        self,
        content: Tensor,
        code: StyleCode,
        alpha: Alpha = 1.0,
        statistics_fn: StatisticsFn = compute_statistics,
    ) -> Tensor:
        """Stylize `content` in the style of the network. The other arguments are ignored."""
        return self.net(content * 2 - 1)


def _layer(
    inputs: int, outputs: int, size: int = 3, stride: int = 1, kind: Callable[..., nn.Conv2d] = Conv2d
) -> list[nn.Module]:
    """Return a convolution with its normalization and activation."""
    conv = kind(inputs, outputs, size, stride, size // 2, padding_mode="reflect", bias=False)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return [conv, nn.InstanceNorm2d(outputs, affine=True), nn.ReLU(inplace=True)]
