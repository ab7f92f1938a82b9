import pytest
import torch
from torch import nn

from adain.models.backbones import BACKBONES, Backbone
from adain.models.decoders import mirror
from adain.models.layers import UpConv2d
from tests.models.test_backbones import LAYERS


def plan(decoder):
    convolutions = [part for part in decoder if isinstance(part, nn.Conv2d)]
    return " ".join("up " * isinstance(part, UpConv2d) + str(part.out_channels) for part in convolutions)


def test_the_mirror_of_vgg19_is_the_papers():
    decoder = mirror(Backbone("vgg19", ["relu4_1"], "random"), "relu4_1")
    assert decoder[0].in_channels == 512
    assert plan(decoder) == "256 up 256 256 256 128 up 128 64 up 64 3"
    assert isinstance(decoder[-1], nn.Conv2d), "nothing follows the last convolution"
    assert sum(isinstance(part, nn.ReLU) for part in decoder) == 8


def test_extra_convolutions_come_first_and_keep_the_channels():
    decoder = mirror(Backbone("vgg19", ["relu3_1"], "random"), "relu3_1", extra_convolutions=2)
    assert plan(decoder) == "256 256 128 up 128 64 up 64 3"
    assert isinstance(decoder[1], nn.ReLU)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_has_a_mirror_of_its_shape(name):
    layer = LAYERS.get(name, "relu3_1")
    backbone = Backbone(name, [layer], "random")
    images = torch.rand(1, 3, 64, 96)
    assert mirror(backbone, layer)(backbone(images)[layer]).shape == images.shape


@pytest.mark.parametrize(
    ("norm", "kind"),
    [("none", None), ("batch", nn.BatchNorm2d), ("instance", nn.InstanceNorm2d), ("layer", nn.GroupNorm)],
)
def test_norm_follows_every_convolution_but_the_last(norm, kind):
    decoder = mirror(Backbone("vgg19", ["relu2_1"], "random"), "relu2_1", norm)
    others = [type(part) for part in decoder if not isinstance(part, nn.Conv2d | nn.ReLU)]
    assert others == ([kind, kind] if kind else [])


def test_layer_norm_is_over_all_channels_and_pixels_of_an_image():
    decoder = mirror(Backbone("vgg19", ["relu2_1"], "random"), "relu2_1", "layer")
    norm = next(part for part in decoder if isinstance(part, nn.GroupNorm))
    x = torch.randn(2, norm.num_channels, 6, 5) * torch.tensor([1.0, 7.0]).view(2, 1, 1, 1) + 3
    expected = nn.functional.layer_norm(x, x.shape[1:])
    torch.testing.assert_close(norm(x), expected)


def test_the_start_keeps_the_scale_of_the_signal():
    decoder = mirror(Backbone("vgg19", ["relu4_1"], "random"), "relu4_1")
    with torch.no_grad():
        last = decoder[:-1](torch.randn(1, 512, 8, 8).relu())
        image = decoder[-1](last)
    assert 0.3 < last.pow(2).mean().sqrt() < 3
    assert 0 < image.mean() < 1, "the first images are gray"


@pytest.mark.parametrize("number", [-1, 17])
def test_wrong_number_of_extra_convolutions(number):
    with pytest.raises(ValueError, match=f"Expected 0 to 16 extra_convolutions, got {number}"):
        mirror(Backbone("vgg19", ["relu1_1"], "random"), "relu1_1", extra_convolutions=number)


def test_unknown_norm():
    with pytest.raises(ValueError, match="unknown norm group; choose from none, batch, instance, layer"):
        mirror(Backbone("vgg19", ["relu1_1"], "random"), "relu1_1", "group")
