"""Backbones for Gatys: `python -m benchmarks.backbones [--vgg16 FILE] [--resnet50 FILE]`.

Each backbone computes Gatys' objective and its gradient with random weights, in turns. The options name state dicts of
torchvision, which may lack the classifier; `benchmarks.keras_resnet` makes one of ResNet-50. With them, Gatys then runs
with VGG-19 and twice with each named network: with the same loss weights, and with weights that give each layer the
same share of the loss as in VGG-19, because the activations of the networks differ in scale.
"""

import argparse
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import geometric_mean

import torch
from torch import Tensor

from adain.evaluation.evaluate import evaluate
from adain.evaluation.grid import Pair, Variant
from adain.evaluation.report import markdown
from adain.functional import statistics
from adain.functional.losses import content_loss, gram_loss
from adain.imaging import reader
from adain.inference.options import StyleOptions
from adain.methods.gatys import STYLE_LAYERS
from adain.models.backbones import Backbone
from benchmarks.experiments import ROOT, experiment_pairs, save_figure
from benchmarks.timing import machine, take_turns

SIZE = 256
ROUNDS = 3


@dataclass(frozen=True)
class Layers:
    """The layers of a backbone that Gatys' objective compares."""

    style: tuple[str, ...]
    content: str

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.style, self.content)


VGG_LAYERS = Layers(STYLE_LAYERS, "relu4_2")
RESNET_LAYERS = Layers(("relu", "layer1", "layer2", "layer3", "layer4"), "layer3")
DENSENET_LAYERS = Layers(("features.relu0", *(f"features.denseblock{i}" for i in range(1, 5))), "features.denseblock3")
LAYERS = {
    "vgg11": VGG_LAYERS,
    "vgg13": VGG_LAYERS,
    "vgg16": VGG_LAYERS,
    "vgg19": VGG_LAYERS,
    "resnet18": RESNET_LAYERS,
    "resnet50": RESNET_LAYERS,
    "densenet121": DENSENET_LAYERS,
}


def objective_and_gradient(backbone: Backbone, image: Tensor) -> Tensor:
    """The gradient of the squared Gram matrices of all layers with respect to an image (1, 3, H, W)."""
    image = image.detach().requires_grad_()
    grams = [statistics.gram(features).square().sum() for features in backbone(image).values()]
    return torch.autograd.grad(torch.stack(grams).sum(), image)[0]


def print_times() -> None:
    """Print the seconds of a step of each backbone, and how many times longer it takes than VGG-19."""
    image = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    calls = {}
    for name, layers in LAYERS.items():
        backbone = Backbone(name, layers.style, weights="random").to(memory_format=torch.channels_last)
        calls[name] = partial(objective_and_gradient, backbone, image)
    times = take_turns(calls, ROUNDS)
    table = []
    for name, measured in times.items():
        ratio = times["vgg19"].ratio(measured)
        table.append({"backbone": name, "seconds of a step": measured.median, "over those of vgg19": ratio})
    print(markdown(table))


def layer_distances(backbone: Backbone, layers: Layers, pairs: list[Pair]) -> list[float]:
    """The losses between content and style by layer, that of the content layer last: geometric means over pairs."""
    losses: list[list[float]] = [[] for _ in layers.all]
    with torch.inference_mode():
        for pair in pairs:
            content, style = (backbone(reader.load_image(path, SIZE)) for path in pair)
            for i, layer in enumerate(layers.style):
                losses[i].append(gram_loss(content[layer], statistics.gram(style[layer])).item())
            # Both have a shorter side of `SIZE`, but not the same shape.
            a, b = content[layers.content], style[layers.content]
            height, width = min(a.shape[2], b.shape[2]), min(a.shape[3], b.shape[3])
            shared = content_loss(a[..., :height, :width], b[..., :height, :width])
            losses[-1].append(shared.item())
    return [geometric_mean(values) for values in losses]


def compare(name: str, weights: str, steps: int) -> None:
    """Print the weights that match the shares of the layers, and the metrics; write docs/experiments/NAME.webp."""
    pairs = experiment_pairs()
    layers = LAYERS[name]
    own, reference = Backbone(name, layers.all, weights), Backbone("vgg19", VGG_LAYERS.all)
    distances = layer_distances(own, layers, pairs)
    expected = layer_distances(reference, VGG_LAYERS, pairs)
    factors = [wanted / found for wanted, found in zip(expected, distances, strict=True)]
    print(markdown([{"layer": layer, "factor": factor} for layer, factor in zip(layers.all, factors, strict=True)]))
    settings = {
        "backbone": name,
        "weights": weights,
        "steps": steps,
        "content_layers": [layers.content],
        "style_layers": list(layers.style),
    }
    matched = {"content_layer_weights": factors[-1:], "style_layer_weights": factors[:-1]}
    options = StyleOptions(style_size=SIZE)
    variants = [
        Variant("vgg19", "gatys", {"steps": steps}, options, SIZE),
        Variant(f"{name}, the same weights", "gatys", settings, options, SIZE),
        Variant(f"{name}, matched shares", "gatys", settings | matched, options, SIZE),
    ]
    output = ROOT / "out" / "experiments" / name
    print(markdown(evaluate(variants, pairs, output, memory=False)))
    save_figure(output, name)


def main() -> None:
    """Print the machine and the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vgg16", help="state dict of torchvision's VGG-16")
    parser.add_argument("--resnet50", help="state dict of torchvision's ResNet-50")
    parser.add_argument("--steps", type=int, default=200, help="steps of each optimization")
    options = parser.parse_args()
    for weights in (options.vgg16, options.resnet50):
        if weights and not Path(weights).is_file():
            parser.error(f"no file {weights}; docs/experiments.md says where to get it (The weights of the backbones)")
    print(f"{machine()}; {SIZE} px\n")
    print_times()
    for name in ("vgg16", "resnet50"):
        weights = getattr(options, name)
        if weights:
            compare(name, weights, options.steps)


if __name__ == "__main__":
    main()
