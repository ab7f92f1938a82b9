"""The yardstick: AdaIN written plainly, as a careful reader of the paper would. It stays as it is; see speed.py.

float32, NCHW, a padding module before every convolution, one encoder pass for each picture that needs one, nothing
reused. It takes the weights of this repository, so that both compute the same.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# relu1_1, relu2_1, relu3_1 and relu4_1 end the four parts of VGG-19.
PARTS = [[3, 64], [64, 64, "pool", 128], [128, 128, "pool", 256], [256, 256, 256, 256, "pool", 512]]
DECODER = [512, 256, "up", 256, 256, 256, 128, "up", 128, 64, "up", 64, 3]


def layers(widths: list) -> list[nn.Module]:
    modules: list[nn.Module] = []
    inputs, *rest = widths
    for width in rest:
        if width == "pool":
            modules.append(nn.MaxPool2d(2))
        elif width == "up":
            modules.append(nn.Upsample(scale_factor=2, mode="nearest"))
        else:
            modules += [nn.ReflectionPad2d(1), nn.Conv2d(inputs, width, 3), nn.ReLU()]
            inputs = width
    return modules


def mean_std(features: Tensor) -> tuple[Tensor, Tensor]:
    flat = features.flatten(2)
    return flat.mean(2)[..., None, None], (flat.var(2, correction=0) + 1e-5).sqrt()[..., None, None]


def adain(content: Tensor, style: Tensor) -> Tensor:
    mean, std = mean_std(content)
    style_mean, style_std = mean_std(style)
    return (content - mean) / std * style_std + style_mean


def convolutions(net: nn.Module) -> list[nn.Conv2d]:
    return [module for module in net.modules() if isinstance(module, nn.Conv2d)]


class Textbook(nn.Module):
    """AdaIN for training (`forward`) and for stylising (`stylize`)."""

    def __init__(self) -> None:
        super().__init__()
        self.parts = nn.ModuleList(nn.Sequential(*layers(part)) for part in PARTS)
        self.decoder = nn.Sequential(*layers(DECODER)[:-1])
        self.register_buffer("mean", torch.tensor([0.48502, 0.45796, 0.40760]).view(1, 3, 1, 1))
        self.parts.requires_grad_(False)

    def fill(self, encoder: nn.Module, decoder: nn.Module) -> "Textbook":
        """Copy the weights of other networks' convolutions, in their order."""
        for part, source in ((self.parts, encoder), (self.decoder, decoder)):
            for ours, theirs in zip(convolutions(part), convolutions(source), strict=True):
                ours.weight.data.copy_(theirs.weight)
                ours.bias.data.copy_(theirs.bias)
        return self

    def encode(self, images: Tensor) -> list[Tensor]:
        x, features = images - self.mean, []
        for part in self.parts:
            x = part(x)
            features.append(x)
        return features

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        style_features = self.encode(style)
        t = adain(self.encode(content)[-1], style_features[-1])
        output = self.encode(self.decoder(t))
        loss = F.mse_loss(output[-1], t)
        for a, b in zip(output, style_features, strict=True):
            for x, y in zip(mean_std(a), mean_std(b), strict=True):
                loss = loss + 10 * F.mse_loss(x, y)
        return loss

    def stylize(self, content: Tensor, style: Tensor, alpha: float = 1.0) -> Tensor:
        features = self.encode(content)[-1]
        t = adain(features, self.encode(style)[-1])
        return self.decoder(alpha * t + (1 - alpha) * features).clamp(0, 1)
