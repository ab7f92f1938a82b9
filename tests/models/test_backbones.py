import re

import pytest
import torch
from torchvision import models

from adain.models.backbones import BACKBONES, POOL, Backbone
from adain.models.checkpoint_io import CHECKPOINTS, read_file

LAYERS = {"resnet18": "layer2", "resnet50": "layer1", "densenet121": "features.denseblock2"}


@pytest.fixture(scope="module")
def torchvision_vgg19():
    """torchvision's own VGG-19 with the embedded weights, up to relu5_1."""
    net = models.vgg.make_layers(models.vgg.cfgs["E"])[:30].eval()
    state = read_file(CHECKPOINTS / "vgg19.safetensors")[0]
    names = list(dict.fromkeys(key.split(".")[0] for key in sorted(state)))
    convolutions = [module for module in net if isinstance(module, torch.nn.Conv2d)]
    for name, convolution in zip(names, convolutions, strict=True):
        convolution.load_state_dict({kind: state[f"{name}.{kind}"].float() for kind in ("weight", "bias")})
    return net


def test_vgg19_equals_torchvisions_on_the_same_weights(torchvision_vgg19):
    # Positions of the layers in torchvision's list, from the published architecture.
    positions = {"conv1_1": 0, "relu1_1": 1, "relu2_1": 6, "relu3_1": 11, "conv4_1": 19, "relu4_1": 20, "relu5_1": 29}
    backbone = Backbone("vgg19", positions, padding="zeros")
    images = torch.rand(2, 3, 64, 48)
    features = backbone(images)
    x = (images - backbone.mean) / backbone.std
    expected = {}
    for i, module in enumerate(torchvision_vgg19):
        x = module(x.clone())
        expected[i] = x.clone()
    for layer, position in positions.items():
        torch.testing.assert_close(features[layer], expected[position], atol=1e-4, rtol=1e-5)


def test_a_torchvision_state_dict_in_a_file_loads_by_its_own_names(tmp_path):
    features = models.vgg.make_layers(models.vgg.cfgs["A"], batch_norm=True)
    classifier = torch.nn.Sequential(torch.nn.Linear(2, 2))  # of which nothing is read; it would take 500 MB
    net = torch.nn.ModuleDict({"features": features, "classifier": classifier}).eval()
    torch.save(net.state_dict(), tmp_path / "vgg11_bn.pth")
    backbone = Backbone("vgg11_bn", ["relu3_1"], str(tmp_path / "vgg11_bn.pth"), padding="zeros")
    images = torch.rand(1, 3, 32, 32)
    expected = features[:11]((images - backbone.mean) / backbone.std)
    torch.testing.assert_close(backbone(images)["relu3_1"], expected)


def test_the_old_names_in_densenets_file_are_renamed(monkeypatch):
    net = models.densenet121(weights=None).eval()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value for key, value in net.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", lambda *_, **__: old)
    backbone = Backbone("densenet121", ["features.pool0"], padding="zeros")
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(
        backbone(images)["features.pool0"], net.features[:4]((images - backbone.mean) / backbone.std)
    )


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_every_backbone_gives_the_layer_asked_for(name, pooling):
    layer = LAYERS.get(name, "relu3_1")
    backbone = Backbone(name, [layer], "random", pooling=pooling)
    images = torch.rand(1, 3, 64, 96, requires_grad=True)
    features = backbone(images)
    assert list(features) == [layer]
    plan = backbone.plan(layer)
    halvings = plan.count(POOL)
    assert features[layer].shape == (1, plan[-1], 64 >> halvings, 96 >> halvings)
    features[layer].mean().backward()
    assert images.grad.abs().sum() > 0


def test_padding_and_pooling_change_the_features():
    images = torch.rand(1, 3, 32, 32)
    variants = [
        Backbone("vgg19", ["relu2_1"], padding=padding, pooling=pooling)(images)["relu2_1"]
        for padding in ("reflect", "zeros")
        for pooling in ("max", "average")
    ]
    differences = [(a - b).abs().max() for i, a in enumerate(variants) for b in variants[:i]]
    assert min(differences) > 0.01


def test_the_weights_cannot_be_trained():
    backbone = Backbone()
    assert not list(backbone.parameters())
    assert not backbone.state_dict()
    assert not backbone.train().training


def test_a_layer_before_its_relu_is_not_overwritten():
    features = Backbone("vgg19", ["conv2_1", "relu2_1"])(torch.rand(1, 3, 16, 16))
    assert features["conv2_1"].min() < 0
    torch.testing.assert_close(features["conv2_1"].relu(), features["relu2_1"])


def test_layers_after_the_deepest_one_are_omitted():
    assert [name for name, _ in Backbone("vgg19", ["relu1_1", "relu2_1"]).net.named_children()][-1] == "relu2_1"


def test_building_leaves_the_random_state_alone():
    before = torch.get_rng_state()
    Backbone("resnet18", ["layer1"], "random")
    Backbone("vgg11_bn", ["relu2_1"], "random")
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vgg12"}, "unknown backbone vgg12; choose from vgg11"),
        ({"layers": ["relu4_9"]}, "unknown layer of vgg19 relu4_9; choose from conv1_1"),
        ({"name": "resnet18", "layers": ["layer9"], "weights": "random"}, "unknown layer of resnet18 layer9"),
        ({"layers": ()}, "Expected at least one layer of vgg19, got none"),
        ({"name": "resnet18", "layers": (), "weights": "random"}, "Expected at least one layer of resnet18, got none"),
        ({"padding": "same"}, "choose from reflect, zeros"),
        ({"pooling": "sum"}, "choose from max, average"),
        ({"name": "vgg16", "weights": "embedded"}, "no weights of vgg16 are embedded"),
        ({"layers": ["relu5_4"]}, "got relu5_4; choose from conv1_1"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(arguments, message):
    with pytest.raises(ValueError, match=message):
        Backbone(**arguments)


def test_weights_that_are_not_there(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        Backbone("vgg16", ["relu1_1"], str(tmp_path / "vgg16.pth"))

    def offline(*_, **__):
        raise OSError("no route to host")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(OSError, match=r"cannot download vgg16's weights from .*name a local file"):
        Backbone("vgg16", ["relu1_1"])


def test_files_with_code_or_invalid_content_are_refused(tmp_path):
    torch.save({"model": torch.nn.Linear(1, 1)}, tmp_path / "code.pth")
    (tmp_path / "invalid.safetensors").write_bytes(b"invalid")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("code.pth", "invalid.safetensors", "list.pth"):
        with pytest.raises(ValueError, match=name):
            Backbone("vgg16", ["relu1_1"], str(tmp_path / name))


@pytest.mark.parametrize("name", ["vgg11", "resnet18"])
@pytest.mark.parametrize("key", ["features", "features.0", "features.conv0.weight", f"features.{10**9}.weight", 5])
def test_files_with_other_keys_are_refused(name, key, tmp_path):
    torch.save({key: torch.ones(1)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match=r"^(Expected tensors by name in|the weights from) .*other\.pth") as raised:
        Backbone(name, ["relu1_1" if name == "vgg11" else "layer1"], str(tmp_path / "other.pth"))
    assert len(str(raised.value).splitlines()) == 1


def test_a_layer_past_the_embedded_weights_lists_the_available_ones():
    with pytest.raises(ValueError, match=r"embedded weights contain, got conv5_2; choose from conv1_1, .*, relu5_1$"):
        Backbone(layers=("relu1_1", "conv5_2"))
    Backbone(layers=("relu5_1",))
