"""Frozen feature extractors that return features by layer name, and the table of them."""

import re
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from adain.models.checkpoint_io import CHECKPOINTS, read_file
from adain.models.layers import Conv2d
from adain.utils.checks import check_choice

Net = TypeVar("Net", bound=nn.Module)

Padding = Literal["reflect", "zeros"]

Pooling = Literal["max", "average"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

POOL = 0
"""Stands for a pooling layer among the widths of `Backbone.plan`."""

VGG_WIDTHS = (64, 128, 256, 512, 512)

VGG_KEY = re.compile(r"features\.([0-9]{1,4})\.(\w+)")
"""A key of torchvision's VGG: the number of the layer, and the name of the tensor."""


@dataclass(frozen=True)
class Spec:
    """One row of `BACKBONES`: the architecture, and the input normalization of its embedded weights."""

    depths: tuple[int, ...] = ()  # VGG: number of convolutions per block; empty: torchvision builds the network
    batch_norm: bool = False
    embedded: str | None = None  # file in `CHECKPOINTS`; None: the default is torchvision's IMAGENET1K_V1
    mean: tuple[float, float, float] = IMAGENET_MEAN  # of the embedded weights, for RGB in [0, 1]
    std: tuple[float, float, float] = IMAGENET_STD


BACKBONES = {
    "vgg11": Spec((1, 1, 2, 2, 2)),
    "vgg11_bn": Spec((1, 1, 2, 2, 2), batch_norm=True),
    "vgg13": Spec((2, 2, 2, 2, 2)),
    "vgg13_bn": Spec((2, 2, 2, 2, 2), batch_norm=True),
    "vgg16": Spec((2, 2, 3, 3, 3)),
    "vgg16_bn": Spec((2, 2, 3, 3, 3), batch_norm=True),
    "vgg19": Spec((2, 2, 4, 4, 4), embedded="vgg19.safetensors", mean=(0.48502, 0.45796, 0.40760), std=(1, 1, 1)),
    "vgg19_bn": Spec((2, 2, 4, 4, 4), batch_norm=True),
    "resnet18": Spec(),
    "resnet50": Spec(),
    "densenet121": Spec(),
}


class Backbone(nn.Module):
    """A frozen feature extractor: `backbone(images)[layer]`.

    Gradients flow through the network to the images, but never to its weights. The weights are buffers outside the
    state dict, so that no optimizer, weight average, or checkpoint includes them. The network is always in eval mode.

    Args:
        name: A row of `BACKBONES`.
        layers: Layers to return. Layers after the deepest one are not computed. VGG's layers are `conv4_1` (before its
            ReLU), `bn4_1`, `relu4_1`, and `pool4`. Other networks use torchvision's node names, such as `layer2`.
        weights: `embedded` (VGG-19 normalized by Gatys et al.), `imagenet` (torchvision's IMAGENET1K_V1, downloaded
            once), `random` (seeded, for tests), or a file with a torchvision state dict. The default is `embedded` if
            the network has embedded weights, else `imagenet`.
        padding: Padding of the 3x3 convolutions. Style transfer prefers `reflect`; the networks were trained with
            `zeros`.
        pooling: `max` as trained, or `average` as proposed by Gatys et al.

    Raises:
        ValueError: Unknown name, layer, or choice, or weights that do not fit the network.
        OSError: Weights that cannot be read or downloaded.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        name: str = "vgg19",
        layers: Iterable[str] = ("relu4_1",),
        weights: str | None = None,
        padding: Padding = "reflect",
        pooling: Pooling = "max",
    ):
        super().__init__()
        check_choice("backbone", name, BACKBONES)
        check_choice("padding", padding, get_args(Padding))
        check_choice("pooling", pooling, get_args(Pooling))
        spec = BACKBONES[name]
        self.layers = tuple(layers)
        if not self.layers:
            raise ValueError(f"Expected at least one layer of {name}, got none")
        if not weights:
            weights = "embedded" if spec.embedded else "imagenet"
        build = _build_vgg if spec.depths else _build_torchvision
        with torch.device("meta"):  # skips an initialization that the weights would overwrite
            self.net = build(name, self.layers, weights, padding, pooling)
        embedded = weights == "embedded"
        mean = spec.mean if embedded else IMAGENET_MEAN
        std = spec.std if embedded else IMAGENET_STD
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).view(3, 1, 1))
        _freeze(self)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the features of `images` (B, 3, H, W), RGB in [0, 1], by layer name."""
        x = (images - self.mean) / self.std
        if not isinstance(self.net, nn.Sequential):
            return self.net(x)
        features = {}
        for layer, module in self.net.named_children():
            x = module(x)
            if layer in self.layers:
                features[layer] = x
        return features

    def train(self, mode: bool = True) -> "Backbone":
        """Stay in eval mode, even if the surrounding network is set to training mode."""
        return super().train(False)

    def plan(self, layer: str) -> list[int]:
        """Return the widths of the convolutions up to `layer` in order, with `POOL` for each halving of the size.

        A decoder mirrors this plan. Networks other than VGG are not a list of convolutions. For these, one convolution
        per halving stands for a whole block.
        """
        if not isinstance(self.net, nn.Sequential):
            return self._plan_by_shape(layer)
        steps = []
        for name, module in self.net.named_children():
            if isinstance(module, nn.Conv2d):
                steps.append(module.out_channels)
            elif name.startswith("pool"):
                steps.append(POOL)
            if name == layer:
                break
        return steps

    def _plan_by_shape(self, layer: str) -> list[int]:
        """Return a plan that doubles the width with each halving, up to the shape of the features of `layer`."""
        side = 64
        with torch.no_grad():
            features = self.net(torch.zeros(1, 3, side, side, device=self.mean.device))[layer]
        channels, size = features.shape[1:3]
        halvings = (side // size).bit_length() - 1
        steps = [max(16, channels >> halvings)]
        for i in range(1, halvings + 1):
            steps += [POOL, max(16, channels >> (halvings - i))]
        return steps

    def receptive_radius(self, layer: str) -> int | None:
        """Return the radius in pixels of the receptive field of `layer`, or None if it is unknown (not VGG)."""
        if not isinstance(self.net, nn.Sequential):
            return None
        step = 1
        radius = 0
        for width in self.plan(layer):
            radius += step
            if width == POOL:
                step *= 2
        return radius


def _build_vgg(name: str, layers: tuple[str, ...], weights: str, padding: Padding, pooling: Pooling) -> nn.Sequential:
    """Build a VGG up to the deepest of the layers, and load its weights."""
    modules = _vgg_modules(BACKBONES[name], layers, padding, pooling)
    names = list(modules)
    check_choice(f"layer of {name}", layers, names)
    deepest = max(names.index(layer) for layer in layers)
    needed = names[: deepest + 1]
    net = nn.Sequential(OrderedDict((key, modules[key]) for key in needed))
    if weights == "random":
        return _randomize(net)
    state = _rename_vgg(_read_weights(name, weights), names)
    _check_depth(names, deepest, state, weights)
    needed_state = {key: tensor for key, tensor in state.items() if key.split(".")[0] in needed}
    return _fill(net, needed_state, weights)


def _vgg_modules(spec: Spec, layers: tuple[str, ...], padding: Padding, pooling: Pooling) -> dict[str, nn.Module]:
    """Return all modules of a VGG's convolutional part by name, in order."""
    modules: dict[str, nn.Module] = {}
    inputs = 3
    for block, (width, depth) in enumerate(zip(VGG_WIDTHS, spec.depths, strict=True), 1):
        for i in range(1, depth + 1):
            before_relu = f"conv{block}_{i}"
            modules[before_relu] = Conv2d(inputs, width, 3, padding=1, padding_mode=padding)
            if spec.batch_norm:
                before_relu = f"bn{block}_{i}"
                modules[before_relu] = nn.BatchNorm2d(width)
            # A ReLU in place would overwrite the layer before it, if that layer is returned.
            modules[f"relu{block}_{i}"] = nn.ReLU(inplace=before_relu not in layers)
            inputs = width
        modules[f"pool{block}"] = nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2)
    return modules


def _check_depth(names: list[str], deepest: int, state: dict[str, Tensor], weights: str) -> None:
    """Raise ValueError, listing the available layers, if the weights end before the deepest layer that is needed."""
    convolutions = [layer for layer in names if layer.startswith("conv")]
    covered = [layer for layer in convolutions if f"{layer}.weight" in state]
    needed = [layer for layer in convolutions if names.index(layer) <= deepest]
    if covered and covered == convolutions[: len(covered)] and len(covered) < len(needed):
        end = names.index(convolutions[len(covered)])
        raise ValueError(
            f"Expected a layer that the {weights} weights contain, got {names[deepest]}; "
            f"choose from {', '.join(names[:end])}"
        )


def _rename_vgg(state: dict[str, Tensor], names: list[str]) -> dict[str, Tensor]:
    """Rename torchvision's keys, which number the layers: features.0.weight becomes conv1_1.weight.

    Keys outside the convolutional part are dropped. A state dict that already uses our names is returned unchanged.
    """
    renamed = {}
    for key, tensor in state.items():
        match = VGG_KEY.fullmatch(key)
        if match and int(match[1]) < len(names):
            renamed[f"{names[int(match[1])]}.{match[2]}"] = tensor
    return renamed or state


def _build_torchvision(
    name: str, layers: tuple[str, ...], weights: str, padding: Padding, pooling: Pooling
) -> nn.Module:
    """Build a torchvision network that returns the layers, and load its weights."""
    from torchvision import models  # takes 0.8 s, which stylizing with the embedded VGG-19 avoids
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    net = models.get_model(name, weights=None)
    net = _randomize(net) if weights == "random" else _fill(net, _read_weights(name, weights), weights)
    net = net.eval()
    _, nodes = get_graph_node_names(net)
    blocks = set()
    for node in nodes:
        parts = node.split(".")
        for depth in range(1, len(parts) + 1):
            blocks.add(".".join(parts[:depth]))
    check_choice(f"layer of {name}", layers, sorted(blocks - {"fc", "classifier", "flatten", "x"}))
    for path, module in list(net.named_modules()):
        if isinstance(module, nn.Conv2d):
            module.padding_mode = padding
        if isinstance(module, nn.ReLU):
            module.inplace = False  # in place, it would overwrite the layer before it
        if isinstance(module, nn.MaxPool2d) and pooling == "average":
            net.set_submodule(path, nn.AvgPool2d(module.kernel_size, module.stride, module.padding))
    return create_feature_extractor(net, list(layers))


def _read_weights(name: str, weights: str) -> dict[str, Tensor]:
    """Return the state dict of a backbone: embedded, downloaded, or from a file."""
    if weights == "embedded":
        embedded = BACKBONES[name].embedded
        if embedded is None:
            raise ValueError(f"no weights of {name} are embedded; choose imagenet, random, or a file")
        return read_file(CHECKPOINTS / embedded)[0]
    if weights == "imagenet":
        return _download_weights(name)
    state, _ = read_file(weights)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"Expected a dictionary of tensors in {weights}, got other content; save a state_dict()")
    if not all(isinstance(key, str) for key in state):
        raise ValueError(f"Expected tensors by name in {weights}, got keys of another type; save a state_dict()")
    return state


def _download_weights(name: str) -> dict[str, Tensor]:
    """Return torchvision's IMAGENET1K_V1 state dict, which is downloaded once."""
    from torchvision import models

    source = models.get_model_weights(name)["IMAGENET1K_V1"]
    try:
        state = dict(source.get_state_dict(progress=True, check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:  # unreachable, or a wrong hash
        raise OSError(
            f"cannot download {name}'s weights from {source.url} ({error}); "
            "name a local file with that state dict as the weights, or use vgg19, which is embedded"
        ) from error
    # DenseNet's file has the key names of PyTorch 0.3 (norm.1), which the model spells without a dot (norm1).
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key): value for key, value in state.items()}


def _fill(net: Net, state: dict[str, Tensor], origin: str) -> Net:
    """Load a state dict in float32. Raise ValueError if it does not fit."""
    try:
        net.load_state_dict({key: tensor.float() for key, tensor in state.items()}, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"the weights from {origin} do not fit this network: {reason}") from error
    return net


def _randomize(net: Net) -> Net:
    """Initialize with reproducible random weights that preserve the scale of the signal (He et al. 2015)."""
    net.to_empty(device="cpu")
    generator = torch.Generator("cpu").manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu", generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
    return net


def _freeze(net: nn.Module) -> None:
    """Turn all parameters into buffers outside the state dict, and set the network to eval mode."""
    for module in net.modules():
        tensors = {**module._parameters, **module._buffers}
        for name, tensor in tensors.items():
            module._parameters.pop(name, None)
            module.register_buffer(name, None if tensor is None else tensor.detach(), persistent=False)
    net.eval()
