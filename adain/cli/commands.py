"""The commands of `adain`: typed functions, whose signatures are the flags and whose docstrings are the help."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentError, ArgumentParser

from adain.cli.stylize_command import SETTINGS, Settings, stylize, weights_of
from adain.inference.options import StyleOptions

if TYPE_CHECKING:
    from adain.evaluation.grid import Variant


def encode_style(
    style: list[str],
    output: str,
    method: str = "adain",
    checkpoint: str | None = None,
    style_size: int | None = None,
    style_weight: list[float] | None = None,
    settings: Settings | None = None,
) -> int:
    """Keep a style, or a mixture of several, as a small file that --style takes in its place.

    Args:
        style: the pictures.
        output: the file to write, ending in .safetensors.
        method: whose code it is to be.
        checkpoint: a file of weights to use instead of the method's embedded ones.
        style_size: shorter side that each style is brought to, in pixels.
        style_weight: share of each of several styles, of any sum; by default even.
        settings: of a method without weights.
    """
    from adain.inference import preparation, style_encoding
    from adain.methods import style_codes

    # In float32: a code serves every precision.
    ready = preparation.prepare(checkpoint or method, "cpu", "fp32", **(settings or {}).get(method, {}))
    style_codes.save_code(style_encoding.encode_style(ready, style, style_size, style_weight), ready, output)
    print(output)
    return 0


def grid(
    content: str,
    style: str,
    output: str,
    method: str = "adain",
    checkpoint: str | None = None,
    alpha: float = 1.0,
    alpha_blend: Literal["residual", "features"] = "residual",
    size: int | None = None,
    style_size: int | None = None,
    color: Literal["style", "keep-luminance", "coral"] = "style",
    work_size: int | Literal["content"] | None = None,
    detail: float = 0.0,
    device: str = "auto",
    sheet: str | None = None,
    settings: Settings | None = None,
) -> int:
    """Stylize every image of a folder in every style of another, and write a contact sheet of all results.

    Args:
        content: folder of content images.
        style: folder of style images.
        output: folder to write the results to.
        method: a method's name, or a file of weights.
        checkpoint: a file of weights to use instead of the method's embedded ones.
        alpha: strength of the style, from 0 (the photo) to 1.
        alpha_blend: how alpha below 1 blends, as of stylize.
        size: shorter side of the results in pixels; by default each content's.
        style_size: shorter side that the styles are brought to, in pixels.
        color: which colors the results have, as of stylize.
        work_size: shorter side in pixels at which the network sees the contents, as of stylize.
        detail: how much of the contents' fine luminance detail is kept, as of stylize.
        device: as of stylize.
        sheet: file to write the contact sheet to; by default sheet.png in the output folder.
        settings: of methods without weights.
    """
    from adain.evaluation.grid import Variant, write_grid

    options = StyleOptions(
        alpha=alpha,
        alpha_blend=alpha_blend,
        style_size=style_size,
        color=color,
        work_size=work_size,
        detail=detail,
    )
    own = (settings or {}).get(method, {})
    variant = Variant(method, weights_of(method, checkpoint), own, options, size)
    print(write_grid(variant, content, style, output, device, sheet))
    return 0


def evaluate(
    content: str,
    style: str,
    output: str,
    method: list[str] | None = None,
    alpha: float = 1.0,
    alpha_blend: Literal["residual", "features"] = "residual",
    device: str = "auto",
    perceptual: bool = False,
    tensorboard: bool = False,
    flicker: bool = False,
    protocol: Literal["styleid"] | None = None,
    inception: str | None = None,
    contents: int | None = None,
    styles: int | None = None,
    size: int | None = None,
    settings: Settings | None = None,
) -> int:
    """Judge methods on every pair of two folders: how much style (S, G), how much content (C, SSIM), how long.

    Args:
        content: folder of contents.
        style: folder of styles.
        output: folder to write the figures, the table and the contact sheet to.
        method: names of methods, files of weights, or folders of results that were painted before, named as grid
            names them; by default adain.
        alpha: strength of the style, from 0 (the photo) to 1.
        alpha_blend: how alpha below 1 blends, as of stylize.
        device: as of stylize.
        perceptual: FID and ArtFID too; downloads their network once.
        tensorboard: the means and the sheet as events in the output folder too.
        flicker: judge videos, painted frame by frame and steadily: those in content, and from its pictures generated
            ones, whose motion is known.
        protocol: evaluate as a paper does, instead of the metrics above. styleid (Chung et al., CVPR 2024): 20 contents
            in 40 styles, center crops of 512 px; LPIPS, FID, ArtFID, and CFSD, lower is better for all.
        inception: file with Inception weights for the protocol's FID and ArtFID; they are left out without it.
        contents: number of contents in the protocol, the first by name (default: the paper's).
        styles: number of styles in the protocol, the first by name (default: the paper's).
        size: pixels a side in the protocol (default: the paper's).
        settings: of methods without weights.
    """
    from adain.evaluation.evaluate import evaluate
    from adain.evaluation.grid import Variant
    from adain.evaluation.metrics import EVAL_SIZE
    from adain.evaluation.report import markdown

    names, own = method or ["adain"], settings or {}
    options = StyleOptions(alpha=alpha, alpha_blend=alpha_blend, style_size=EVAL_SIZE)
    variants = [Variant(name, name, own.get(name, {}), options, EVAL_SIZE) for name in names]
    flags = {"contents": contents, "styles": styles, "size": size}
    changes = {name: value for name, value in flags.items() if value is not None}
    if protocol:
        if perceptual or tensorboard or flicker:
            raise ValueError("Expected --protocol without --perceptual, --tensorboard, and --flicker; leave these out")
        return _evaluate_styleid(variants, content, style, output, changes, inception, device)
    if changes or inception:
        given = ", ".join(f"--{name}" for name in (*changes, *(["inception"] if inception else [])))
        raise ValueError(f"Expected --protocol styleid with {given}, got none; add it, or leave them out")
    if flicker:
        if perceptual or tensorboard:
            raise ValueError("Expected --flicker without --perceptual and --tensorboard; leave these out")
        from adain.evaluation.flicker import evaluate_videos

        table = evaluate_videos(names, content, style, output, alpha, alpha_blend, device, settings=own)
        print(markdown(table), end="")
        return 0
    print(markdown(evaluate(variants, content, style, output, device, perceptual, tensorboard)), end="")
    return 0


def _evaluate_styleid(
    variants: "list[Variant]",
    content: str,
    style: str,
    output: str,
    changes: dict[str, int],
    inception: str | None,
    device: str,
) -> int:
    """Print the table of `adain.evaluation.protocol.evaluate_styleid`, and what is missing."""
    from adain.evaluation.inception import InceptionFeatures
    from adain.evaluation.protocol import MISSING_INCEPTION, Protocol, evaluate_styleid
    from adain.evaluation.report import markdown

    network = InceptionFeatures(inception) if inception else None
    table = evaluate_styleid(variants, content, style, output, Protocol(**changes), network, device)
    print(markdown(table), end="")
    if not network:
        print(MISSING_INCEPTION)
    return 0


def sweep(
    content: str,
    style: str,
    output: str,
    vary: dict[str, list[Any]] | None = None,
    cases: dict[str, dict[str, Any]] | None = None,
    method: str = "gatys",
    alpha: float = 1.0,
    alpha_blend: Literal["residual", "features"] = "residual",
    size: int = 256,
    style_size: int | Literal["content"] = 256,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    settings: Settings | None = None,
) -> int:
    """Run a method over values of its flags: a labeled contact sheet, figures, losses and their curves.

    Args:
        content: folder of contents.
        style: folder of styles.
        output: folder to write to.
        vary: values by flag, {optimizer: [lbfgs, adam]}; several flags make a grid, the last one across.
        cases: or flags by label, {quick: {steps: 50, optimizer: adam}}.
        method: whose flags they are; method, alpha, alpha_blend, size, style_size, work_size, detail, precision,
            color and photorealistic can vary too.
        alpha: strength of the style, from 0 (the photo) to 1.
        alpha_blend: how alpha below 1 blends, as of stylize.
        size: shorter side of contents and results in pixels.
        style_size: of the styles.
        device: as of stylize.
        precision: of the network's arithmetic.
        settings: of methods without weights.
    """
    from adain.evaluation.evaluate import evaluate
    from adain.evaluation.grid import Variant
    from adain.evaluation.report import markdown
    from adain.evaluation.sweep import variations

    options = StyleOptions(alpha=alpha, alpha_blend=alpha_blend, style_size=style_size)
    base = Variant("", method, {}, options, size, precision)
    variants = [_checked(variant) for variant in variations(base, vary or {}, cases or {}, settings or {})]
    columns = None
    if vary:
        last = list(vary.values())[-1]
        columns = len(last)
    print(markdown(evaluate(variants, content, style, output, device, memory=False, columns=columns)), end="")
    return 0


def _checked(variant: "Variant") -> "Variant":
    """The variant with its settings converted to their types.

    Raises:
        ValueError: A setting has another type, or is not one of the method's.
    """
    from adain.methods import METHODS

    if variant.method not in SETTINGS:
        return variant
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(METHODS[variant.method], skip={"callback"})
    try:
        return replace(variant, settings=parser.parse_object(dict(variant.settings)).as_dict())
    except ArgumentError as error:
        raise ValueError(f"{variant.label}: {error}") from error


def convert(source: str, output: str) -> int:
    """Turn a training run's checkpoint into a small safetensors file that carries its own arguments and recipe.

    Args:
        source: a checkpoint of a run (last.ckpt), or the decoder.pth of naoto0804/pytorch-AdaIN.
        output: the file to write, ending in .safetensors.
    """
    from adain.methods.weights import convert

    convert(source, output)
    print(output)
    return 0


def serve(
    host: str = "127.0.0.1",
    port: int = 7860,
    method: str = "adain",
    device: str = "auto",
    max_pixels: int = 64 * 1024**2,
    max_upload: float = 32,
    queue: int = 16,
) -> int:
    """Serve a web page to paint on, until Ctrl-C.

    Args:
        host: the address to listen on; by default this computer only, 0.0.0.0 for all that can reach it.
        port: of the address; 0 for any that is free.
        method: which the page starts with.
        device: as of stylize.
        max_pixels: of an upload, and of a result; more are refused.
        max_upload: size of a file in MiB; larger ones are refused.
        queue: how many paintings may wait; more are refused.
    """
    from adain.deploy.web.server import serve

    serve(host, port, method, device, max_pixels, max_upload, queue)
    return 0


def export(
    output: str,
    method: str = "adain",
    checkpoint: str | None = None,
    format: Literal["onnx"] = "onnx",
    style: Literal["picture", "code"] = "picture",
    precision: Literal["fp32", "fp16", "int8"] = "fp32",
    calibration: list[str] | None = None,
    alpha_blend: Literal["residual", "features"] = "residual",
) -> int:
    """Write a method as an ONNX file, which paints without PyTorch: pictures of any size, styles and alpha in.

    Args:
        output: the file to write, ending in .onnx.
        method: adain, adain-lite, adaconv or johnson, with its embedded weights.
        checkpoint: a file of weights to use instead of the method's embedded ones.
        format: the only one so far.
        style: whether it takes the style as a picture, or as the tensors of a style code (see encode-style).
        precision: of weights and arithmetic; statistics are float32 in all.
        calibration: for int8, a folder of contents and one of styles, from which it learns the ranges of values.
        alpha_blend: how alpha below 1 blends, as of stylize; built into the file.
    """
    from adain.deploy.onnx_export import export

    largest, mean = export(output, checkpoint or method, style, precision, calibration, alpha_blend)
    size = Path(output).stat().st_size / 1e6
    print(f"{output}: {size:.1f} MB; values in [0, 1] are within {largest:.1g} of PyTorch's, {mean:.1g} on average")
    return 0


COMMANDS: dict[str, Callable[..., int]] = {
    "stylize": stylize,
    "encode-style": encode_style,
    "grid": grid,
    "evaluate": evaluate,
    "sweep": sweep,
    "convert": convert,
    "export": export,
    "serve": serve,
}
