import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from adain.functional import patch_swap, statistics
from adain.methods import METHODS, Method, weights
from adain.methods.style_swap import InverseNetwork
from adain.models.backbones import Backbone
from adain.models.layers import UpConv2d
from tests.conftest import QUICK

TRAINED, STYLED, MIXING = (
    [name for name, kind in METHODS.items() if getattr(kind, trait)]
    for trait in ("trained", "takes_style", "supports_mixing")
)
MIXING = [name for name in MIXING if name in STYLED]


@pytest.fixture(params=METHODS, scope="module")
def method(request):
    return METHODS[request.param](**QUICK.get(request.param, {})).eval().requires_grad_(False)


def images(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(1))


def test_the_arguments_rebuild_the_method(method):
    again = type(method)(**method.arguments)
    assert isinstance(again, Method)
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in method.state_dict().items()}


def test_a_batch_is_its_images_one_by_one(method):
    content, style = images(2, 3, 32, 40), images(2, 3, 48, 32)
    code = method.encode_style(style)
    together = method.stylize(content, code)
    for i in range(2):
        single = {name: value[i : i + 1] for name, value in code.items()}
        torch.testing.assert_close(
            method.stylize(content[i : i + 1], single), together[i : i + 1], atol=1e-4, rtol=1e-4
        )


def test_one_style_for_a_whole_batch(method):
    content, code = images(2, 3, 32, 32), method.encode_style(images(1, 3, 32, 32))
    assert method.stylize(content, code).shape == content.shape


@pytest.mark.parametrize("method", STYLED, indirect=True)
def test_alpha_zero_forgets_the_style(method):
    content = images(1, 3, 32, 32)
    a, b = (method.encode_style(images(1, 3, side, side)) for side in (32, 64))
    torch.testing.assert_close(method.stylize(content, a, 0.0), method.stylize(content, b, 0.0))
    assert (method.stylize(content, a) - method.stylize(content, b)).abs().max() > 1e-4


@pytest.mark.parametrize("method", TRAINED, indirect=True)
def test_training_and_stylizing_give_the_same_result(method):
    content, style = images(2, 3, 32, 32), images(2, 3, 32, 32).flip(3)
    backbone = Backbone(layers=["relu1_1", *method.layers], **method.network)
    trained = method(content, style, backbone(content), backbone(style))
    torch.testing.assert_close(trained, method.stylize(content, method.encode_style(style)), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("norm", ["none", "batch", "instance", "layer"])
def test_adain_on_other_backbones_and_norms(norm):
    method = METHODS["adain"]("resnet18", "layer2", "random", norm=norm)
    content = images(2, 3, 40, 64)
    assert method.stride == 8
    assert method.stylize(content, method.encode_style(content)).shape == content.shape


def test_adaconv_starts_as_adain_with_its_decoder():
    adain = weights.load("adain")
    adaconv = METHODS["adaconv"](upsampling=adain.arguments["upsampling"]).eval()
    weights.fill(adaconv, {**adaconv.state_dict(), **adain.state_dict()}, "adain")
    content, style = images(2, 3, 32, 48), images(1, 3, 40, 24)
    for alpha in (0.0, 0.4, 1.0):
        results = [method.stylize(content, method.encode_style(style), alpha) for method in (adain, adaconv)]
        torch.testing.assert_close(*results, atol=1e-5, rtol=1e-5)


def test_adaconv_by_configuration():
    method = METHODS["adaconv"](16, 8, [256, 64, 16, 4], residual=False).eval()
    code = method.encode_style(images(1, 3, 17, 23))
    shapes = {name: tuple(kernel.shape) for name, kernel in code.items() if name.startswith("kernel")}
    assert shapes == {f"kernel/{i}": (1, 512 >> i, (2, 4, 8, 16)[i], 3, 3) for i in range(4)}
    assert method.stylize(images(2, 3, 24, 32), code).shape == (2, 3, 24, 32)
    for groups in ([512, 100, 32, 8], [0, 1, 1, 1], [-1, 1, 1, 1], [1, 1, 1]):
        with pytest.raises(ValueError, match=r"divide the widths \[512, 256, 128, 64\], one number per scale, got"):
            METHODS["adaconv"](groups=groups)


@pytest.mark.parametrize(("name", "limit"), [("adaconv", 8_000_000), ("johnson", 2_000_000)])
def test_small_enough_to_be_embedded(name, limit):
    assert sum(parameter.numel() for parameter in METHODS[name]().parameters()) < limit


def test_the_papers_adaconv_has_its_size():
    with torch.device("meta"):
        method = METHODS["adaconv"](512, 512, residual=False)
    parts = [method.style, method.describe, method.predictors, method.decoder]
    assert round(sum(p.numel() for part in parts for p in part.parameters()) / 1e6) == 59


def test_a_transform_needs_the_decoder_of_an_adain():
    with pytest.raises(ValueError, match=r"Expected the weights of an AdaIN .* got adain-lite"):
        METHODS["wct"]("adain-lite")
    with pytest.raises(ValueError, match="1 <= stride <= patch"):
        METHODS["style-swap"](patch=3, stride=4)


def test_style_swap_matches_the_statistics_of_the_style_unless_asked_not_to():
    content, style = torch.randn(1, 256, 12, 16), 2 + 3 * torch.randn(1, 256, 14, 12)
    method, plain = METHODS["style-swap"](), METHODS["style-swap"](match_statistics=False)
    code = method.code(style)
    swapped = patch_swap.swap(content, style)
    assert torch.equal(plain.transform(content, code), swapped)
    found = statistics.mean_std(method.transform(content, code))
    for computed, expected in zip(found, statistics.mean_std(style), strict=True):
        torch.testing.assert_close(computed, expected, atol=1e-3, rtol=1e-3)
    assert (statistics.mean_std(swapped)[1] < found[1]).float().mean() > 0.9, "averages vary less"


def test_the_inverse_network_is_trained_on_what_style_swap_decodes(tmp_path):
    network = InverseNetwork(layer="relu3_1", upsampling="bilinear", extra_convolutions=1)
    path = tmp_path / "inverse.safetensors"
    save_file(network.state_dict(), path, weights.metadata(network))
    swap = METHODS["style-swap"](decoder=str(path))
    content, style = images(2, 3, 32, 40), images(2, 3, 48, 32)
    features = [network.encoder(image) for image in (content, style)]
    expected = swap.stylize(content, swap.encode_style(style))
    torch.testing.assert_close(network(content, style, *features), expected)


def test_only_the_decoder_of_adain_is_trained():
    method = METHODS["adain"]()
    assert {name.split(".")[0] for name, _ in method.named_parameters()} == {"decoder"}
    assert {name.split(".")[0] for name in method.state_dict()} == {"decoder"}


def test_adain_lite_is_small_and_needs_no_backbone():
    method = METHODS["adain-lite"]()
    assert sum(parameter.numel() for parameter in method.parameters()) < 1_000_000
    assert not any(isinstance(module, Backbone) for module in method.modules())


def test_adain_lite_by_configuration():
    method = METHODS["adain-lite"]([8, 12, 20], 2, [8, 16], 24).eval()
    assert method.arguments == {"widths": [8, 12, 20], "blocks": 2, "style_widths": [8, 16], "code": 24}
    code = method.encode_style(images(1, 3, 17, 23))
    assert code["code"].shape == (1, 24)
    assert method.stylize(images(1, 3, 20, 24), code).shape == (1, 3, 20, 24)


@pytest.mark.parametrize("name", ["adaconv", "adain-lite", "johnson"])
@pytest.mark.parametrize("kinds", ["bilinear", "smooth", "one of each"])
def test_upsampling_by_configuration(name, kinds):
    torch.manual_seed(0)
    levels = ["bilinear", "bilinear", "smooth"] if name == "adaconv" else ["bilinear", "smooth"]
    upsampling = levels if kinds == "one of each" else kinds
    nearest, other = METHODS[name]().eval(), METHODS[name](upsampling=upsampling).eval()
    used = [module.upsampling for module in other.modules() if isinstance(module, UpConv2d)]
    assert used == (levels if kinds == "one of each" else [kinds] * len(levels))
    other.load_state_dict(nearest.state_dict())
    assert "upsampling" not in nearest.arguments, "arguments are part of the fingerprint in every style code"
    assert other.arguments["upsampling"] == upsampling
    content, style = images(1, 3, 32, 48), images(1, 3, 40, 24)
    results = [method.stylize(content, method.encode_style(style)) for method in (nearest, other)]
    assert (results[0] - results[1]).abs().max() > 1e-4
    with pytest.raises(ValueError, match="cubic"):
        METHODS[name](upsampling="cubic")
    with pytest.raises(ValueError, match=f"Expected one upsampling, or {len(levels)} from coarse to fine, got 1"):
        METHODS[name](upsampling=["smooth"])


def test_skip_connections_carry_detail_that_a_quarter_of_the_size_cannot_hold():
    torch.manual_seed(0)
    without, with_skips = METHODS["adain-lite"]().eval(), METHODS["adain-lite"](skips=True).eval()
    assert "skips" not in without.arguments, "arguments are part of the fingerprint in every style code"
    with_skips.load_state_dict({**with_skips.state_dict(), **without.state_dict()})
    content, style = images(1, 3, 32, 48), images(1, 3, 40, 24)
    code = without.encode_style(style)
    at_zero = with_skips.stylize(content, code)
    assert torch.equal(at_zero, without.stylize(content, code)), "training continues from weights without skips"
    for skip in with_skips.skips:
        nn.init.normal_(skip.weight, std=0.1)
    encoded = with_skips.encode_content(content)
    assert [level.shape[2:] for level in encoded.details] == [(16, 24), (32, 48)]
    assert (with_skips.decode(encoded, code) - at_zero).abs().max() > 1e-4
    pair = with_skips.encode_content(torch.cat([images(1, 3, 32, 48), content]))
    one = with_skips.decode(pair.rows(torch.tensor([1])), code)
    assert torch.allclose(one, with_skips.decode(encoded, code), atol=1e-5)


def test_methods_have_the_names_of_their_rows():
    assert all(kind.name == name for name, kind in METHODS.items())
