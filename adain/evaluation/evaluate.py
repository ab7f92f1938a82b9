"""Metrics of variants on pairs of contents and styles."""

import itertools
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from adain.evaluation import metrics
from adain.evaluation.contact_sheet import Tile, thumbnail, write_sheet
from adain.evaluation.grid import Pair, Result, Variant, input_files, stylize_variants
from adain.evaluation.peak_memory import peak_memory
from adain.evaluation.report import FIGURES, mean_row, write_events, write_figures
from adain.imaging import photo, reader
from adain.inference import full_size
from adain.inference.recorder import LOSS_FILES, write_losses
from adain.methods import ITERATIVE
from adain.utils.files import check_not_inputs

UNCHANGED = Variant("content", "content")
"""The content as it is, whose metrics are a reference for those of the methods."""


def evaluate(
    variants: Sequence[Variant],
    pairs: Sequence[Pair],
    output: str | Path,
    device: str = "auto",
    perceptual: bool = False,
    tensorboard: bool = False,
    memory: bool = True,
    columns: int | None = None,
    size: int = metrics.EVAL_SIZE,
) -> list[dict[str, Any]]:
    """Evaluate variants on pairs of contents and styles; return a row of means for each, the unchanged content first.

    All results are evaluated at the same shorter side. The metrics are those of `metrics.scores`; SSIM (Wang et al.
    2004) and LPIPS to the content; and X, the lattice energy of `metrics.lattice_energy`. S, C, G, and X have geometric
    means, the seconds for an image (with its style encoded before) a median. Of an optimization, there are also its
    lowest loss at the last size, and the content loss and the style loss at that step, times their weights.

    Writes figures.csv and figures.json with a row for each pair, table.md, and sheet.png to `output`; for
    optimizations also their losses (`adain.inference.recorder.write_losses`).

    Args:
        variants: The methods, with different labels.
        pairs: The contents and their styles, such as those of `adain.evaluation.grid.all_pairs`.
        output: Folder for the results.
        device: As `adain.prepare` takes it.
        perceptual: Add FID and ArtFID.
        tensorboard: Also write the means and the sheet as TensorBoard events.
        memory: Add MiB: the peak of a process that stylizes one pair, or of its accelerator.
        columns: Results in a row of the sheet; by default those of all variants.
        size: Shorter side in pixels at which results are evaluated.

    Raises:
        ValueError, OSError: An input would be overwritten, or as `adain.stylize` and `metrics.InceptionDistance`;
            nothing has been written.
    """
    check_outputs(Path(output), variants, input_files(variants, pairs))
    check_variants(variants, Path(output), device)
    if size < metrics.MIN_SIZE:
        raise ValueError(f"Expected --size of at least {metrics.MIN_SIZE} pixels, got {size}")
    if perceptual and len(pairs) < 2:
        raise ValueError("Expected 2 pairs or more for FID, got 1; add images, or leave out --perceptual")
    any_iterative = any(variant.method in ITERATIVE for variant in variants)
    meter = _Meter(pairs, perceptual, any_iterative, size)
    rows = meter.measure_unchanged(pairs)
    thumbnails = dict[tuple[str, Path, Path], Tile]()
    losses = defaultdict[str, list[Sequence[Mapping[str, float]]]](list)
    for result in stylize_variants(variants, pairs, device):
        rows.append(meter.measure(result))
        label = result.variant.label
        thumbnails[label, result.content, result.style] = thumbnail(photo.to_image(result.image)), label
        if result.losses:
            losses[label].append(result.losses)
    table = []
    for variant in (UNCHANGED, *variants):
        means = meter.means([row for row in rows if row["method"] == variant.label])
        if memory:
            means["MiB"] = means["seconds"] and peak_memory(variant, *pairs[0], device)
        table.append(means)
    sheet = _sheet_rows(variants, meter.images, pairs, thumbnails, columns or len(variants))
    write_sheet(sheet, Path(output) / "sheet.png")
    write_figures(rows, table, Path(output))
    if losses:
        write_losses(losses, Path(output))
    if tensorboard:
        write_events(table, Path(output))
    return table


def _sheet_rows(
    variants: Sequence[Variant],
    images: Mapping[Path, Tensor],
    pairs: Sequence[Pair],
    thumbnails: Mapping[tuple[str, Path, Path], Tile],
    columns: int,
) -> list[list[Tile]]:
    """Return, for each pair, its content and style, and then the results of all variants, in rows of `columns`."""
    rows = []
    for content, style in pairs:
        start: list[Tile] = []
        for path in (content, style):
            start.append((thumbnail(photo.to_image(images[path])), path.stem))
        for first in range(0, len(variants), columns):
            row = list(start)
            for variant in variants[first : first + columns]:
                row.append(thumbnails[variant.label, content, style])
            rows.append(row)
            start = [None, None]
    return rows


class _Meter:
    """Computes the metrics of results at a shorter side of `size`; `losses` says whether there is a column for them."""

    def __init__(self, pairs: Sequence[Pair], perceptual: bool, losses: bool, size: int):
        self.network = metrics.evaluation_backbone()
        self.losses = losses
        self.lpips = metrics.LPIPS()
        self.fid = metrics.InceptionDistance() if perceptual else None
        self.images = {path: reader.load_image(path, size) for path in dict.fromkeys(itertools.chain(*pairs))}
        with torch.inference_mode():
            self.features = {path: self.network(image) for path, image in self.images.items()}

    def measure(self, result: Result) -> dict[str, Any]:
        """Return the metrics of one result."""
        content, style = self.images[result.content], self.images[result.style]
        height, width = content.shape[2:]
        resized = photo.to_image(result.image).resize((width, height), Image.Resampling.LANCZOS)
        image = photo.to_tensor(resized)
        label = result.variant.label
        row: dict[str, Any] = {"method": label, "content": result.content.name, "style": result.style.name}
        with torch.inference_mode():
            row |= metrics.scores(self.network(image), self.features[result.content], self.features[result.style])
        row["SSIM"] = metrics.ssim(image, content)
        row["LPIPS"] = self.lpips(image, content).item()
        if self.fid:
            self.fid.add(label, image, style)
        row["X"] = metrics.lattice_energy(image)
        if self.losses:
            row |= _final_losses(result.losses)
        row["seconds"] = result.seconds
        return row

    def measure_unchanged(self, pairs: Sequence[Pair]) -> list[dict[str, Any]]:
        """Return the metrics of the contents themselves, as results of `UNCHANGED`."""
        rows = []
        for content, style in pairs:
            rows.append(self.measure(Result(UNCHANGED, content, style, self.images[content])))
        return rows

    def means(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the means of a variant, from the rows of all its pairs."""
        means = mean_row(rows)
        if self.fid:
            means["FID"] = self.fid.compute(means["method"])
            means["ArtFID"] = (1 + means["LPIPS"]) * (1 + means["FID"])
        return means


def _final_losses(steps: Sequence[Mapping[str, float]]) -> dict[str, float | None]:
    """Return the losses at the best step at the last size; None for a method that does not optimize."""
    if not steps:
        return {"loss": None, "content loss": None, "style loss": None}
    last_size = steps[-1]["size"]
    best = min((step for step in steps if step["size"] == last_size), key=itemgetter("total"))
    return {"loss": best["total"], "content loss": best["content"], "style loss": best["style"]}


def check_outputs(output: Path, variants: Sequence[Variant], inputs: Iterable[str | Path]) -> None:
    """Raise ValueError if `evaluate` would overwrite an input."""
    names = [*FIGURES, "sheet.png"]
    if any(variant.method in ITERATIVE for variant in variants):
        names += LOSS_FILES
    check_not_inputs([output / name for name in names], inputs)


def check_variants(variants: Sequence[Variant], output: Path, device: str) -> None:
    """Find errors before hours of work: raise those that `evaluate` raises."""
    labels = [UNCHANGED.label, *(variant.label for variant in variants)]
    if len(set(labels)) < len(labels):
        raise ValueError(
            f"Expected a different label for each variant, and not {UNCHANGED.label}, got {', '.join(labels[1:])}"
        )
    if output.exists() and not output.is_dir():
        raise FileExistsError(f"{output} is a file; name a folder to write to")
    for variant in variants:
        if not variant.is_folder:
            method = variant.prepare(device)
            full_size.resolve_work_size(method, variant.options.work_size)
