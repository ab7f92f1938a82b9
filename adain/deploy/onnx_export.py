"""Export of a method as one ONNX file, which ONNX Runtime and others run without PyTorch, also in a browser."""

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor, nn

import adain
from adain.deploy.onnx_graph import StyleEncoderGraph, StylizeGraph
from adain.evaluation.metrics import EVAL_SIZE
from adain.imaging import listing, reader
from adain.inference import pipeline, preparation, style_encoding
from adain.inference.options import ALPHA_BLENDS, AlphaBlend
from adain.methods import METHODS, Method, weights
from adain.utils.checks import check_choice
from adain.utils.errors import shortened
from adain.utils.extras import require_extra
from adain.utils.files import atomic_path, check_not_inputs

with require_extra("export", "exporting"):
    import onnx
    import onnxruntime
    from onnxruntime import quantization
    from onnxscript import optimizer

Precision = Literal["fp32", "fp16", "int8"]
StyleInput = Literal["picture", "code"]
Part = Literal["whole", "style-encoder", "stylizer"]
Feed = dict[str, np.ndarray]

REFUSED = {
    "style-swap": "the number of its patches depends on the style's size",
    "wct": "it needs eigenvectors, for which ONNX has no operator",
    "gatys": "it optimizes each image",
}
"""Methods that cannot be exported, with the reason."""

IMAGE_INPUTS = ("content", "style")
"""Inputs of any height and width."""

MAX_FILE_SIZE = 2**31
"""The largest size of an ONNX file in bytes."""

TOLERANCE = 1e-3
"""The largest difference to PyTorch of a value in [0, 1], if both compute in float32."""


@dataclass(frozen=True)
class GraphOptions:
    """What is built into an exported graph; see `export`."""

    style: StyleInput
    precision: Precision
    alpha_blend: AlphaBlend
    part: Part

    @property
    def takes_code(self) -> bool:
        """Whether the tensors of a style code are inputs."""
        return self.part == "stylizer" or self.style == "code"


def export(
    output: str | Path,
    method: str | Path = "adain",
    style: StyleInput = "picture",
    precision: Precision = "fp32",
    calibration: Sequence[str | Path] | None = None,
    alpha_blend: AlphaBlend = "residual",
    part: Part = "whole",
) -> tuple[float, float]:
    """Write a method to an ONNX file, and return how much one result differs from PyTorch in float32.

    Inputs: `content` (B, 3, H, W), RGB in [0, 1]; `style` of the same form and any size, or the tensors of a style code
    by their names; `alpha` (B,), in [0, 1]. Styles and alphas have the batch of the contents, or a batch of one for
    all. A method with a trained style takes only the content. Output: `stylized`, of the content's shape, in [0, 1].
    All of them are float32 in every precision, and all sizes from 1 pixel are allowed.

    Two parts of a method can be exported on their own, so that a style is encoded once for many contents:
    `style-encoder` maps `style` to the tensors of its style code, and `stylizer` maps `content` and these tensors to
    `stylized`, at full strength.

    Args:
        output: The file to write, ending in .onnx.
        method: Name of a method, or a file of weights.
        style: Whether the style input is an image, or the code that `adain.encode_style` returns.
        precision: Of the graph's weights and arithmetic; statistics are always float32.
        calibration: For int8, a folder of contents and a folder of styles, which determine the ranges of values.
        alpha_blend: As `adain.stylize` takes it; built into the graph.
        part: What to export of the method.

    Returns:
        The largest and the mean absolute difference of values in [0, 1], or of a style code relative to its largest
        value.

    Raises:
        ValueError: The method cannot be exported, an option is wrong, or the output is the file of weights.
        OSError: A file does not exist or cannot be written.
    """
    options = GraphOptions(style, precision, alpha_blend, part)
    _check_options(output, method, options, calibration)
    check_not_inputs([output], [method])
    reference = weights.load(method)
    _check_method_options(reference, options)
    calibration_images = [_load_images(folder) for folder in calibration or ()]
    model = _trace(reference, options)
    if precision == "int8":
        contents, styles = calibration_images
        model = _quantize(model, _calibration_feeds(reference, contents, styles, options))
    _describe(model, reference, method, options)
    onnx.checker.check_model(model, full_check=True)
    data = model.SerializeToString()
    if calibration_images:
        content_sample, style_sample = calibration_images[0][0], calibration_images[1][0]
    else:
        content_sample, style_sample = _smooth_noise(1, 75, 90), _smooth_noise(1, 60, 64)
    largest, mean = _compare_with_pytorch(data, reference, content_sample, style_sample, options)
    if not largest <= (TOLERANCE if precision == "fp32" else 1):  # also true for NaN
        raise ValueError(
            f"the exported graph differs from PyTorch by {largest:g} in {precision}, so nothing is written; "
            "try another precision"
        )
    with atomic_path(output) as temporary:
        temporary.write_bytes(data)
    return largest, mean


def _check_options(
    output: str | Path, method: str | Path, options: GraphOptions, calibration: Sequence[str | Path] | None
) -> None:
    """Raise ValueError for what is wrong before the weights are known."""
    check_choice("style input", options.style, get_args(StyleInput))
    check_choice("precision", options.precision, get_args(Precision))
    check_choice("alpha_blend", options.alpha_blend, ALPHA_BLENDS)
    check_choice("part", options.part, get_args(Part))
    if options.part != "whole" and (options.style, options.alpha_blend) != ("picture", "residual"):
        raise ValueError(f"style and alpha_blend apply to the whole method; leave them out for part {options.part}")
    if Path(output).suffix != ".onnx":
        raise ValueError(f"the output file name must end in .onnx, got {output}")
    folders = len(calibration or ())
    if options.precision == "int8" and folders != 2:
        raise ValueError(f"precision int8 needs 2 calibration folders (contents and styles), got {folders}")
    if options.precision != "int8" and folders != 0:
        raise ValueError(f"precision {options.precision} takes no calibration folders, got {folders}; leave them out")
    if str(method) in REFUSED:
        supported = ", ".join(name for name in METHODS if name not in REFUSED)
        raise ValueError(f"{method} cannot be exported: {REFUSED[str(method)]}; choose from {supported}")


def _check_method_options(method: Method, options: GraphOptions) -> None:
    """Raise ValueError for options that a method with a trained style does not have."""
    if method.takes_style:
        return
    name = type(method).__name__
    if options.part != "whole":
        raise ValueError(f"{name} has no style encoder; leave out part")
    if options.style == "code":
        raise ValueError(f"{name} supports only the style that it was trained on and takes no style code")
    if options.alpha_blend != "residual":
        raise ValueError(f"{name} has no alpha to blend with; leave out alpha_blend")


def _load_images(folder: str | Path) -> list[Tensor]:
    """Load all images of a folder, at the evaluation size."""
    return [reader.load_image(path, EVAL_SIZE) for path in listing.files(Path(folder))]


def _trace(reference: Method, options: GraphOptions) -> onnx.ModelProto:
    """Return the graph of a method for any batch and any sizes.

    Args:
        reference: The method in float32.
        options: What is built into the graph.

    Raises:
        ValueError: torch.onnx cannot export this network.
    """
    method = preparation.prepare(reference, "cpu", "fp16" if options.precision == "fp16" else "fp32")
    # All sides are large and different, so that no side in the network happens to be 1 or to equal another one. The
    # exporter would turn that into a constraint.
    style_size = (64, 48) if options.takes_code else (840, 600)
    example = _feed(reference, _smooth_noise(2, 712, 1048), _smooth_noise(2, *style_size), 0.5, options)
    names = list(example)
    if options.part == "style-encoder":
        graph: nn.Module = StyleEncoderGraph(method)
        outputs = list(style_encoding.encode_style(reference, _smooth_noise(1, 64, 48)))
    else:
        code_names = tuple(name for name in names if name not in (*IMAGE_INPUTS, "alpha"))
        graph = StylizeGraph(method, code_names, options.part == "whole", options.alpha_blend == "residual")
        outputs = ["stylized"]
    dynamic_shapes = []
    for name in names:
        axes = (0, 2, 3) if name in IMAGE_INPUTS else (0,)
        dynamic_shapes.append(dict.fromkeys(axes, torch.export.Dim.DYNAMIC))
    try:
        with torch.no_grad(), _silent_exporters():
            program = torch.onnx.export(
                graph.eval(),
                tuple(torch.from_numpy(part) for part in example.values()),
                dynamo=True,
                dynamic_shapes=(tuple(dynamic_shapes),),
                input_names=names,
                output_names=outputs,
                verbose=False,
            )
            assert program is not None
            # Fold kernels that are computed from weights alone, of any size.
            optimizer.fold_constants(program.model, input_size_limit=MAX_FILE_SIZE, output_size_limit=MAX_FILE_SIZE)
            optimizer.remove_unused_nodes(program.model)
        return program.model_proto
    except torch.onnx.OnnxExporterError as error:
        name = type(reference).__name__
        reason = " ".join(str(error.__cause__ or error).split())
        raise ValueError(f"torch.onnx cannot export {name} with these weights ({shortened(reason, 200)})") from error


def _feed(method: Method, content: Tensor, style: Tensor, alpha: float, options: GraphOptions) -> Feed:
    """Return the graph's inputs by name, in their order."""
    if not method.takes_style:
        return {"content": content.numpy()}
    inputs = {"content": content} if options.part != "style-encoder" else {}
    if options.takes_code:
        inputs |= style_encoding.encode_style(method, style)
    else:
        inputs["style"] = style
    if options.part == "whole":
        inputs["alpha"] = torch.full((len(content),), alpha)
    return {name: tensor.numpy() for name, tensor in inputs.items()}


def _smooth_noise(batch: int, height: int, width: int) -> Tensor:
    """Return images of smooth noise, (B, 3, H, W) in [0, 1], always the same for a batch and height."""
    coarse = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(batch + height))
    return nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)


@contextmanager
def _silent_exporters() -> Iterator[None]:
    """Suppress the warnings and log messages of the exporters in a block."""
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)


def _calibration_feeds(
    method: Method, contents: Sequence[Tensor], styles: Sequence[Tensor], options: GraphOptions
) -> Iterator[Feed]:
    """Yield the inputs for each pair of a content and a style, at full strength."""
    for content in contents:
        for style in styles:
            yield _feed(method, content, style, 1.0, options)


def _quantize(model: onnx.ModelProto, feeds: Iterator[Feed]) -> onnx.ModelProto:
    """Return the graph with weights and activations of convolutions and linear layers in 8 bits.

    Statistics, and the layers of `_float_convolutions`, stay float32.
    """

    class Reader(quantization.CalibrationDataReader):
        def get_next(self) -> Feed | None:
            return next(feeds, None)

    with tempfile.TemporaryDirectory() as folder, _silent_exporters():
        path = Path(folder) / "model.onnx"
        quantization.quantize_static(
            model,
            path,
            Reader(),
            op_types_to_quantize=["Conv", "ConvTranspose", "Gemm", "Pad"],
            nodes_to_exclude=_float_convolutions(model),
            per_channel=True,
            reduce_range=True,  # 7-bit weights: sums of 8-bit products overflow on AVX2 without VNNI
            activation_type=quantization.QuantType.QUInt8,  # processors multiply uint8 by int8 in one instruction
        )
        return onnx.load(path)


def _float_convolutions(model: onnx.ModelProto) -> list[str]:
    """Return the names of convolutions with few products, in which 8 bits lose detail and save no time.

    These are the 1x1 convolutions of skip connections, the blurs of single channels, and those that output an image.
    """
    kernels = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    names = []
    for node in model.graph.node:
        if node.op_type == "Conv" and node.input[1] in kernels:
            outputs, inputs, *sides = kernels[node.input[1]]
            if sides == [1, 1] or inputs == 1 or outputs == 3:
                names.append(node.name)
    return names


def _describe(model: onnx.ModelProto, method: Method, source: str | Path, options: GraphOptions) -> None:
    """Write the metadata and the names of dimensions, and remove traces of how and where the graph was made.

    Args:
        model: The graph, which is changed.
        method: The method in float32.
        source: Name of the method, the file of its weights, or a repository of the Hugging Face Hub.
        options: What is built into the graph.
    """
    has_card = str(source) in METHODS
    path = weights.locate(source)
    license_text = ""
    if has_card:
        card = path.with_suffix(".md").read_text(encoding="utf-8")
        license_text = " ".join(card.partition("## License")[2].split())
    texts = {
        **weights.metadata(method),
        "weights": weights.fingerprint(method),
        "part": options.part,
        "precision": options.precision,
        "alpha_blend": options.alpha_blend if method.takes_style and options.part == "whole" else "",
        "adain": adain.__version__,
        "recipe": weights.read(path)[1].get("recipe", ""),
        "license": license_text,
        "inputs": "pictures (B, 3, H, W), RGB in [0, 1], of any size; alpha (B,) in [0, 1]; styles and alphas: B, or 1",
        "output": "a style code" if options.part == "style-encoder" else "stylized: the content's shape, in [0, 1]",
    }
    onnx.helper.set_model_props(model, {name: text for name, text in texts.items() if text})
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")
        part.ClearField("doc_string")
    graph.ClearField("value_info")
    for value in (*graph.input, *graph.output):
        _name_dimensions(value)


def _name_dimensions(value: Any) -> None:
    """Name the dynamic dimensions of an input or output; the content and the result share their names."""
    prefix = "" if value.name in ("content", "stylized") else f"{value.name}_"
    for axis, size in enumerate(value.type.tensor_type.shape.dim):
        if size.dim_param:
            size.dim_param = prefix + ("batch", "channels", "height", "width")[axis]


def _compare_with_pytorch(
    data: bytes, method: Method, content: Tensor, style: Tensor, options: GraphOptions
) -> tuple[float, float]:
    """Return the largest and the mean absolute difference to PyTorch in float32, see `export`.

    Args:
        data: The ONNX file.
        method: The method in float32.
        content: (1, 3, H, W), RGB in [0, 1].
        style: The same, of any size.
        options: What is built into the graph.
    """
    alpha = 0.7 if options.part == "whole" else 1.0
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    results = session.run(None, _feed(method, content, style, alpha, options))
    if options.part == "style-encoder":
        code = [part.numpy() for part in style_encoding.encode_style(method, style).values()]
        pairs = zip(results, code, strict=True)
        difference = np.concatenate([np.abs(result - part).ravel() / np.abs(part).max() for result, part in pairs])
    else:
        style_options: dict[str, Any] = {}
        if method.takes_style:
            style_options = {"style": style, "alpha": alpha, "alpha_blend": options.alpha_blend}
        difference = np.abs(results[0] - pipeline.stylize(content, method=method, **style_options).numpy())
    return float(difference.max()), float(difference.mean())
