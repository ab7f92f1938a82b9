import pytest
import torch
from torch import nn

from adain.backbones import BACKBONES, Backbone
from adain.decoders import mirror
from tests.test_backbones import LAYERS


def widths(decoder):
    return [
        "up" if isinstance(part, nn.Upsample) else part.out_channels
        for part in decoder
        if isinstance(part, nn.Upsample | nn.Conv2d)
    ]


def test_the_mirror_of_vgg19_is_the_papers():
    decoder = mirror(Backbone("vgg19", ["relu4_1"], "random"), "relu4_1")
    assert decoder[0].in_channels == 512
    assert widths(decoder) == [256, "up", 256, 256, 256, 128, "up", 128, 64, "up", 64, 3]
    assert isinstance(decoder[-1], nn.Conv2d), "nothing follows the last convolution"
    assert sum(isinstance(part, nn.ReLU) for part in decoder) == 8


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_has_a_mirror_of_its_shape(name):
    layer = LAYERS.get(name, "relu3_1")
    backbone = Backbone(name, [layer], "random")
    images = torch.rand(1, 3, 64, 96)
    assert mirror(backbone, layer)(backbone(images)[layer]).shape == images.shape


@pytest.mark.parametrize(("norm", "kind"), [("none", ()), ("batch", nn.BatchNorm2d), ("instance", nn.InstanceNorm2d)])
def test_norm_follows_every_convolution_but_the_last(norm, kind):
    decoder = mirror(Backbone("vgg19", ["relu2_1"], "random"), "relu2_1", norm)
    assert sum(isinstance(part, kind) for part in decoder) == (0 if norm == "none" else 2)


def test_the_start_keeps_the_scale_of_the_signal():
    decoder = mirror(Backbone("vgg19", ["relu4_1"], "random"), "relu4_1")
    with torch.no_grad():
        last = decoder[:-1](torch.randn(1, 512, 8, 8).relu())
        picture = decoder[-1](last)
    assert 0.3 < last.pow(2).mean().sqrt() < 3
    assert 0 < picture.mean() < 1, "the first pictures are grey"


def test_unknown_norm():
    with pytest.raises(ValueError, match="unknown norm group; choose from none, batch, instance"):
        mirror(Backbone("vgg19", ["relu1_1"], "random"), "relu1_1", "group")
