"""Published evaluation protocols: StyleID, with LPIPS, FID, ArtFID, and CFSD of 20 contents in 40 styles at 512 px."""

import csv
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adain.evaluation import metrics
from adain.evaluation.evaluate import check_variants
from adain.evaluation.grid import Result, Variant, input_files, result_names, stylize_variants
from adain.evaluation.inception import EXPECTED, frechet_inception_distance
from adain.evaluation.report import FIGURES, mean_row, write_figures
from adain.imaging import listing, reader, writer
from adain.models.backbones import Backbone
from adain.utils.files import FILE_NAMES, check_not_inputs

CFSD_LAYER = "relu3_1"
BLOCK_ROWS = 64
"""Rows of the self-similarity matrix that are computed at a time, so that they stay in the cache. At 512 px, the whole
matrix takes 1 GiB."""

MISSING_INCEPTION = f"FID and ArtFID are left out. To compute them, add --inception FILE with {EXPECTED}"

FeatureNetwork = Callable[[Tensor], Tensor]
"""From images (B, 3, H, W), RGB in [0, 1], to features (B, D)."""


@dataclass(frozen=True)
class Protocol:
    """How many images are evaluated, and at which size.

    Attributes:
        contents: Number of contents.
        styles: Number of styles.
        size: Side in pixels. Images are resized and center-cropped to squares.

    Raises:
        ValueError: A count is below 1, or the size is below 64.
    """

    contents: int = 20
    styles: int = 40
    size: int = 512

    def __post_init__(self) -> None:
        for name, minimum in (("contents", 1), ("styles", 1), ("size", metrics.MIN_SIZE)):
            if getattr(self, name) < minimum:
                raise ValueError(f"Expected --{name} of at least {minimum}, got {getattr(self, name)}")


def cfsd(stylized: Tensor, content: Tensor) -> float:
    """Return the content feature structural distance of two feature maps (1, C, H, W); lower is better.

    The metric is from StyleID (Chung et al., CVPR 2024). With the features as a matrix F (HW, C), the self-similarity
    of positions is M = F F^T / C^2, and each row i of softmax(M) is a distribution S_i over positions. Then

        CFSD = sum_i KL(S_i of the content || S_i of the stylized image).

    Equal feature maps give 0. As in the evaluation code of the authors, this is the sum over the positions, so that the
    value depends on the size of the images.

    It is computed in blocks of rows, as KL_i = log(1 + sum_j S_ij (exp(-e_ij) - 1)) with e = d - sum_j S_ij d_ij, where
    d is the difference of the rows of M. The distributions are almost uniform, so that differences of their logarithms
    in float32 would mostly consist of rounding errors.

    Raises:
        ValueError: The feature maps have different shapes.
    """
    if stylized.shape != content.shape:
        raise ValueError(f"Expected features of one shape, got {tuple(stylized.shape)} and {tuple(content.shape)}")
    channels = content.shape[1]
    content_rows = content[0].flatten(1).T / channels
    stylized_rows = stylized[0].flatten(1).T / channels
    total = 0.0
    for start in range(0, len(content_rows), BLOCK_ROWS):
        block = slice(start, start + BLOCK_ROWS)
        similarity = content_rows[block] @ content_rows.T
        difference = similarity - stylized_rows[block] @ stylized_rows.T
        weights = similarity.softmax(1)
        difference -= torch.linalg.vecdot(weights, difference)[:, None]
        divergences = torch.log1p(torch.linalg.vecdot(weights, difference.neg_().expm1_()))
        total += divergences.double().sum().item()
    return max(total, 0.0)


def evaluate_styleid(
    variants: Sequence[Variant],
    content: str | Path,
    style: str | Path,
    output: str | Path,
    protocol: Protocol | None = None,
    inception: FeatureNetwork | None = None,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """Evaluate variants with the protocol of StyleID (Chung et al., CVPR 2024); return a row of means for each.

    The first contents and styles of the folders by name make all pairs. Each result is compared with its content by
    LPIPS (AlexNet) and `cfsd`. All results of a variant are compared with the styles by FID, where each style counts
    once for each content. ArtFID = (1 + LPIPS) (1 + FID) (Wright & Ommer, GCPR 2022). Lower is better for all metrics.

    Published values of FID and ArtFID use the Inception weights of the ArtFID authors; see
    `adain.evaluation.inception.InceptionFeatures`. Published values of CFSD use the VGG-19 of torchvision. Here, the
    network is the embedded VGG-19 of Gatys et al., whose features have another scale, at relu3_1 with zero padding:
    compare CFSD only between runs of this package.

    Writes into `output`: figures.csv, with a row for each result as soon as it is available, then figures.json and
    table.md.

    Args:
        variants: Methods; their size and style size are replaced by those of the protocol.
        content: Folder of contents.
        style: Folder of styles.
        output: Folder to write to.
        protocol: Counts and size; the published ones by default.
        inception: Network whose features FID compares, such as `adain.evaluation.inception.InceptionFeatures`. Without
            it, neither FID nor ArtFID is computed.
        device: Device, as in `adain.stylize`.

    Raises:
        ValueError: There are too few images, an input would be overwritten, or as `adain.stylize`; nothing has been
            written.
        OSError: A file cannot be read.
    """
    protocol = protocol or Protocol()
    contents = _first_images(Path(content), "contents", protocol.contents)
    styles = _first_images(Path(style), "styles", protocol.styles)
    if inception and len(contents) * len(styles) < 2:
        raise ValueError("Expected at least 2 results for FID, got 1; raise --contents or --styles")
    named_pairs = list(itertools.product(contents, styles))
    result_names(named_pairs)
    inputs = input_files(variants, named_pairs)
    check_not_inputs([Path(output) / name for name in FIGURES], inputs)
    check_variants(variants, Path(output), device)
    with tempfile.TemporaryDirectory() as name:
        contents = _crop_all(contents, Path(name) / "content", protocol.size)
        styles = _crop_all(styles, Path(name) / "style", protocol.size)
        meter = _Meter(contents, styles, inception)
        rows = []
        with _growing_csv(Path(output) / "figures.csv") as write_row:
            pairs = list(itertools.product(contents, styles))
            for result in stylize_variants([_at_file_size(variant) for variant in variants], pairs, device):
                row = meter.measure(result)
                rows.append(row)
                write_row(row)
    table = []
    for variant in variants:
        table.append(meter.means([row for row in rows if row["method"] == variant.label]))
    write_figures(rows, table, Path(output))
    return table


def _first_images(folder: Path, what: str, count: int) -> list[Path]:
    """Return the first images of a folder by name.

    Raises:
        ValueError: There are fewer images.
    """
    found = listing.files(folder)
    if len(found) < count:
        raise ValueError(f"Expected {count} {what} in {folder}, got {len(found)}; add images, or lower --{what}")
    return found[:count]


def _crop_all(paths: Sequence[Path], folder: Path, size: int) -> list[Path]:
    """Write center crops of `size` pixels a side as PNG files with the names of the images; return their paths."""
    crops = []
    for path in paths:
        image = reader.load_image(path, size)
        top = (image.shape[2] - size) // 2
        left = (image.shape[3] - size) // 2
        crop = folder / f"{path.stem}.png"
        writer.save(image[..., top : top + size, left : left + size], crop)
        crops.append(crop)
    return crops


def _at_file_size(variant: Variant) -> Variant:
    """Return the variant with contents and styles at the size of their files, which is that of the protocol."""
    return replace(variant, size=None, options=replace(variant.options, style_size=None))


@contextmanager
def _growing_csv(path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Open a new CSV file, and give a function that appends a row to it and flushes it.

    The first row determines the header.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", **FILE_NAMES) as file:

        def write_row(row: dict[str, Any]) -> None:
            writer = csv.DictWriter(file, list(row))
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)
            file.flush()

        yield write_row


class _Meter:
    """Computes the metrics of results, and collects the features of all results for FID."""

    def __init__(self, contents: Sequence[Path], styles: Sequence[Path], inception: FeatureNetwork | None):
        self.lpips = metrics.LPIPS()
        self.vgg = Backbone("vgg19", (CFSD_LAYER,), padding="zeros")
        self.inception = inception
        self.contents = {path: reader.load_image(path) for path in contents}
        self.result_features = dict[str, list[Tensor]]()  # for FID, by the label of the variant
        self.style_features: Tensor | None = None
        with torch.inference_mode():
            self.content_features = {path: self._cfsd_features(image) for path, image in self.contents.items()}
            if inception:
                features = [inception(reader.load_image(path)) for path in styles]
                self.style_features = torch.cat(features).repeat(len(contents), 1)

    def _cfsd_features(self, image: Tensor) -> Tensor:
        return self.vgg(image)[CFSD_LAYER]

    @torch.inference_mode()
    def measure(self, result: Result) -> dict[str, Any]:
        """Return the row of one result.

        Raises:
            ValueError: The result and its content have different sizes.
        """
        label, image = result.variant.label, result.image
        content = self.contents[result.content]
        _check_same_size(result, image, content)
        if self.inception:
            self.result_features.setdefault(label, []).append(self.inception(image))
        return {
            "method": label,
            "content": result.content.stem,
            "style": result.style.stem,
            "LPIPS": self.lpips(image, content).item(),
            "CFSD": cfsd(self._cfsd_features(image), self.content_features[result.content]),
            "seconds": result.seconds,
        }

    def means(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the row of a variant from the rows of all its results."""
        row = mean_row(rows)
        seconds = row.pop("seconds")
        if self.style_features is not None:
            result_features = torch.cat(self.result_features[row["method"]])
            row["FID"] = frechet_inception_distance(result_features, self.style_features)
            row["ArtFID"] = (1 + row["LPIPS"]) * (1 + row["FID"])
        return {**row, "seconds": seconds}


def _check_same_size(result: Result, image: Tensor, content: Tensor) -> None:
    if image.shape == content.shape:
        return
    height, width = image.shape[2:]
    expected_height, expected_width = content.shape[2:]
    raise ValueError(
        f"Expected results of {expected_width} x {expected_height} px, got {width} x {height} for "
        f"{result.content.stem} in {result.style.stem}; change --size, or the results"
    )
