"""Colors of a style without its strokes: `python -m benchmarks.photorealism [--adversarial FILE] [--wavelets FILE]`.

Every content is stylized by adain in every style. The table compares ways to bring back the content's edges:

- smoothed: the result smoothed along the edges of the content (He et al. 2013), with small windows.
- matting Laplacian: the closest image that is locally linear in the content's colors (Levin et al. 2008), the term that
  Luan et al. (2017) add to the loss.
- gray change: what changed, smoothed along the edges of the content in gray.
- linear change: what `--photorealistic` does, `adain.inference.photorealism.transfer_colors`.
- global change: the same with one linear function for the whole image.
- adversarial: the result of weights that configs/photorealistic.yaml trained, and the linear change of that result.
- wavelets: the network of `benchmarks.wavelets` with skip connections (Yoo et al. 2019), with weights that it trained.

The columns are the mean absolute difference of the blurred result from the blurred content; the share of the contrast
of the content's edges that is kept; the gradients where the content has the least, relative to the content's (1: no
texture was added); and the SSIM of the luminance (Wang et al. 2004).
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

import adain
from adain.evaluation import metrics
from adain.evaluation.grid import all_pairs
from adain.evaluation.report import markdown
from adain.functional.guided_filter import fit_linear, guided_filter
from adain.functional.statistics import box_mean, luminance
from adain.imaging import reader
from adain.inference.photorealism import transfer_colors
from benchmarks import wavelets
from benchmarks.timing import machine

ROOT = Path(__file__).parents[1]
BLUR_RADIUS = 8  # pixels of each of three box filters
EDGES = 0.9  # quantile of the content's gradients above which there is an edge
PLAIN = 0.5  # quantile below which there is none


def variants(stylized: Tensor, content: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Each way by name: images (1, 3, H, W) in [0, 1]."""
    shorter = min(content.shape[2:])
    yield "stylized", stylized
    yield "smoothed", guided_filter(stylized, content, max(2, shorter // 64))
    yield "matting Laplacian", matting_smooth(stylized, content)
    yield "gray change", content + guided_filter(stylized - content, content, shorter // 8)
    yield "linear change", transfer_colors(stylized, content)
    yield "global change", transfer_colors(stylized, content, share=1)


def matting_smooth(
    stylized: Tensor, content: Tensor, fidelity: float = 1e-3, eps: float = 1e-5, steps: int = 60
) -> Tensor:
    """Solve (fidelity + L) x = fidelity * stylized by conjugate gradients.

    L x is x minus its local linear model in windows of 3 x 3 pixels, which is the matting Laplacian of the content over
    the number of windows (He et al. 2013, section 3.3).
    """

    def apply(x: Tensor) -> Tensor:
        return fidelity * x + x - fit_linear(x, content, 1, eps)(content)

    x = stylized.clone()
    residual = fidelity * stylized - apply(x)
    direction = residual
    squares = residual.square().sum()
    for _ in range(steps):
        image = apply(direction)
        step = squares / (direction * image).sum()
        x = x + step * direction
        residual = residual - step * image
        before, squares = squares, residual.square().sum()
        direction = residual + squares / before * direction
    return x


def measure(result: Tensor, content: Tensor) -> dict[str, float]:
    """The figures of one result, (1, 3, H, W)."""
    result = result.clamp(0, 1)
    found, expected = _gradients(result), _gradients(content)
    strength = expected.square().sum(0).sqrt()
    edges = strength > strength.flatten().quantile(EDGES)
    plain = strength < strength.flatten().quantile(PLAIN)
    gray = [luminance(image).expand(-1, 3, -1, -1) for image in (result, content)]
    return {
        "color change": (_blur(result) - _blur(content)).abs().mean().item(),
        "edges kept": ((found * expected).sum(0)[edges].sum() / expected.square().sum(0)[edges].sum()).item(),
        "texture": (found.square().sum(0).sqrt()[plain].mean() / strength[plain].mean()).item(),
        "SSIM": metrics.ssim(*gray),
    }


def _gradients(image: Tensor) -> Tensor:
    """(2, H - 1, W - 1): differences of the luminance to the pixels below and to the right."""
    gray = luminance(image)[0, 0]
    return torch.stack([gray[1:, :-1] - gray[:-1, :-1], gray[:-1, 1:] - gray[:-1, :-1]])


def _blur(image: Tensor) -> Tensor:
    for _ in range(3):
        image = box_mean(image, BLUR_RADIUS)
    return image


def main() -> None:
    """Print the machine and the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--content", default=ROOT / "examples" / "content", help="folder of contents")
    parser.add_argument("--style", default=ROOT / "examples" / "style", help="folder of styles")
    parser.add_argument("--adversarial", help="weights that configs/photorealistic.yaml trained")
    parser.add_argument("--wavelets", help="weights that benchmarks.wavelets trained")
    parser.add_argument("--size", type=int, default=256, help="shorter side in pixels")
    options = parser.parse_args()
    method = adain.prepare("adain", "cpu")
    adversarial = adain.prepare(options.adversarial, "cpu") if options.adversarial else None
    network = wavelets.load(options.wavelets) if options.wavelets else None
    rows: dict[str, list[dict[str, float]]] = {}
    pairs = all_pairs(options.content, options.style)
    for content, style in pairs:
        image = reader.load_image(content, options.size)
        stylized = adain.stylize(image, style, method, style_size=options.size)
        for name, result in variants(stylized, image):
            rows.setdefault(name, []).append(measure(result, image))
        if adversarial:
            like_photos = adain.stylize(image, style, adversarial, style_size=options.size)
            rows.setdefault("adversarial", []).append(measure(like_photos, image))
            changed = transfer_colors(like_photos, image)
            rows.setdefault("adversarial, linear change", []).append(measure(changed, image))
        if network:
            image = wavelets.crop_to_multiple(image)
            painting = wavelets.crop_to_multiple(reader.load_image(style, options.size))
            rows.setdefault("wavelets", []).append(measure(network.stylize(image, painting), image))
    print(f"{machine()}; {len(pairs)} pairs, shorter side {options.size} px\n")
    table = []
    for name, figures in rows.items():
        means = {column: mean(row[column] for row in figures) for column in figures[0]}
        table.append({"result": name, **means})
    print(markdown(table), end="")


if __name__ == "__main__":
    main()
