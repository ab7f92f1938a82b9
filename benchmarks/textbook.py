"""The baselines: AdaIN written plainly, as a careful reader of the paper would, and as in naoto0804/pytorch-AdaIN.

float32, NCHW, a padding module before every convolution, one encoder pass for each picture that needs one. They take
the weights of this repository and its decoder's upsampling, so that all compute the same. They stay as they are; see
speed.py.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adain.models.layers import UpConv2d

# relu1_1, relu2_1, relu3_1 and relu4_1 end the four parts of VGG-19.
PARTS = [[3, 64], [64, 64, "pool", 128], [128, 128, "pool", 256], [256, 256, 256, 256, "pool", 512]]
DECODER = [512, 256, "up", 256, 256, 256, 128, "up", 128, 64, "up", 64, 3]


class Upsample(nn.Upsample):
    """nearest, bilinear, or smooth: bilinear upsampling of the input blurred with (1, 2, 1)/4 along each axis."""

    def forward(self, x: Tensor) -> Tensor:
        if self.mode != "smooth":
            return super().forward(x)
        taps = torch.tensor([0.25, 0.5, 0.25], dtype=x.dtype, device=x.device)
        kernel = torch.outer(taps, taps).expand(x.shape[1], 1, 3, 3)
        blurred = F.conv2d(F.pad(x, (1, 1, 1, 1), "replicate"), kernel, groups=x.shape[1])
        return F.interpolate(blurred, scale_factor=2, mode="bilinear")


def layers(widths: list) -> list[nn.Module]:
    modules: list[nn.Module] = []
    inputs, *rest = widths
    pad: type[nn.Module] = nn.ReflectionPad2d
    for width in rest:
        if width == "pool":
            modules.append(nn.MaxPool2d(2))
        elif width == "up":
            modules.append(Upsample(scale_factor=2, mode="nearest"))
            pad = nn.ReplicationPad2d  # after nearest upsampling, reflection repeats the border pixels, too
        else:
            modules += [pad(1), nn.Conv2d(inputs, width, 3), nn.ReLU()]
            inputs, pad = width, nn.ReflectionPad2d
    return modules


def mean_std(features: Tensor) -> tuple[Tensor, Tensor]:
    flat = features.flatten(2)
    return flat.mean(2)[..., None, None], (flat.var(2, correction=0) + 1e-5).sqrt()[..., None, None]


def adain(content: Tensor, style_mean: Tensor, style_std: Tensor) -> Tensor:
    mean, std = mean_std(content)
    return (content - mean) / std * style_std + style_mean


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)]


class Textbook(nn.Module):
    """AdaIN for training (`forward`) and for stylizing (`stylize`, or `encode_style` once and `decode`)."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Sequential(*layers(part)) for part in PARTS)
        self.decoder = nn.Sequential(*layers(DECODER)[:-1])
        self.register_buffer("mean", torch.tensor([0.48502, 0.45796, 0.40760]).view(1, 3, 1, 1))
        self.parts.requires_grad_(False)

    def fill(self, encoder: nn.Module, decoder: nn.Module) -> "Textbook":
        """Copy the weights of other networks' convolutions, in their order, and the upsampling."""
        for part, source in ((self.parts, encoder), (self.decoder, decoder)):
            for ours, theirs in zip(convolutions(part), convolutions(source), strict=True):
                ours.weight.data.copy_(theirs.weight)
                ours.bias.data.copy_(theirs.bias)
        modes = [module.upsampling for module in decoder.modules() if isinstance(module, UpConv2d)]
        upsamplings = [module for module in self.decoder if isinstance(module, Upsample)]
        for upsampling, mode in zip(upsamplings, modes, strict=True):
            upsampling.mode = mode
        return self

    def encode(self, images: Tensor) -> list[Tensor]:
        x, features = images - self.mean, []
        for part in self.parts:
            x = part(x)
            features.append(x)
        return features

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        style_features = self.encode(style)
        t = adain(self.encode(content)[-1], *mean_std(style_features[-1]))
        output = self.encode(self.decoder(t))
        loss = F.mse_loss(output[-1], t)
        for a, b in zip(output, style_features, strict=True):
            for x, y in zip(mean_std(a), mean_std(b), strict=True):
                loss = loss + 10 * F.mse_loss(x, y)
        return loss

    def encode_style(self, style: Tensor) -> tuple[Tensor, Tensor]:
        return mean_std(self.encode(style)[-1])

    def decode(self, content: Tensor, style: tuple[Tensor, Tensor], alpha: float = 1.0) -> Tensor:
        features = self.encode(content)[-1]
        t = adain(features, *style)
        return self.decoder(alpha * t + (1 - alpha) * features).clamp(0, 1)

    def stylize(self, content: Tensor, style: Tensor, alpha: float = 1.0) -> Tensor:
        return self.decode(content, self.encode_style(style), alpha)


class Naoto(Textbook):
    """The way of naoto0804/pytorch-AdaIN: the normalization is a 1x1 convolution, the variance is unbiased."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = nn.Conv2d(3, 3, 1).requires_grad_(False)
        self.normalize.weight.data.copy_(torch.eye(3).view(3, 3, 1, 1))
        self.normalize.bias.data.copy_(-self.mean.flatten())

    def encode(self, images: Tensor) -> list[Tensor]:
        x, features = self.normalize(images), []
        for part in self.parts:
            x = part(x)
            features.append(x)
        return features

    def encode_style(self, style: Tensor) -> tuple[Tensor, Tensor]:
        return self.statistics(self.encode(style)[-1])

    @staticmethod
    def statistics(features: Tensor) -> tuple[Tensor, Tensor]:
        n, c = features.shape[:2]
        std = (features.view(n, c, -1).var(dim=2) + 1e-5).sqrt().view(n, c, 1, 1)
        return features.view(n, c, -1).mean(dim=2).view(n, c, 1, 1), std

    def decode(self, content: Tensor, style: tuple[Tensor, Tensor], alpha: float = 1.0) -> Tensor:
        features = self.encode(content)[-1]
        size = features.size()
        mean, std = self.statistics(features)
        normalized = (features - mean.expand(size)) / std.expand(size)
        t = normalized * style[1].expand(size) + style[0].expand(size)
        return self.decoder(t * alpha + features * (1 - alpha)).clamp(0, 1)
