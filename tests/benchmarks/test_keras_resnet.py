"""The conversion of Keras's ResNet-50."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models import resnet50

from adain.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from benchmarks.keras_resnet import KERAS_EPSILON, KERAS_MEAN, TORCH_EPSILON, convert, layer_names


def _keras_layer(conv: str, norm: str, inputs: int, outputs: int) -> dict[str, Tensor]:
    """Random tensors of a convolution of 3x3 pixels and of its batch norm, named and shaped as in Keras."""
    return {
        f"{conv}/kernel": torch.randn(3, 3, inputs, outputs),
        f"{conv}/bias": torch.randn(outputs),
        f"{norm}/gamma": torch.rand(outputs),
        f"{norm}/beta": torch.randn(outputs),
        f"{norm}/moving_mean": torch.randn(outputs),
        f"{norm}/moving_variance": torch.rand(outputs) + 0.1,
    }


def _keras_tensors() -> dict[str, Tensor]:
    """All layers, with two channels each."""
    torch.manual_seed(0)
    tensors = _keras_layer("conv1", "bn_conv1", 3, 2)
    for suffix in layer_names():
        tensors |= _keras_layer(f"res{suffix}", f"bn{suffix}", 2, 2)
    return tensors | {"fc1000/kernel": torch.randn(2, 4), "fc1000/bias": torch.randn(4)}


def _keras_output(keras: dict[str, Tensor], conv: str, norm: str, x: Tensor) -> Tensor:
    """What Keras computes, without padding."""
    x = F.conv2d(x, keras[f"{conv}/kernel"].permute(3, 2, 0, 1), keras[f"{conv}/bias"])
    mean, variance = keras[f"{norm}/moving_mean"], keras[f"{norm}/moving_variance"]
    return F.batch_norm(x, mean, variance, keras[f"{norm}/gamma"], keras[f"{norm}/beta"], eps=KERAS_EPSILON)


def _torch_output(state: dict[str, Tensor], conv: str, norm: str, x: Tensor) -> Tensor:
    x = F.conv2d(x, state[f"{conv}.weight"])
    mean, variance = state[f"{norm}.running_mean"], state[f"{norm}.running_var"]
    return F.batch_norm(x, mean, variance, state[f"{norm}.weight"], state[f"{norm}.bias"], eps=TORCH_EPSILON)


def test_it_has_the_keys_of_torchvision():
    assert set(convert(_keras_tensors())) == set(resnet50().state_dict())


def test_the_first_layer_takes_our_input_instead_of_that_of_keras():
    keras = _keras_tensors()
    image = torch.rand(1, 3, 8, 8)
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    ours = _torch_output(convert(keras), "conv1", "bn1", (image - mean) / std)
    bgr = (255 * image - torch.tensor(KERAS_MEAN).view(3, 1, 1)).flip(1)
    expected = _keras_output(keras, "conv1", "bn_conv1", bgr)
    torch.testing.assert_close(ours, expected, atol=1e-2, rtol=1e-4)


def test_the_other_layers_compute_the_same():
    keras = _keras_tensors()
    state = convert(keras)
    x = torch.randn(1, 2, 8, 8)
    for suffix, (conv, norm) in layer_names().items():
        expected = _keras_output(keras, f"res{suffix}", f"bn{suffix}", x)
        torch.testing.assert_close(_torch_output(state, conv, norm, x), expected, atol=1e-4, rtol=1e-4)
