"""An adversarial loss, by which results look like photos: a discriminator of patches learns beside the method."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

WIDTH = 32
"""Channels of the first convolution."""

HALVINGS = 3
"""Convolutions of stride 2. With two more of stride 1, a score depends on a patch of 70 pixels per side."""

MIN_SIDE = 24
"""Shorter side in pixels that a score needs."""


class PatchDiscriminator(nn.Sequential):
    """Scores overlapping patches of an image: near 1 for those of photos, near 0 for others (Isola et al. 2017).

    Takes images (B, 3, H, W) in [0, 1] of `MIN_SIDE` pixels or more, and returns scores (B, 1, h, w), where h is about
    H / 8.

    Args:
        width: Channels of the first convolution; each further one has twice as many.
    """

    def __init__(self, width: int = WIDTH):
        layers: list[nn.Module] = []
        inputs = 3
        for i in range(HALVINGS + 1):
            stride = 2 if i < HALVINGS else 1
            layers.append(nn.Conv2d(inputs, width << i, 4, stride, padding=1))
            if i:
                layers.append(nn.InstanceNorm2d(width << i))
            layers.append(nn.LeakyReLU(0.2))
            inputs = width << i
        layers.append(nn.Conv2d(inputs, 1, 4, padding=1))
        super().__init__(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Return the scores of the patches."""
        return super().forward(2 * images - 1)


def adversarial_terms(discriminator: nn.Module, stylized: Tensor, photos: Tensor) -> dict[str, Tensor]:
    """Return two losses (Mao et al. 2017, eq. 9), whose sum trains both networks in one step.

    Args:
        discriminator: Scores patches.
        stylized: Results (B, 3, H, W).
        photos: What they should look like (B, 3, H, W).

    Returns:
        `adversarial`: how little the results score like photos. Its gradient reaches the results only.
        `discriminator`: how badly the scores distinguish the two. Its gradient reaches the discriminator only.
    """
    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    fooled = functional_call(discriminator, frozen, (stylized,)).float()
    of_photos = discriminator(photos).float()
    of_results = discriminator(stylized.detach()).float()
    telling_apart = F.mse_loss(of_photos, torch.ones_like(of_photos)) + of_results.square().mean()
    return {"adversarial": F.mse_loss(fooled, torch.ones_like(fooled)), "discriminator": telling_apart / 2}
