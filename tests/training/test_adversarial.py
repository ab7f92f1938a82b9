"""The discriminator of patches, and the two losses that train it and the method."""

import torch
from torch import nn

from adain.training.adversarial import MIN_SIDE, PatchDiscriminator, adversarial_terms


def brightness() -> nn.Conv2d:
    """A discriminator whose score is the mean of the channels."""
    score = nn.Conv2d(3, 1, 1)
    nn.init.constant_(score.weight, 1 / 3)
    nn.init.zeros_(score.bias)
    return score


def test_the_terms_are_least_squares():
    results, photos = torch.full((2, 3, 4, 4), 0.5), torch.full((2, 3, 4, 4), 0.75)
    terms = adversarial_terms(brightness(), results, photos)
    torch.testing.assert_close(terms["adversarial"].item(), 0.5**2)
    torch.testing.assert_close(terms["discriminator"].item(), (0.25**2 + 0.5**2) / 2)


def test_each_term_trains_one_of_the_two_networks():
    discriminator = brightness()
    results = torch.full((1, 3, 4, 4), 0.5, requires_grad=True)
    photos = torch.ones(1, 3, 4, 4)
    terms = adversarial_terms(discriminator, results, photos)
    terms["discriminator"].backward(retain_graph=True)
    assert results.grad is None
    assert discriminator.weight.grad.abs().sum() > 0
    discriminator.zero_grad()
    terms["adversarial"].backward()
    assert (results.grad < 0).all()  # brighter results score more like photos
    assert discriminator.weight.grad is None


def test_a_score_depends_on_a_patch_of_70_pixels():
    torch.manual_seed(0)
    convolutions = [layer for layer in PatchDiscriminator(2) if not isinstance(layer, nn.InstanceNorm2d)]
    image = torch.rand(1, 3, 128, 128, requires_grad=True)
    nn.Sequential(*convolutions)(image)[0, 0, 7, 7].backward()
    touched = image.grad.abs().sum((0, 1)) > 0
    assert (touched.any(0).sum(), touched.any(1).sum()) == (70, 70)


def test_it_learns_to_tell_noise_from_plain_images():
    torch.manual_seed(0)
    discriminator = PatchDiscriminator(4)
    optimizer = torch.optim.Adam(discriminator.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        photos, results = torch.rand(4, 1, 1, 1).expand(4, 3, 32, 32), torch.rand(4, 3, 32, 32)
        loss = adversarial_terms(discriminator, results, photos)["discriminator"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_the_smallest_image_has_one_score():
    assert PatchDiscriminator(2)(torch.rand(1, 3, MIN_SIDE, MIN_SIDE)).shape == (1, 1, 1, 1)
