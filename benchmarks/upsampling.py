"""Where the grid of upsampling comes from: `python -m benchmarks.upsampling [--content DIR --style DIR]`.

The input of an upsampling convolution is blurred with (1, 2, 1)/4 along each axis, which removes what alternates from
pixel to pixel. The table has X of `adain evaluate`, the energy of the grid, of results without any blur, with a blur at
one upsampling, and at all; and X of the images themselves. The weights stay the same: this finds the cause, and is no
remedy, since the networks were trained without these blurs and style and colors suffer. Networks with smooth upsampling
blur themselves.
"""

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import geometric_mean

import torch
from torch import Tensor

import adain
from adain.evaluation import metrics
from adain.evaluation.report import markdown
from adain.imaging import listing, reader
from adain.models.layers import UpConv2d
from benchmarks.timing import machine

ROOT = Path(__file__).parents[1]


def grid(images: Sequence[Tensor]) -> float:
    """Mean X of images (1, 3, H, W) that are large enough for it."""
    return geometric_mean(energy for image in images if (energy := metrics.lattice_energy(image)) is not None)


def main() -> None:
    """Print the rows of all methods."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--content", type=Path, default=ROOT / "examples" / "content", help="folder of contents")
    parser.add_argument("--style", type=Path, default=ROOT / "examples" / "style", help="folder of styles")
    parser.add_argument("--methods", nargs="+", default=["adain", "adaconv"], help="names, or files of weights")
    parser.add_argument("--size", type=int, default=256, help="shorter side in pixels")
    options = parser.parse_args()
    contents, styles = (
        [reader.load_image(path, options.size) for path in listing.files(folder)]
        for folder in (options.content, options.style)
    )
    print(f"{machine()}; {len(contents)} contents, {len(styles)} styles, shorter side {options.size} px")
    table = [{"images": "contents", "X": grid(contents)}, {"images": "styles", "X": grid(styles)}]
    for name in options.methods:
        method = adain.prepare(name, "cpu", "fp32")
        codes = [adain.encode_style(method, style) for style in styles]
        layers = [module for module in method.modules() if isinstance(module, UpConv2d)]
        cases: dict[str, list[UpConv2d]] = {
            "": [],
            **{f", blur before upsampling {i + 1}": [layer] for i, layer in enumerate(layers)},
        }
        cases[", blur before every upsampling"] = layers
        for label, chosen in cases.items():
            hooks = [layer.register_forward_pre_hook(lambda layer, inputs: layer.smoothed(*inputs)) for layer in chosen]
            with torch.inference_mode():
                results = [adain.stylize(content, code, method) for content, code in product(contents, codes)]
            for hook in hooks:
                hook.remove()
            table.append({"images": f"{name}{label}", "X": grid(results)})
    print(markdown(table), end="")


if __name__ == "__main__":
    main()
