"""VGG-16 beside VGG-19, and the run time of all backbones: `python -m benchmarks.backbones [--vgg16 FILE]`.

Each backbone computes Gatys' objective and its gradient with random weights, in turns. `--vgg16` names a state dict
of torchvision's VGG-16, which may lack its classifier. With it, Gatys then runs with VGG-19 and twice with VGG-16:
with the same loss weights, and with weights that give each layer the same share of the loss as in VGG-19, because the
activations of the two networks differ in scale.
"""

import argparse
from functools import partial
from pathlib import Path
from statistics import geometric_mean

import torch
from torch import Tensor

from adain.evaluation.evaluate import evaluate
from adain.evaluation.grid import Pair, Variant, listed_pairs
from adain.evaluation.report import markdown
from adain.functional import statistics
from adain.functional.losses import content_loss, gram_loss
from adain.imaging import reader
from adain.inference.options import StyleOptions
from adain.methods.gatys import STYLE_LAYERS
from adain.models.backbones import Backbone
from benchmarks.experiments import ROOT, save_figure
from benchmarks.timing import machine, take_turns

SIZE = 256
ROUNDS = 3
CONTENT_LAYER = "relu4_2"
RESNET_LAYERS = ("relu", "layer1", "layer2", "layer3", "layer4")
DENSENET_LAYERS = ("features.relu0", *(f"features.denseblock{i}" for i in range(1, 5)))
LAYERS = {
    "vgg11": STYLE_LAYERS,
    "vgg13": STYLE_LAYERS,
    "vgg16": STYLE_LAYERS,
    "vgg19": STYLE_LAYERS,
    "resnet18": RESNET_LAYERS,
    "resnet50": RESNET_LAYERS,
    "densenet121": DENSENET_LAYERS,
}
"""The style layers of each backbone whose time is measured."""


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
        backbone = Backbone(name, layers, weights="random").to(memory_format=torch.channels_last)
        calls[name] = partial(objective_and_gradient, backbone, image)
    times = take_turns(calls, ROUNDS)
    table = []
    for name, measured in times.items():
        ratio = times["vgg19"].ratio(measured)
        table.append({"backbone": name, "seconds of a step": measured.median, "over those of vgg19": ratio})
    print(markdown(table))


def layer_distances(backbone: Backbone, pairs: list[Pair]) -> dict[str, float]:
    """The content loss and the style loss of each layer between content and style, geometric means over the pairs."""
    found: dict[str, list[float]] = {}
    with torch.inference_mode():
        for pair in pairs:
            content, style = (backbone(reader.load_image(path, SIZE)) for path in pair)
            for layer in STYLE_LAYERS:
                found.setdefault(layer, []).append(gram_loss(content[layer], statistics.gram(style[layer])).item())
            shared = [features[CONTENT_LAYER][..., : SIZE // 8, : SIZE // 8] for features in (content, style)]
            found.setdefault(CONTENT_LAYER, []).append(content_loss(*shared).item())
    return {layer: geometric_mean(values) for layer, values in found.items()}


def compare_vgg16(weights: str, steps: int) -> None:
    """Print the weights that match the shares of the layers, and the metrics; write docs/experiments/vgg16.jpg."""
    table = ROOT / "configs" / "experiments" / "pairs.csv"
    pairs = listed_pairs(ROOT / "examples" / "content", ROOT / "examples" / "style", table)
    layers = (*STYLE_LAYERS, CONTENT_LAYER)
    distances = [layer_distances(Backbone("vgg19", layers), pairs)]
    distances.append(layer_distances(Backbone("vgg16", layers, weights), pairs))
    factors = {layer: distances[0][layer] / distances[1][layer] for layer in layers}
    print(markdown([{"layer": layer, "factor for VGG-16": factor} for layer, factor in factors.items()]))
    vgg16 = {"backbone": "vgg16", "weights": weights, "steps": steps}
    matched = {
        "content_layer_weights": [factors[CONTENT_LAYER]],
        "style_layer_weights": [factors[layer] for layer in STYLE_LAYERS],
    }
    options = StyleOptions(style_size=SIZE)
    variants = [
        Variant("VGG-19", "gatys", {"steps": steps}, options, SIZE),
        Variant("VGG-16, the same weights", "gatys", vgg16, options, SIZE),
        Variant("VGG-16, matched shares", "gatys", vgg16 | matched, options, SIZE),
    ]
    output = ROOT / "out" / "experiments" / "vgg16"
    print(markdown(evaluate(variants, pairs, output, memory=False)))
    save_figure(output, "vgg16")


def main() -> None:
    """Print the machine and the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vgg16", type=Path, help="state dict of torchvision's VGG-16")
    parser.add_argument("--steps", type=int, default=200, help="steps of each optimization")
    options = parser.parse_args()
    print(f"{machine()}; {SIZE} px\n")
    print_times()
    if options.vgg16:
        compare_vgg16(str(options.vgg16), options.steps)


if __name__ == "__main__":
    main()
