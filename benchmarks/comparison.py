"""All methods on three pairs at 512 px, beside Gatys' optimization: `python -m benchmarks.comparison`.

Prints the machine and a table of the metrics of `adain evaluate`, the value of Gatys' objective, and the seconds, and
writes the results as docs/comparison.webp. Johnson's networks have one style each. The repository has those of two
styles; `--scream FILE` names weights for the third one, The Scream (docs/methods.md says how to train them).
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adain.evaluation import metrics
from adain.evaluation.contact_sheet import Tile, contact_sheet, thumbnail
from adain.evaluation.grid import Pair, Result, Variant, stylize_variants
from adain.evaluation.report import markdown, mean_row
from adain.imaging import photo, reader
from adain.inference.options import StyleOptions
from adain.methods.gatys import Gatys
from adain.models.checkpoint_io import CHECKPOINTS
from benchmarks.experiments import experiment_pairs, pair_tiles, save_image
from benchmarks.timing import machine

SIZE = 512
FEED_FORWARD = ("adain", "adain-lite", "adaconv", "style-swap", "wct")
JOHNSON = {"starry_night": CHECKPOINTS / "johnson.safetensors", "wave": CHECKPOINTS / "johnson_wave.safetensors"}
"""Weights by the stem of the style."""


class Meter:
    """Computes a row of the table for one result."""

    def __init__(self) -> None:
        self.network = metrics.evaluation_backbone()
        self.lpips = metrics.LPIPS()
        self.gatys = Gatys()

    def measure(self, label: str, pair: Pair, image: Tensor, seconds: float | None) -> dict[str, Any]:
        """The metrics of an image (1, 3, H, W)."""
        content, style = (reader.load_image(path, SIZE) for path in pair)
        row: dict[str, Any] = {"method": label, "content": pair[0].name, "style": pair[1].name}
        with torch.inference_mode():
            row |= metrics.scores(*(self.network(each) for each in (image, content, style)))
            row["LPIPS"] = self.lpips(image, content).item()
            row["objective"] = self.objective(image, content, style)
        row["seconds"] = seconds
        return row

    def objective(self, image: Tensor, content: Tensor, style: Tensor) -> float:
        """The value that Gatys' optimization minimizes, at full size and with the default weights."""
        code = self.gatys.encode_style(style)
        return self.gatys.losses(image, self.gatys.backbone(content), self.gatys.style_grams(code)).sum().item()


def stylize_all(pairs: list[Pair], steps: int, johnson: Mapping[str, Path]) -> list[Result]:
    """The results of all methods, in the order of the table.

    Args:
        pairs: Contents and styles.
        steps: Steps of the optimization at each of its sizes.
        johnson: Weights of Johnson's networks by the stem of their style.
    """
    options = StyleOptions(style_size=SIZE)
    variants = [Variant(name, name, {}, options, SIZE) for name in FEED_FORWARD]
    results = list(stylize_variants(variants, pairs, "cpu"))
    for pair in pairs:
        weights = johnson.get(pair[1].stem)
        if weights:
            results += stylize_variants([Variant("johnson", str(weights), {}, options, SIZE)], [pair], "cpu")
    gatys = Variant(f"gatys, {steps} steps", "gatys", {"steps": steps}, options, SIZE)
    return [*results, *stylize_variants([gatys], pairs, "cpu")]


def sheet_rows(pairs: list[Pair], results: list[Result]) -> list[list[Tile]]:
    """For each pair two rows: content, style, and the results by their labels."""
    labels = list(dict.fromkeys(result.variant.label for result in results))
    images = {(result.variant.label, result.content, result.style): result.image for result in results}
    rows = []
    for pair in pairs:
        tiles = pair_tiles(pair)
        for label in labels:
            image = images.get((label, *pair))
            tiles.append(None if image is None else (thumbnail(photo.to_image(image)), label))
        middle = (len(tiles) + 1) // 2
        rows += [tiles[:middle], tiles[middle:]]
    return rows


def main() -> None:
    """Print the machine and the table; write the image."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500, help="steps of the optimization at each of its sizes")
    parser.add_argument("--scream", type=Path, help="weights of a Johnson network for The Scream")
    options = parser.parse_args()
    if options.scream and not options.scream.is_file():
        parser.error(f"no file {options.scream}; docs/methods.md says how to train it, or leave --scream out")
    johnson = JOHNSON | ({"the_scream": options.scream} if options.scream else {})
    pairs = experiment_pairs()
    meter = Meter()
    results = stylize_all(pairs, options.steps, johnson)
    rows: dict[str, list[dict[str, Any]]] = {}
    for pair in pairs:
        rows.setdefault("content", []).append(meter.measure("content", pair, reader.load_image(pair[0], SIZE), None))
    for result in results:
        label, pair = result.variant.label, (result.content, result.style)
        rows.setdefault(label, []).append(meter.measure(label, pair, result.image, result.seconds))
    print(f"{machine()}; shorter side {SIZE} px\n")
    print(markdown([mean_row(of_method) for of_method in rows.values()]), end="")
    save_image([contact_sheet(sheet_rows(pairs, results))], Path("docs") / "comparison.webp")


if __name__ == "__main__":
    main()
