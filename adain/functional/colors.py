"""Color: keep the content's colors, or match those of two images."""

from torch import Tensor

from adain.functional.statistics import luminance
from adain.functional.whitening import covariance, symmetric_power


def keep_luminance(painted: Tensor, content: Tensor) -> Tensor:
    """The painted picture's luminance with the content's colors, both (B, 3, H, W), RGB (Gatys et al. 2017, 5.1)."""
    return content + luminance(painted - content)


def match_colors(picture: Tensor, target: Tensor) -> Tensor:
    """`picture` with the mean and covariance of the colors of `target`, (B, 3, H, W) (Gatys et al. 2017, 5.2)."""
    (mean, covariance_), (target_mean, target_covariance) = covariance(picture), covariance(target)
    matrix = symmetric_power(target_covariance, 0.5).to(mean) @ symmetric_power(covariance_, -0.5)
    matched = matrix @ (picture.flatten(2).to(mean) - mean) + target_mean.to(mean)
    return matched.view(-1, *picture.shape[1:]).clamp(0, 1).to(picture)
