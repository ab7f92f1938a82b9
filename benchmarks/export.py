"""Exported models under ONNX Runtime, beside PyTorch in float32, in turns: `python -m benchmarks.export`.

Size; seconds a picture, its style encoded too, at alpha 1; S, C and G on the example pairs as `adain evaluate` judges
them; the largest difference from PyTorch at four sizes and three strengths. It prints the tables of docs/export.md.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import cache
from itertools import product
from pathlib import Path
from statistics import geometric_mean

import numpy as np
import onnxruntime
import torch
from torch import Tensor

import adain
from adain.deploy.onnx_export import Precision, export
from adain.evaluation import metrics
from adain.evaluation.report import markdown
from adain.imaging import listing, reader
from adain.methods import Method
from adain.models.backbones import Backbone
from benchmarks.timing import machine, take_turns

FOLDERS = "examples/content", "examples/style"
MODELS: list[tuple[str, Precision]] = [("adain-lite", "fp32"), ("adain-lite", "fp16"), ("adain-lite", "int8")]
MODELS += [("adain", "fp32"), ("adain", "fp16"), ("johnson", "fp32"), ("adaconv", "fp32")]
SIZES = (1, 64, 64), (1, 96, 131), (2, 256, 200), (1, 255, 257)
TIMED = 256, 512

Paint = Callable[..., Tensor]
"""Takes content, style and alpha."""


def under_torch(ready: Method) -> Paint:
    def stylize_image(content: Tensor, style: Tensor, alpha: float = 1.0) -> Tensor:
        return adain.stylize(content, method=ready, **({"style": style, "alpha": alpha} if ready.takes_style else {}))

    return stylize_image


def under_onnxruntime(path: Path) -> Paint:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # or it would slow PyTorch's turns
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [part.name for part in session.get_inputs()]

    def stylize_image(content: Tensor, style: Tensor, alpha: float = 1.0) -> Tensor:
        feed = {"content": content.numpy(), "style": style.numpy(), "alpha": np.float32([alpha])}
        return torch.from_numpy(session.run(None, {name: feed[name] for name in names})[0])

    return stylize_image


def parity(ours: Paint, theirs: Paint) -> dict[str, str]:
    """The largest difference of values in [0, 1], at each size."""
    photo, style = (adain.load_image(f"examples/{name}") for name in ("content/coffee.png", "style/wave.jpg"))
    found = {}
    for batch, height, width in SIZES:
        pair = photo[..., :height, :width].repeat(batch, 1, 1, 1), style[..., :180, :240]
        apart = [(ours(*pair, alpha) - theirs(*pair, alpha)).abs().max().item() for alpha in (0, 0.5, 1)]
        found[f"{batch} x {height} x {width}"] = f"{max(apart):.1e}"
    return found


@cache
def pictures() -> tuple[Backbone, list]:
    """The judging network, and for each folder its pictures with their features."""
    network = metrics.evaluation_backbone()
    with torch.inference_mode():
        sides = [[reader.load_image(path, metrics.EVAL_SIZE) for path in listing.files(Path(one))] for one in FOLDERS]
        return network, [[(picture, network(picture)) for picture in side] for side in sides]


def quality(stylize_image: Paint) -> dict[str, float]:
    """Geometric means of S, C and G over the example pairs."""
    network, sides = pictures()
    with torch.inference_mode():
        found = [
            metrics.scores(network(stylize_image(content, style)), of_content, of_style)
            for (content, of_content), (style, of_style) in product(*sides)
        ]
    return {name: geometric_mean(row[name] for row in found) for name in found[0]}


def seconds(ours: Paint, theirs: Paint, rounds: int) -> dict[str, float]:
    found = {}
    for side in TIMED:
        pair = torch.rand(2, 1, 3, side, side).unbind()
        calls = {f"{side} px": lambda p=pair: ours(*p), f"PyTorch, {side} px": lambda p=pair: theirs(*p)}
        found |= {name: times.median for name, times in take_turns(calls, rounds).items()}
    return found


def main(rounds: int) -> None:
    table, differences = [], []
    for name, precision in MODELS:
        ready, label = adain.prepare(name, "cpu", "fp32"), f"{name}, {precision}"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            export(path, name, precision=precision, calibration=FOLDERS if precision == "int8" else None)
            size, pair = path.stat().st_size / 1e6, (under_onnxruntime(path), under_torch(ready))
        evaluated = quality(pair[0]) if ready.takes_style else dict.fromkeys("SCG")
        table.append({"model": label, "MB": f"{size:.1f}", **evaluated, **seconds(*pair, rounds)})
        differences.append({"model": label, **parity(*pair)})
        print(table[-1], differences[-1], flush=True)
    print("", markdown(table), markdown(differences), sep="\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.manual_seed(0)
    print(f"{machine()}, onnxruntime {onnxruntime.__version__}")
    main(options.rounds)
