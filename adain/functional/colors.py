"""Color control: keep the colors of the content image, or match the colors of two images."""

from torch import Tensor

from adain.functional.statistics import luminance
from adain.functional.whitening import covariance, symmetric_power


def keep_luminance(stylized: Tensor, content: Tensor) -> Tensor:
    """Return the luminance of `stylized` with the colors of `content` (Gatys et al. 2017, section 5.1).

    Both are RGB (B, 3, H, W). The result is not clamped.
    """
    return content + luminance(stylized - content)


def match_colors(image: Tensor, target: Tensor) -> Tensor:
    """Return `image` with the mean and covariance of the colors of `target` (Gatys et al. 2017, section 5.2).

    Both are RGB (B, 3, H, W), of any sizes. The result is clamped to [0, 1]. ValueError is raised if both are batches,
    of different lengths.
    """
    if len(image) != len(target) and 1 not in (len(image), len(target)):
        raise ValueError(
            f"Expected 1 image or {len(target)} (one for each target of its colors), got a batch of {len(image)}"
        )
    image_mean, image_covariance = covariance(image)
    target_mean, target_covariance = covariance(target)
    coloring = symmetric_power(target_covariance, 0.5).to(image_mean)
    whitening = symmetric_power(image_covariance, -0.5)
    matrix = coloring @ whitening
    matched = matrix @ (image.flatten(2).to(image_mean) - image_mean) + target_mean.to(image_mean)
    return matched.view(-1, *image.shape[1:]).clamp(0, 1).to(image)
