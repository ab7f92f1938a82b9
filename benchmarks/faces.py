"""Faces found before and after stylization: `python -m benchmarks.faces --content DIR --style DIR`; extra: faces.

OpenCV's bundled cascade for frontal faces looks for faces in every content and in every result. A face is kept if a
face of the result overlaps with it (intersection over union of 0.4 or more). The table has, for each method and value
of --detail, the share of faces that are kept (higher is better), and S and C of `adain evaluate` (lower is better).
"""

import argparse
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np
import torch
from torch import Tensor

import adain
from adain.evaluation import metrics
from adain.evaluation.report import markdown
from adain.imaging import listing, photo, reader
from adain.inference.detail import keep_detail
from adain.utils.extras import require_extra
from benchmarks.timing import machine

SMALLEST = 48  # pixels a side of a face
OVERLAP = 0.4
CASCADE = "haarcascade_frontalface_default.xml"

Box = tuple[int, int, int, int]


def cascade() -> Any:
    """OpenCV's cascade; ValueError if OpenCV is missing."""
    with require_extra("faces", "the benchmark of faces"):
        import cv2
    path = Path(cv2.data.haarcascades) / CASCADE
    if not path.is_file():
        raise ValueError(f"OpenCV came without {CASCADE}: pip install '.[faces]' in the repository")
    return cv2.CascadeClassifier(str(path))


def faces(detector: Any, image: Tensor) -> list[Box]:
    """Left, top, width and height of every face in an image (1, 3, H, W)."""
    gray = np.array(photo.to_image(image).convert("L"))
    return [tuple(map(int, box)) for box in detector.detectMultiScale(gray, 1.1, 5, minSize=(SMALLEST, SMALLEST))]


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0, width) * max(0, height)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def kept(before: list[Box], after: list[Box]) -> int:
    """How many of the faces are found again."""
    return sum(any(overlap(box, other) >= OVERLAP for other in after) for box in before)


def portraits(folder: Path, detector: Any, size: int, most: int) -> Iterator[tuple[Tensor, list[Box]]]:
    """At most `most` images of the folder in which faces are found, and the faces."""
    for path in listing.files(folder):
        if most == 0:
            return
        image = reader.load_image(path, size)
        if found := faces(detector, image):
            most -= 1
            yield image, found


def main() -> None:
    """Print a row for each method and value of --detail."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--content", type=Path, required=True, help="folder of photos; those without faces are skipped")
    parser.add_argument("--style", type=Path, required=True, help="folder of styles, or one of them")
    parser.add_argument("--methods", nargs="+", default=["adain", "adain-lite"])
    parser.add_argument("--detail", nargs="+", type=float, default=[0, 0.5, 1])
    parser.add_argument("--size", type=int, default=256, help="shorter side in pixels")
    parser.add_argument("--contents", type=int, default=20, help="how many photos with faces are used at most")
    parser.add_argument("--styles", type=int, default=6, help="how many styles are used at most")
    options = parser.parse_args()
    try:
        detector = cascade()
    except ValueError as error:
        sys.exit(f"error: {error}")
    contents = list(portraits(options.content, detector, options.size, options.contents))
    styles = [reader.load_image(path, options.size) for path in listing.files(options.style)[: options.styles]]
    total = len(styles) * sum(len(found) for _, found in contents)
    print(f"{machine()}; {len(contents)} photos with faces, {len(styles)} styles, {total} faces in results")
    network = metrics.evaluation_backbone()
    with torch.inference_mode():
        style_features = [network(style) for style in styles]
        content_features = [network(content) for content, _ in contents]
    table = []
    for name in options.methods:
        method = adain.prepare(name)
        codes = [adain.encode_style(method, style) for style in styles]
        rows = {detail: {"found": 0, "S": [], "C": []} for detail in options.detail}
        for (i, (content, before)), (j, code) in product(enumerate(contents), enumerate(codes)):
            stylized = adain.stylize(content, code, method)
            for detail, row in rows.items():
                result = keep_detail(stylized, content, detail) if detail else stylized
                row["found"] += kept(before, faces(detector, result))
                with torch.inference_mode():
                    scores = metrics.scores(network(result), content_features[i], style_features[j])
                for key in ("S", "C"):
                    row[key].append(scores[key])
        for detail, row in rows.items():
            means = {key: geometric_mean(row[key]) for key in ("S", "C")}
            table.append({"method": name, "detail": str(detail), "faces kept": row["found"] / total, **means})
    print(markdown(table), end="")


if __name__ == "__main__":
    main()
