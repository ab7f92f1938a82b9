"""Colors of a style without its strokes: `python -m benchmarks.photorealism [--wavelets FILE] [--sheet FILE]`.

Every content is stylized by adain in every style. The table compares ways to bring back the content's edges:

- smoothed: the result smoothed along the edges of the content (He et al. 2013), with small windows.
- matting Laplacian: the closest image that is locally linear in the content's colors (Levin et al. 2008), the term that
  Luan et al. (2017) add to the loss.
- gray change: what changed, smoothed along the edges of the content in gray.
- linear change: what `--photorealistic` does, `adain.inference.photorealism.transfer_colors`.
- global change: the same with one linear function for the whole image.
- adversarial: the result of weights that configs/photorealistic.yaml trained, and the linear change of that result.
- wavelets: the network of `benchmarks.wavelets` with skip connections (Yoo et al. 2019), with weights that it trained.

Each result is blended with the content, or extrapolated from it, by a factor that gives it the color change of "linear
change": the mean absolute difference of the blurred result from the blurred content. The columns are this factor; the
mean absolute difference of the blurred result from the blurred stylized one; the share of the contrast of the content's
edges that is kept; the gradients where the content has the least, relative to the content's (1: no texture was added);
and the SSIM of the luminance (Wang et al. 2004).
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

import adain
from adain.evaluation import metrics
from adain.evaluation.contact_sheet import Tile, contact_sheet, thumbnail
from adain.evaluation.grid import Pair, all_pairs
from adain.evaluation.report import markdown
from adain.functional.guided_filter import fit_linear, guided_filter
from adain.functional.statistics import box_mean, luminance
from adain.imaging import photo, reader
from adain.inference.photorealism import transfer_colors
from adain.methods import Method
from benchmarks import wavelets
from benchmarks.experiments import experiment_pairs, pair_tiles, parts_of, save_image
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


def color_change(result: Tensor, content: Tensor) -> float:
    """Return the mean absolute difference of two blurred images (1, 3, H, W)."""
    return (_blur(result) - _blur(content)).abs().mean().item()


def measure(result: Tensor, content: Tensor, stylized: Tensor, factor: float) -> dict[str, float]:
    """Return a row of the table for a result (1, 3, H, W)."""
    result = result.clamp(0, 1)
    found, expected = _gradients(result), _gradients(content)
    strength = expected.square().sum(0).sqrt()
    edges = strength > strength.flatten().quantile(EDGES)
    plain = strength < strength.flatten().quantile(PLAIN)
    gray = [luminance(image).expand(-1, 3, -1, -1) for image in (result, content)]
    return {
        "factor": factor,
        "color error": color_change(result, stylized),
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


@dataclass(frozen=True)
class Networks:
    """The networks to compare; those that are None are left out."""

    adain: Method
    adversarial: Method | None
    wavelets: wavelets.WaveletNetwork | None


def stylize_pair(pair: Pair, size: int, networks: Networks) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the content (1, 3, H, W), and the results by name, of which the first is "stylized"."""
    # The wavelet network needs sides that are multiples of 8, so all others get them, too.
    content, style = (wavelets.crop_to_multiple(reader.load_image(path, size)) for path in pair)
    stylized = adain.stylize(content, style, networks.adain)
    results = dict(variants(stylized, content))
    if networks.adversarial:
        results["adversarial"] = adain.stylize(content, style, networks.adversarial)
        results["adversarial, linear change"] = transfer_colors(results["adversarial"], content)
    if networks.wavelets:
        results["wavelets"] = networks.wavelets.stylize(content, style)
    return content, results


def main() -> None:
    """Print the machine and the table; write the sheet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--content", default=ROOT / "examples" / "content", help="folder of contents")
    parser.add_argument("--style", default=ROOT / "examples" / "style", help="folder of styles")
    parser.add_argument("--adversarial", help="weights that configs/photorealistic.yaml trained")
    parser.add_argument("--wavelets", help="weights that benchmarks.wavelets trained")
    parser.add_argument("--size", type=int, default=256, help="shorter side in pixels")
    parser.add_argument("--sheet", type=Path, help="WebP file for the results of the pairs of configs/experiments")
    options = parser.parse_args()
    networks = Networks(
        adain.prepare("adain", "cpu"),
        adain.prepare(options.adversarial, "cpu") if options.adversarial else None,
        wavelets.load(options.wavelets) if options.wavelets else None,
    )
    rows: dict[str, list[dict[str, float]]] = {}
    sheet_rows: list[list[Tile]] = []
    shown = experiment_pairs()
    pairs = all_pairs(options.content, options.style)
    for pair in pairs:
        content, results = stylize_pair(pair, options.size, networks)
        wanted = color_change(results["linear change"], content)
        tiles = pair_tiles(pair)
        for name, result in results.items():
            factor = wanted / color_change(result, content)
            blended = content + factor * (result - content)
            rows.setdefault(name, []).append(measure(blended, content, results["stylized"], factor))
            tiles.append((thumbnail(photo.to_image(blended.clamp(0, 1))), name))
        if pair in shown:
            sheet_rows.append(tiles)
    print(f"{machine()}; {len(pairs)} pairs, shorter side {options.size} px\n")
    table = []
    for name, figures in rows.items():
        means = {column: mean(row[column] for row in figures) for column in figures[0]}
        table.append({"result": name, **means})
    print(markdown(table), end="")
    if options.sheet:
        save_image(parts_of(contact_sheet(sheet_rows)), options.sheet)


if __name__ == "__main__":
    main()
