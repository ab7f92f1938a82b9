"""Frozen feature extractors by layer name, and the table of them."""

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

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

POOL = 0  # in a plan, between the widths

VGG_WIDTHS = (64, 128, 256, 512, 512)


@dataclass(frozen=True)
class Spec:
    """One row of `BACKBONES`: how the network is built and what its default weights expect."""

    depths: tuple[int, ...] = ()  # VGG: convolutions in each block; empty: built by torchvision
    batch_norm: bool = False
    embedded: str | None = None  # file in `CHECKPOINTS`; None: torchvision's IMAGENET1K_V1 by default
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

    Gradients flow through it to the images, never into its weights: they are buffers outside the state dict, so
    that no optimizer, average or checkpoint ever meets them. It is always in eval mode.

    Args:
        name: a row of `BACKBONES`.
        layers: what to return; nothing past the deepest one is computed. VGG's layers are `conv4_1` (before its
            ReLU), `bn4_1`, `relu4_1`, `pool4`; other networks' are torchvision's node names, such as `layer2`.
        weights: `embedded` (VGG-19 normalized by Gatys et al.), `imagenet` (torchvision's IMAGENET1K_V1,
            downloaded once), `random` (seeded, for tests), or a file with a torchvision state dict;
            by default the embedded ones where there are any, else `imagenet`.
        padding: of the 3x3 convolutions; style transfer prefers `reflect`, the networks were trained with `zeros`.
        pooling: `max` as trained, or `average` as Gatys et al. propose.

    Raises:
        ValueError: unknown name, layer or choice, or weights that do not fit.
        OSError: weights that cannot be read or downloaded.
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
        weights = weights or ("embedded" if spec.embedded else "imagenet")
        build = _vgg if spec.depths else _torchvision
        with torch.device("meta"):  # nothing is initialized that the weights fill anyway
            self.net = build(name, self.layers, weights, padding, pooling)
        embedded = weights == "embedded"
        self.register_buffer("mean", torch.tensor(spec.mean if embedded else IMAGENET_MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(spec.std if embedded else IMAGENET_STD).view(3, 1, 1))
        _freeze(self)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Features by layer name of `images` (B, 3, H, W), RGB in [0, 1]."""
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
        """Stay in eval mode, whatever the network around it does."""
        return super().train(False)

    def plan(self, layer: str) -> list[int]:
        """The widths of the convolutions up to `layer` in order, `POOL` where it halves: what a decoder mirrors.

        Outside VGG, whose blocks are no such list, one convolution for each halving stands for the whole block.
        """
        if isinstance(self.net, nn.Sequential):
            steps = []
            for name, module in self.net.named_children():
                if isinstance(module, nn.Conv2d):
                    steps.append(module.out_channels)
                elif name.startswith("pool"):
                    steps.append(POOL)
                if name == layer:
                    break
            return steps
        with torch.no_grad():
            channels, size = self.net(torch.zeros(1, 3, 64, 64, device=self.mean.device))[layer].shape[1:3]
        halvings = (64 // size).bit_length() - 1
        widths = [max(16, channels >> (halvings - i)) for i in range(halvings + 1)]
        return [step for width in widths for step in (POOL, width)][1:]

    def receptive_radius(self, layer: str) -> int | None:
        """How many pixels to each side a pixel of `layer` sees, at most; None where that is not known (not VGG)."""
        if not isinstance(self.net, nn.Sequential):
            return None
        step, reach = 1, 0
        for width in self.plan(layer):
            reach += step
            step *= 2 if width == POOL else 1
        return reach


def _vgg(name: str, layers: tuple[str, ...], weights: str, padding: Padding, pooling: Pooling) -> nn.Sequential:
    spec, modules, inputs = BACKBONES[name], dict[str, nn.Module](), 3
    for block, (width, depth) in enumerate(zip(VGG_WIDTHS, spec.depths, strict=True), 1):
        for i in range(1, depth + 1):
            modules[f"conv{block}_{i}"] = Conv2d(inputs, width, 3, padding=1, padding_mode=padding)
            if spec.batch_norm:
                modules[f"bn{block}_{i}"] = nn.BatchNorm2d(width)
            # In place, unless that would overwrite a layer which was asked for.
            before = f"bn{block}_{i}" if spec.batch_norm else f"conv{block}_{i}"
            modules[f"relu{block}_{i}"] = nn.ReLU(inplace=before not in layers)
            inputs = width
        modules[f"pool{block}"] = nn.MaxPool2d(2) if pooling == "max" else nn.AvgPool2d(2)
    names = list(modules)
    check_choice(f"layer of {name}", layers, names)
    deepest = max(names.index(layer) for layer in layers)
    net = nn.Sequential(OrderedDict((key, modules[key]) for key in names[: deepest + 1]))
    if weights == "random":
        return _randomize(net)
    state = _rename_vgg(_read_weights(name, weights), names)
    _check_depth(names, deepest, state, weights)
    kept = {key: tensor for key, tensor in state.items() if key.split(".")[0] in names[: deepest + 1]}
    return _fill(net, kept, weights)


def _check_depth(names: list[str], deepest: int, state: dict[str, Tensor], weights: str) -> None:
    """Raise ValueError, naming the layers there are, if the weights end before the deepest layer that is needed."""
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
    """Keys of torchvision number the layers that ours name, in the same order: features.0.weight is conv1_1.weight."""
    split = {key: key.split(".") for key in state}
    numbered = {key: parts for key, parts in split.items() if parts[0] == "features" and int(parts[1]) < len(names)}
    renamed = {f"{names[int(parts[1])]}.{parts[2]}": state[key] for key, parts in numbered.items()}
    return renamed or state


def _torchvision(name: str, layers: tuple[str, ...], weights: str, padding: Padding, pooling: Pooling) -> nn.Module:
    from torchvision import models  # 0.8 s, which stylizing with the embedded VGG-19 does not pay
    from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

    net = models.get_model(name, weights=None)
    net = (_randomize(net) if weights == "random" else _fill(net, _read_weights(name, weights), weights)).eval()
    nodes = get_graph_node_names(net)[1]
    blocks = {".".join(node.split(".")[:depth]) for node in nodes for depth in range(1, node.count(".") + 2)}
    check_choice(f"layer of {name}", layers, sorted(blocks - {"fc", "classifier", "flatten", "x"}))
    for path, module in list(net.named_modules()):
        if isinstance(module, nn.Conv2d):
            module.padding_mode = padding
        if isinstance(module, nn.ReLU):
            module.inplace = False  # would overwrite the layer before it
        if isinstance(module, nn.MaxPool2d) and pooling == "average":
            net.set_submodule(path, nn.AvgPool2d(module.kernel_size, module.stride, module.padding))
    return create_feature_extractor(net, list(layers))


def _read_weights(name: str, weights: str) -> dict[str, Tensor]:
    embedded = BACKBONES[name].embedded
    if weights == "embedded":
        if embedded is None:
            raise ValueError(f"no weights of {name} are embedded; choose imagenet, random or a file")
        return read_file(CHECKPOINTS / embedded)[0]
    if weights == "imagenet":
        from torchvision import models

        source = models.get_model_weights(name)["IMAGENET1K_V1"]
        try:
            state = dict(source.get_state_dict(progress=True, check_hash=True, weights_only=True))
        except (OSError, RuntimeError) as error:  # unreachable, or not what its name promises
            raise OSError(
                f"cannot download {name}'s weights from {source.url} ({error}); "
                "name a local file with that state dict as the weights, or use vgg19, which is embedded"
            ) from error
        # DenseNet's file still has the names of torch 0.3, which its model spells without a dot.
        return {re.sub(r"(denselayer\d+\.(?:norm|conv))\.(\d)", r"\1\2", key): value for key, value in state.items()}
    state, _ = read_file(weights)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"{weights} holds no dictionary of tensors; save a network's state_dict()")
    return state


def _fill(net: Net, state: dict[str, Tensor], origin: str) -> Net:
    try:
        net.load_state_dict({key: tensor.float() for key, tensor in state.items()}, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(f"the weights from {origin} do not fit this network: {reason}") from error
    return net


def _randomize(net: Net) -> Net:
    """Reproducible random weights that keep the scale of the signal (He et al. 2015)."""
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


def _freeze(module: nn.Module) -> None:
    for part in module.modules():
        tensors = {**part._parameters, **part._buffers}
        for name, tensor in tensors.items():
            part._parameters.pop(name, None)
            part.register_buffer(name, None if tensor is None else tensor.detach(), persistent=False)
    module.eval()
