"""Published evaluation protocols: StyleID's 20 contents in 40 styles at 512 px, with LPIPS, FID, ArtFID, and CFSD."""

import csv
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
from adain.evaluation.grid import Result, Variant, result_names, stylize_variants
from adain.evaluation.inception import EXPECTED, frechet_inception_distance
from adain.evaluation.report import mean_row, write_figures
from adain.imaging import listing, reader, writer
from adain.models.backbones import Backbone

CFSD_LAYER = "relu3_1"
SMALLEST = 64  # pixels a side that LPIPS needs
ROWS = 64  # of the self-similarity matrix at a time, which stay in the cache; at 512 px the whole one takes 1 GiB

MISSING_INCEPTION = f"FID and ArtFID are left out: --inception FILE gives them, with {EXPECTED}"

FeatureNetwork = Callable[[Tensor], Tensor]
"""From pictures (B, 3, H, W), RGB in [0, 1], to features (B, D)."""


@dataclass(frozen=True)
class Protocol:
    """How many pictures are evaluated, and at which size.

    Raises ValueError for counts below 1 and sizes below 64.
    """

    contents: int = 20
    styles: int = 40
    size: int = 512
    """Pixels a side; pictures are resized and cropped at their center to squares."""

    def __post_init__(self) -> None:
        for name, least in (("contents", 1), ("styles", 1), ("size", SMALLEST)):
            if getattr(self, name) < least:
                raise ValueError(f"Expected --{name} of at least {least}, got {getattr(self, name)}")


def cfsd(stylized: Tensor, content: Tensor) -> float:
    """Content feature structural distance of two feature maps (1, C, H, W); lower is better, equal maps give 0.

    From StyleID (Chung et al., CVPR 2024). With the features as a matrix F (HW, C), the self-similarity of positions
    is M = F F^T / C^2, and each row i of softmax(M) is a distribution S_i over positions. Then

        CFSD = sum_i KL(S_i of the content || S_i of the stylized picture).

    The sum over the positions is that of the authors' evaluation code, so the value depends on the size of the
    pictures. Computed in blocks of rows, as KL_i = log(1 + sum_j S_ij (exp(-e_ij) - 1)) with e = d - sum_j S_ij d_ij
    and d the difference of the rows of M: the distributions are almost uniform, and differences of their logarithms
    in float32 would be mostly rounding.

    Raises ValueError if the maps differ in shape.
    """
    if stylized.shape != content.shape:
        raise ValueError(f"Expected features of one shape, got {tuple(stylized.shape)} and {tuple(content.shape)}")
    channels = content.shape[1]
    a, b = (features[0].flatten(1).T / channels for features in (content, stylized))
    total = 0.0
    for start in range(0, len(a), ROWS):
        similarity = a[start : start + ROWS] @ a.T
        difference = similarity - b[start : start + ROWS] @ b.T
        weights = similarity.softmax(1)
        difference -= torch.linalg.vecdot(weights, difference)[:, None]
        total += torch.log1p(torch.linalg.vecdot(weights, difference.neg_().expm1_())).double().sum().item()
    return max(total, 0.0)


def evaluate_styleid(
    cases: Sequence[Variant],
    content: str | Path,
    style: str | Path,
    output: str | Path,
    protocol: Protocol | None = None,
    inception: FeatureNetwork | None = None,
    device: str = "auto",
) -> list[dict[str, Any]]:
    """Evaluate cases as StyleID does (Chung et al., CVPR 2024); returns a row of means for each.

    The first contents and styles of the folders, in the order of their names, make all pairs. Each result is compared
    with its content by LPIPS (AlexNet) and `cfsd`, and all results of a case with the styles by FID, where each style
    counts once for each content. ArtFID = (1 + LPIPS) (1 + FID) (Wright & Ommer, GCPR 2022). Lower is better for all.

    Published values of FID and ArtFID use the ArtFID authors' own Inception weights; see
    `adain.evaluation.inception.InceptionFeatures`. Published values of CFSD use torchvision's VGG-19. Here it is the
    embedded VGG-19 of Gatys et al., whose features have another scale, at relu3_1 with zero padding: compare CFSD
    only between runs of this package.

    Writes figures.csv, a row for each result as soon as it is there, then figures.json and table.md into `output`.

    Args:
        cases: methods; their size and style size are replaced by the protocol's.
        content: folder of contents.
        style: folder of styles.
        output: folder to write to.
        protocol: counts and size; by default the published ones.
        inception: gives features for FID, such as `adain.evaluation.inception.InceptionFeatures`; without it
            neither FID nor ArtFID is computed.
        device: as `adain.stylize` takes it.

    Raises:
        ValueError: too few pictures, or as `adain.stylize`; nothing has been written.
        OSError: a file that cannot be read.
    """
    protocol = protocol or Protocol()
    contents = _first(Path(content), "contents", protocol.contents)
    styles = _first(Path(style), "styles", protocol.styles)
    if inception and len(contents) * len(styles) < 2:
        raise ValueError("Expected at least 2 results for FID, got 1; raise --contents or --styles")
    result_names(contents, styles)
    check_variants(cases, Path(output), device)
    with tempfile.TemporaryDirectory() as name:
        contents = _crop_all(contents, Path(name) / "content", protocol.size)
        styles = _crop_all(styles, Path(name) / "style", protocol.size)
        meter = _Meter(contents, styles, inception)
        figures = []
        with _growing_csv(Path(output) / "figures.csv") as write_row:
            for cell in stylize_variants([_at_own_size(case) for case in cases], contents, styles, device):
                figures.append(meter(cell))
                write_row(figures[-1])
    table = [meter.means([row for row in figures if row["method"] == case.label]) for case in cases]
    write_figures(figures, table, Path(output))
    return table


def _first(folder: Path, what: str, count: int) -> list[Path]:
    """The first pictures of a folder; ValueError if there are fewer."""
    found = listing.files(folder)
    if len(found) < count:
        raise ValueError(f"Expected {count} {what} in {folder}, got {len(found)}; add pictures, or give --{what}")
    return found[:count]


def _crop_all(paths: Sequence[Path], folder: Path, size: int) -> list[Path]:
    """Center crops of `size` pixels a side, as PNG files of the same names without their suffix."""
    crops = []
    for path in paths:
        picture = reader.load_image(path, size)
        top, left = ((side - size) // 2 for side in picture.shape[2:])
        crops.append(folder / f"{path.stem}.png")
        writer.save(picture[..., top : top + size, left : left + size], crops[-1])
    return crops


def _at_own_size(case: Variant) -> Variant:
    """The case with pictures and styles at the size of their files, which is the protocol's."""
    return replace(case, size=None, options=replace(case.options, style_size=None))


@contextmanager
def _growing_csv(path: Path) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that appends a row to a new file, below a line of names, and flushes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:

        def write_row(row: dict[str, Any]) -> None:
            writer = csv.DictWriter(file, list(row))
            if not file.tell():
                writer.writeheader()
            writer.writerow(row)
            file.flush()

        yield write_row


class _Meter:
    """Metrics of results, and features of all of them for FID."""

    def __init__(self, contents: Sequence[Path], styles: Sequence[Path], inception: FeatureNetwork | None):
        self.lpips, self.vgg = metrics.LPIPS(), Backbone("vgg19", (CFSD_LAYER,), padding="zeros")
        self.inception = inception
        self.contents = {path: reader.load_image(path) for path in contents}
        self.results = dict[str, list[Tensor]]()
        with torch.inference_mode():
            self.features = {path: self._structure(picture) for path, picture in self.contents.items()}
            style_features = [inception(reader.load_image(path)) for path in styles] if inception else []
        self.styles = torch.cat(style_features).repeat(len(contents), 1) if inception else None

    def _structure(self, picture: Tensor) -> Tensor:
        return self.vgg(picture)[CFSD_LAYER]

    @torch.inference_mode()
    def __call__(self, cell: Result) -> dict[str, Any]:
        """The row of one result; ValueError if it has not the size of its content."""
        content, picture = self.contents[cell.content], cell.image
        names = {"method": cell.variant.label, "content": cell.content.stem, "style": cell.style.stem}
        if picture.shape != content.shape:
            (height, width), (wanted_height, wanted_width) = picture.shape[2:], content.shape[2:]
            raise ValueError(
                f"Expected results of {wanted_width} x {wanted_height} px, got {width} x {height} for "
                f"{cell.content.stem} in {cell.style.stem}; give --size"
            )
        if self.inception:
            self.results.setdefault(cell.variant.label, []).append(self.inception(picture))
        distance = self.lpips(picture, content).item()
        structure = cfsd(self._structure(picture), self.features[cell.content])
        return {**names, "LPIPS": distance, "CFSD": structure, "seconds": cell.seconds}

    def means(self, figures: list[dict[str, Any]]) -> dict[str, Any]:
        """The row of a case, from those of all its results."""
        row = mean_row(figures)
        seconds = row.pop("seconds")
        if self.styles is not None:
            row["FID"] = frechet_inception_distance(torch.cat(self.results[row["method"]]), self.styles)
            row["ArtFID"] = (1 + row["LPIPS"]) * (1 + row["FID"])
        return {**row, "seconds": seconds}
