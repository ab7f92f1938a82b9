"""A method as one ONNX file, with which ONNX Runtime and others paint without PyTorch, in a browser too."""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

import adain
from adain.evaluation.metrics import EVAL_SIZE
from adain.functional import normalization
from adain.imaging import listing, reader
from adain.inference import pipeline, preparation, style_encoding
from adain.inference.options import ALPHA_BLENDS, AlphaBlend
from adain.methods import METHODS, EncodedContent, EncoderDecoder, Method, StyleCode, weights
from adain.utils.checks import check_choice
from adain.utils.errors import shortened
from adain.utils.extras import require_extra
from adain.utils.files import atomic_path

with require_extra("export", "exporting"):
    import onnx
    import onnxruntime
    from onnxruntime import quantization
    from onnxscript import optimizer

Precision = Literal["fp32", "fp16", "int8"]
StyleInput = Literal["picture", "code"]
Feed = dict[str, np.ndarray]

REFUSED = {
    "style-swap": "the number of its patches follows from the style's size",
    "wct": "it needs eigenvectors, for which ONNX has no operator",
    "gatys": "it optimizes each picture",
}
"""Methods that make no graph, and why."""

PICTURES = ("content", "style")
"""Inputs of any height and width."""

LARGEST = 2**31
"""Bytes of an ONNX file, more than which it cannot have."""

TOLERANCE = 1e-3
"""The most that a pixel in [0, 1] may differ from PyTorch's where both compute in float32."""


def export(
    output: str | Path,
    method: str | Path = "adain",
    style: StyleInput = "picture",
    precision: Precision = "fp32",
    calibration: Sequence[str | Path] | None = None,
    alpha_blend: AlphaBlend = "residual",
) -> tuple[float, float]:
    """Write the ONNX file; returns how far one picture's values are from PyTorch's in float32, at most and on average.

    Inputs: `content` (B, 3, H, W), RGB in [0, 1]; `style` alike, of any size, or the tensors of a style code by their
    names; `alpha` (B,), in [0, 1]. Of styles and alphas there are as many as contents, or one for all. A method with a
    style of its own takes the content only. Output: `stylized`, of the content's shape, in [0, 1]. All are float32,
    whatever the precision, and any size from 1 pixel will do.

    Args:
        output: the file to write, ending in .onnx.
        method: a name, or a file of weights.
        style: whether the graph takes the style as a picture, or as the code that `adain.encode_style` returns.
        precision: of the graph's weights and arithmetic; statistics are float32 in all.
        calibration: for int8, folders of contents and of styles, from which it learns the ranges of values.
        alpha_blend: as `adain.stylize` takes it; built into the graph.

    Raises:
        ValueError: a method that makes no graph, or a wrong choice.
        OSError: no such file.
    """
    check_choice("style input", style, get_args(StyleInput))
    check_choice("precision", precision, get_args(Precision))
    check_choice("alpha_blend", alpha_blend, ALPHA_BLENDS)
    if Path(output).suffix != ".onnx":
        raise ValueError(f"the output is an .onnx file, not {output}")
    if len(calibration or ()) != (2 if precision == "int8" else 0):
        raise ValueError("int8, and it alone, is calibrated: with two folders, of contents and of styles")
    if str(method) in REFUSED:
        able = ", ".join(name for name in METHODS if name not in REFUSED)
        raise ValueError(f"{method} cannot be exported: {REFUSED[str(method)]}; {able} can")
    plain = weights.load(method)
    if style == "code" and not plain.takes_style:
        raise ValueError(f"{type(plain).__name__} paints in the one style it was trained on and takes no code")
    if alpha_blend != "residual" and not plain.takes_style:
        raise ValueError(f"{type(plain).__name__} has no alpha to blend by; leave out alpha_blend")
    pictures = [
        [reader.load_picture(path, EVAL_SIZE) for path in listing.files(Path(one))] for one in calibration or ()
    ]
    working = preparation.prepare(plain, "cpu", "fp16" if precision == "fp16" else "fp32")
    try:
        model = _trace(working, plain, style, alpha_blend)
    except torch.onnx.OnnxExporterError as error:
        name, reason = type(plain).__name__, " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"torch.onnx cannot follow {name} with these weights ({shortened(reason, 200)})") from error
    if precision == "int8":
        model = _quantized(model, (_feed(plain, one, other, 1.0, style) for one, other in product(*pictures)))
    _describe(model, plain, method, precision, alpha_blend)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    sample = (pictures[0][0], pictures[1][0]) if calibration else (_noise(1, 75, 90), _noise(1, 60, 64))
    largest, mean = _differences(data, plain, *sample, style, alpha_blend)
    if not largest <= (TOLERANCE if precision == "fp32" else 1):  # nor NaN
        raise ValueError(f"the graph in {precision} is not this network but {largest:g} off; nothing is written")
    with atomic_path(output) as temporary:
        temporary.write_bytes(data)
    return largest, mean


class Graph(nn.Module):
    """A method with what surrounds it in `adain.stylize`, all of it tensor operations.

    Args:
        method: ready to stylize.
        code: names of the style code's tensors, if these are the inputs; empty for pictures.
        residual: add back what the network cannot rebuild of the content, as `adain.stylize` does by default.
    """

    def __init__(self, method: Method, code: tuple[str, ...] = (), residual: bool = True):
        super().__init__()
        self.method, self.code = method, code
        self.residual = residual and isinstance(method, EncoderDecoder)

    def forward(self, *inputs: Tensor) -> Tensor:
        """The content (B, 3, H, W) and, for methods that take a style, the style or its code's tensors, and alpha."""
        content, *given = inputs
        batch, _, height, width = content.shape
        dtype, stride = self.method.dtype, self.method.stride
        code: StyleCode = {}
        strength: Tensor | float = 1.0
        if self.method.takes_style:
            *styles, alpha = given
            strength = _shared(alpha.clamp(0, 1), batch)
            named = dict(zip(self.code, styles, strict=True)) if self.code else {}
            code = named or self.method.encode_style(_grown(styles[0], stride, reflect=False).to(dtype))
            code = {name: _shared(part, batch) for name, part in code.items()}
        encoded = self.method.encode_content(_grown(content, stride, reflect=True).to(dtype))
        if isinstance(strength, Tensor) and self.residual:
            return self._restored(content, encoded, code, strength)
        return self._decoded(encoded, code, strength)[..., :height, :width]

    def _decoded(self, encoded: EncodedContent, code: StyleCode, strength: Tensor | float) -> Tensor:
        return self.method.decode(encoded, code, strength).float().clamp(0, 1)

    def _restored(self, content: Tensor, encoded: EncodedContent, code: StyleCode, strength: Tensor) -> Tensor:
        """Decoded, and what is lost of the content added back where alpha is below 1.

        Those of the batch are decoded twice, in one batch: the second time at alpha 0. So int8 rounds both alike, and
        at alpha 1 nothing is decoded twice.
        """
        batch, _, height, width = content.shape
        below = (strength < 1).nonzero()[:, 0]
        rows = torch.cat([torch.arange(batch), below])
        code = {name: part.index_select(0, rows) for name, part in code.items()}
        weight = 1 - strength.index_select(0, below)
        strengths = torch.cat([strength, torch.zeros_like(weight)])
        decoded = self._decoded(encoded.rows(rows), code, strengths)[..., :height, :width]
        stylized, rebuilt = decoded[:batch], decoded[batch:]
        pair = stylized.index_select(0, below), rebuilt
        restored = normalization.add_residual(*pair, content.index_select(0, below), weight.view(-1, 1, 1, 1))
        return stylized.index_copy(0, below, restored).clamp(0, 1)


def _shared(given: Tensor, batch: int) -> Tensor:
    """As many as the batch: the last one serves all further pictures."""
    return given.index_select(0, torch.minimum(torch.arange(batch), torch.arange(given.shape[0])[-1]))


def _grown(x: Tensor, stride: int, reflect: bool) -> Tensor:
    """`x` with rows and columns added as `adain.stylize` adds them: to two strides at least, `reflect` to whole ones.

    By indices, which serve pictures of any size; the operator for padding needs to know that the size suffices.
    """
    sides = x.shape[2:]
    # Not -(-side // stride): ONNX divides integers towards zero.
    goals = [torch.sym_max(2 * stride, (side + stride - 1) // stride * stride if reflect else side) for side in sides]
    steps, lasts = [torch.arange(goal) for goal in goals], [torch.arange(side)[-1] for side in sides]
    fits = torch.stack([2 * last - step[-1] for last, step in zip(lasts, steps, strict=True)]).min() >= 0
    for axis, (step, last) in enumerate(zip(steps, lasts, strict=True), 2):
        index = torch.minimum(step, last)
        x = x.index_select(axis, torch.where(fits, last - (last - step).abs(), index) if reflect else index)
    return x


def _feed(method: Method, content: Tensor, style: Tensor, alpha: float, kind: StyleInput) -> Feed:
    """The graph's inputs, by name and in order."""
    if not method.takes_style:
        return {"content": content.numpy()}
    given = style_encoding.encode_style(method, style) if kind == "code" else {"style": style}
    named = {"content": content, **given, "alpha": torch.full((len(content),), alpha)}
    return {name: part.numpy() for name, part in named.items()}


def _noise(batch: int, height: int, width: int) -> Tensor:
    coarse = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(batch + height))
    return nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


def _trace(method: Method, plain: Method, kind: StyleInput, alpha_blend: AlphaBlend) -> onnx.ModelProto:
    """The graph of `method`, for any batch and sizes; `plain` is the same in float32, to make an example with."""
    # Large and all different, so that no layer's side happens to be 1, or another's, which would become a rule.
    style = _noise(2, *((840, 600) if kind == "picture" else (64, 48)))
    example = _feed(plain, _noise(2, 712, 1048), style, 0.5, kind)
    names = list(example)
    free = [dict.fromkeys((0, 2, 3) if name in PICTURES else (0,), torch.export.Dim.DYNAMIC) for name in names]
    with torch.no_grad(), _hushed():
        program = torch.onnx.export(
            Graph(method, tuple(names[1:-1]) if kind == "code" else (), alpha_blend == "residual").eval(),
            tuple(torch.from_numpy(part) for part in example.values()),
            dynamo=True,
            dynamic_shapes=(tuple(free),),
            input_names=names,
            output_names=["stylized"],
            verbose=False,
        )
        assert program is not None
        # Kernels that are made from weights alone are made now, whatever their size.
        optimizer.fold_constants(program.model, input_size_limit=LARGEST, output_size_limit=LARGEST)
        optimizer.remove_unused_nodes(program.model)
    return program.model_proto


@contextmanager
def _hushed() -> Iterator[None]:
    """Without what the exporters say about their own affairs."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _quantized(model: onnx.ModelProto, feeds: Iterator[Feed]) -> onnx.ModelProto:
    """Weights, and what enters and leaves convolutions and linear layers, in 8 bits; statistics stay float32."""

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> Feed | None:
            return next(feeds, None)

    with tempfile.TemporaryDirectory() as folder, _hushed():
        path = Path(folder) / "model.onnx"
        quantization.quantize_static(
            model,
            path,
            Reader(),
            op_types_to_quantize=["Conv", "ConvTranspose", "Gemm", "Pad"],
            per_channel=True,
            reduce_range=True,  # 7-bit weights: sums of 8-bit products overflow on AVX2 without VNNI
            activation_type=quantization.QuantType.QUInt8,  # which processors multiply with int8 weights at once
        )
        return onnx.load(path)


def _describe(
    model: onnx.ModelProto,
    method: Method,
    source: str | Path,
    precision: Precision,
    alpha_blend: AlphaBlend,
) -> None:
    """Say what the file holds, and nothing of how and where it was traced."""
    known = str(source) in METHODS
    path = weights.embedded(str(source)) if known else Path(source)
    card = path.with_suffix(".md")
    texts = {
        **weights.metadata(method),
        "weights": weights.fingerprint(method),
        "precision": precision,
        "alpha_blend": alpha_blend if method.takes_style else "",
        "adain": adain.__version__,
        "recipe": weights.read(path)[1].get("recipe", ""),
        "license": " ".join(card.read_text(encoding="utf-8").partition("## License")[2].split()) if known else "",
        "inputs": "pictures (B, 3, H, W), RGB in [0, 1], of any size; alpha (B,) in [0, 1]; styles and alphas: B, or 1",
        "output": "stylized: the content's shape, in [0, 1]",
    }
    onnx.helper.set_model_props(model, {name: text for name, text in texts.items() if text})
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    for value in (*graph.input, *graph.output):
        own = f"{value.name}_" if value.name not in ("content", "stylized") else ""
        for axis, size in enumerate(value.type.tensor_type.shape.dim):
            if size.dim_param:
                size.dim_param = own + ("batch", "channels", "height", "width")[axis]


def _differences(
    data: bytes,
    method: Method,
    content: Tensor,
    style: Tensor,
    kind: StyleInput,
    alpha_blend: AlphaBlend,
) -> tuple[float, float]:
    """From PyTorch's picture in float32, of values in [0, 1]: the largest, and the mean."""
    alpha = 0.7
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.run(None, _feed(method, content, style, alpha, kind))[0]
    painting = {"style": style, "alpha": alpha, "alpha_blend": alpha_blend} if method.takes_style else {}
    apart = np.abs(found - pipeline.stylize(content, method=method, **painting).numpy())
    return float(apart.max()), float(apart.mean())
