import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from adain.functional import winograd
from adain.functional.winograd import Convolution
from adain.models.layers import Conv2d, UpConv2d


@pytest.fixture
def everywhere(monkeypatch):
    """Winograd's algorithm on any processor, however small the image."""
    limits = winograd.Limits(channels=1, tiles=1)
    monkeypatch.setattr(winograd, "MEASURED", {torch.backends.cpu.get_cpu_capability(): (limits,)})


@pytest.fixture
def calls(everywhere, monkeypatch):
    """The calls of `winograd.convolve` so far."""
    recorded, convolve = [], winograd.convolve
    monkeypatch.setattr(
        winograd, "convolve", lambda *args, **kwargs: recorded.append(args) or convolve(*args, **kwargs)
    )
    return recorded


def padded(x, border):
    return F.pad(x, (1, 1, 1, 1), "constant" if border == "zeros" else border)


@pytest.mark.parametrize("border", ["reflect", "replicate", "zeros"])
@pytest.mark.parametrize("shape", [(1, 5, 8, 12), (2, 6, 9, 13), (3, 64, 17, 6), (1, 3, 4, 4), (1, 4, 2, 31)])
def test_output_and_gradients_equal_the_direct_convolution_in_float64(border, shape):
    x, kernel, bias = torch.randn(shape), torch.randn(7, shape[1], 3, 3), torch.randn(7)
    ours = [tensor.clone().requires_grad_() for tensor in (x, kernel, bias)]
    exact = [tensor.double().requires_grad_() for tensor in (x, kernel, bias)]
    output = Convolution.apply(*ours, None, None, border)
    expected = F.conv2d(padded(exact[0], border), *exact[1:])
    weighting = torch.randn_like(expected)
    pairs = [(output, expected)]
    pairs += zip(
        torch.autograd.grad(output, ours, weighting.float()),
        torch.autograd.grad(expected, exact, weighting),
        strict=True,
    )
    for a, b in pairs:
        assert a.dtype == torch.float32
        assert (a - b).abs().max() < 2e-5 * b.abs().max()


@pytest.mark.parametrize("border", ["reflect", "replicate", "zeros"])
def test_second_derivatives_equal_those_of_the_direct_convolution(border):
    sources = [torch.randn(2, 3, 6, 9), torch.randn(4, 3, 3, 3), torch.randn(4)]
    found = []
    for dtype in (torch.float32, torch.float64):
        x, kernel, bias = (source.to(dtype).requires_grad_() for source in sources)
        if dtype == torch.float32:
            output = Convolution.apply(x, kernel, bias, None, None, border)
        else:
            output = F.conv2d(padded(x, border), kernel, bias)
        gradients = torch.autograd.grad(output.pow(3).sum(), (x, kernel, bias), create_graph=True)
        penalty = sum(gradient.square().sum() for gradient in gradients)
        found.append(torch.autograd.grad(penalty, (x, kernel, bias)))
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() < 1e-4 * b.abs().max()


def test_gradients_by_torch_func(everywhere):
    layer, x = Conv2d(4, 4, 3, padding=1).requires_grad_(False), torch.rand(1, 4, 8, 8)
    (expected,) = torch.autograd.grad(layer(x.requires_grad_()).square().sum(), x)
    torch.testing.assert_close(torch.func.grad(lambda x: layer(x).square().sum())(x.detach()), expected)


def test_strips_do_not_change_the_result(monkeypatch):
    x, kernel = torch.randn(2, 21, 30, 8), winograd.transform_kernel(torch.randn(4, 8, 3, 3))
    gradient = torch.randn(2, 21, 30, 4)
    results = []
    for tiles in (1, 16, 10**6):  # a row of tiles at a time, two rows, everything
        monkeypatch.setattr(winograd, "STRIP_TILES", tiles)
        results.append(
            (winograd.convolve(x, kernel, None, "reflect"), winograd.weight_gradient(x, gradient, "reflect"))
        )
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], atol=1e-3, rtol=1e-5)


def test_what_follows_may_change_the_output_in_place(everywhere):
    x = torch.rand(1, 4, 8, 8, requires_grad=True)
    net = nn.Sequential(Conv2d(4, 4, 3, padding=1), nn.ReLU(inplace=True))
    net(x).sum().backward()
    assert x.grad.abs().sum() > 0


def upsampled(x, mode):
    if mode == "smooth":
        x = F.avg_pool2d(F.avg_pool2d(padded(x, "replicate"), 2, 1), 2, 1)  # (1, 1) twice is (1, 2, 1)
        mode = "bilinear"
    return F.interpolate(x, scale_factor=2, mode=mode)


@pytest.mark.parametrize("mode", ["nearest", "bilinear", "smooth"])
@pytest.mark.parametrize("padding", ["reflect", "replicate", "zeros"])
def test_upsampling_folded_into_a_convolution_equals_both_in_turn(mode, padding):
    folded = UpConv2d(5, 4, 3, padding=1, padding_mode=padding, upsampling=mode)
    x = torch.rand(2, 5, 9, 7, requires_grad=True)
    border = "replicate" if padding == "reflect" and mode != "nearest" else padding
    outputs = folded(x), F.conv2d(padded(upsampled(x, mode), border), folded.weight, folded.bias)
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=0)
    weighting = torch.rand_like(outputs[0])
    gradients = [torch.autograd.grad(out, (x, folded.weight, folded.bias), weighting) for out in outputs]
    torch.testing.assert_close(*gradients, atol=1e-3, rtol=1e-5)


@pytest.mark.parametrize("padding", ["reflect", "zeros"])
def test_smooth_upsampling_removes_what_alternates_from_pixel_to_pixel(padding):
    up_conv = partial(UpConv2d, 1, 4, 3, padding=1, padding_mode=padding)
    layers = {mode: up_conv(upsampling=mode) for mode in ("bilinear", "smooth")}
    rows, columns = torch.meshgrid(torch.arange(8.0), torch.arange(8.0), indexing="ij")
    for pattern in ((-1) ** rows, (-1) ** columns, (-1) ** (rows + columns)):
        change = {}
        for mode, layer in layers.items():
            change[mode] = (layer(pattern[None, None]) - layer(torch.zeros(1, 1, 8, 8)))[..., 5:-5, 5:-5].abs().max()
        assert change["smooth"] < 1e-6 < 1e-2 < change["bilinear"]


def test_a_cached_kernel_follows_its_weights(calls):
    layer = Conv2d(4, 4, 3, padding=1, padding_mode="reflect").requires_grad_(False)
    x = torch.rand(1, 4, 12, 12)

    def changed(change):
        before = layer(x)
        change()
        torch.testing.assert_close(layer(x), copy.deepcopy(layer)(x), atol=1e-5, rtol=0)
        assert (layer(x) - before).abs().max() > 1e-3

    with torch.inference_mode():
        layer(x)
    assert layer(x.clone().requires_grad_()).requires_grad, "kernels cached in inference mode serve autograd too"
    kernels = {id(args[1]) for args in calls}
    assert len(kernels) == 1, "transformed once"
    changed(lambda: layer.weight.mul_(2))
    changed(lambda: layer.weight.data.mul_(2))
    changed(lambda: layer.load_state_dict({name: torch.rand_like(value) for name, value in layer.state_dict().items()}))
    changed(lambda: layer.bfloat16().float())
    changed(lambda: setattr(layer, "weight", nn.Parameter(torch.rand(4, 4, 3, 3), requires_grad=False)))


def test_where_it_is_used(calls, monkeypatch):
    layer, x = Conv2d(4, 4, 3, padding=1), torch.rand(1, 4, 8, 8)

    def used(net=layer, x=x):
        before = len(calls)
        net(x)
        return len(calls) > before

    assert used()
    assert not used(Conv2d(4, 4, 3, padding=1).bfloat16(), x.bfloat16())
    assert not used(Conv2d(4, 4, 3, padding=1).double(), x.double())
    for other in (Conv2d(4, 4, 3, 2, 1), Conv2d(4, 4, 3), Conv2d(4, 4, 1), Conv2d(4, 4, 3, padding=1, groups=2)):
        assert not used(other)
    assert not used(Conv2d(4, 4, 3, padding=1, padding_mode="circular"))
    with torch.autocast("cpu", torch.bfloat16):
        assert not used()
    with monkeypatch.context() as patch:
        patch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
        assert not used()
    with monkeypatch.context() as patch:
        patch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert not used()
    with monkeypatch.context() as patch:
        patch.setenv("ADAIN_WINOGRAD", "0")
        assert not used()
    with monkeypatch.context() as patch:
        patch.setattr(winograd, "MEASURED", {})
        assert not used()
    limits = {torch.backends.cpu.get_cpu_capability(): (winograd.Limits(channels=4, tiles=4),)}
    monkeypatch.setattr(winograd, "MEASURED", limits)
    assert used()
    assert not used(x=x[..., :4])
    assert not used(Conv2d(4, 3, 3, padding=1))


def test_the_table_refuses_images_smaller_than_a_tile(everywhere):
    assert winograd.faster(torch.rand(1, 4, 4, 64), 4)
    assert not winograd.faster(torch.rand(1, 4, 3, 64), 4)


@pytest.mark.parametrize(
    ("inputs", "outputs", "sides", "trained", "expected"),
    [
        (128, 128, (32, 32), False, {"AVX2", "AVX512"}),  # 64 tiles
        (128, 128, (32, 28), False, set()),  # 56 tiles
        (128, 128, (29, 29), False, {"AVX2", "AVX512"}),  # 64 tiles, some of them partly outside
        (128, 127, (64, 64), False, set()),
        (64, 64, (64, 64), False, set()),
        (64, 64, (64, 64), True, {"AVX2"}),  # 256 tiles
        (64, 64, (64, 60), True, set()),
        (63, 64, (64, 64), True, set()),
    ],
)
@pytest.mark.parametrize("capability", ["AVX2", "AVX512", "DEFAULT"])
def test_the_measured_limits(inputs, outputs, sides, trained, expected, capability, monkeypatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert winograd.faster(torch.empty(1, inputs, *sides), outputs, trained) == (capability in expected)
    if capability in expected:
        assert winograd.faster(torch.empty(2, inputs, sides[0] // 2, sides[1]), outputs, trained), "tiles of a batch"
