"""The commands of `adain`: typed functions, whose signatures give the flags and whose docstrings give the help."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentError, ArgumentParser

from adain.cli.dataset_command import stylize_dataset
from adain.cli.list_command import list_all
from adain.cli.stylize_command import SETTINGS, Settings, report_failures, stylize, weights_of
from adain.inference.options import StyleOptions

if TYPE_CHECKING:
    from adain.evaluation.grid import Variant
    from adain.methods import Method


def encode_style(
    style: list[str],
    output: str,
    method: str = "adain",
    checkpoint: str | None = None,
    style_size: int | None = None,
    style_weight: list[float] | None = None,
    limit: int | None = None,
    quiet: bool = False,
    settings: Settings | None = None,
) -> int:
    """Encode a style, or a mixture of several, to a small file that --style takes instead of an image.

    A folder of styles is encoded to a bank, from which adain.RandomStyle draws.

    Args:
        style: Style images; or one folder of them, which gives a bank of styles for adain.RandomStyle.
        output: File to write, ending in .safetensors.
        method: Method whose code to write.
        checkpoint: File of weights to use instead of the method's embedded ones.
        style_size: Stroke size: shorter side of each style image in pixels (default: its own, at most 1024; 256 for a
            folder).
        style_weight: Share of each of several styles, of any sum (default: equal shares).
        limit: Most styles of a folder to store (default: all).
        quiet: Print only errors.
        settings: Settings of methods without weights.
    """
    from adain.inference import preparation, style_encoding
    from adain.methods import style_codes

    # In float32: a code serves every precision.
    ready = preparation.prepare(checkpoint or method, "cpu", "fp32", **(settings or {}).get(method, {}))
    if any(Path(name).is_dir() for name in style):
        return _encode_folder(ready, style, output, style_size, style_weight, limit, quiet)
    if limit is not None:
        raise ValueError(f"Expected a folder of styles with --limit, got {style[0]}; leave out --limit")
    style_codes.save_code(style_encoding.encode_style(ready, style, style_size, style_weight), ready, output)
    if not quiet:
        print(output)
    return 0


def _encode_folder(
    method: "Method",
    style: list[str],
    output: str,
    style_size: int | None,
    style_weight: list[float] | None,
    limit: int | None,
    quiet: bool,
) -> int:
    """Write the bank of a folder of styles."""
    from adain.augmentation.bank_building import build_bank
    from adain.augmentation.style_bank import check_suffix, save_bank

    if len(style) > 1:
        raise ValueError(f"Expected one folder of styles, or images only, got {len(style)} folders and images")
    if style_weight is not None:
        raise ValueError("Expected no --style-weight with a folder, whose styles are not mixed; leave it out")
    check_suffix(output)
    failures: list[str] = []
    changes = _given(style_size=style_size)
    bank = build_bank(style[0], method, limit=limit, quiet=quiet, report=failures.append, **changes)
    save_bank(bank, output)
    if not quiet:
        print(f"{output}: {len(bank)} styles")
    return report_failures(failures)


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
        content: Folder of content images.
        style: Folder of style images.
        output: Folder for the results.
        method: Name of a method, or a file of weights.
        checkpoint: File of weights to use instead of the method's embedded ones.
        alpha: Strength of the style, from 0 (the content) to 1.
        alpha_blend: How an alpha below 1 blends, see stylize --help.
        size: Shorter side of the results in pixels (default: that of each content).
        style_size: Stroke size: shorter side of the style images in pixels (default: their own, at most 1024).
        color: Which colors the results have, see stylize --help.
        work_size: Shorter side in pixels at which the network sees the contents, see stylize --help.
        detail: Share of the stylized luminance detail that is replaced by the contents', from 0 to 1.
        device: Device to use: auto, cpu, cuda, mps, or another one of torch.
        sheet: File of the contact sheet (default: sheet.png in the output folder).
        settings: Settings of methods without weights.
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
    """Evaluate methods on every pair of two folders: distance to the style (S, G) and the content (C, SSIM), and time.

    Args:
        content: Folder of contents.
        style: Folder of styles.
        output: Folder for the metrics, the table, and the contact sheet.
        method: Names of methods, files of weights, or folders of results that were made before, named as grid names
            them (default: adain).
        alpha: Strength of the style, from 0 (the content) to 1.
        alpha_blend: How an alpha below 1 blends, see stylize --help.
        device: Device to use: auto, cpu, cuda, mps, or another one of torch.
        perceptual: Add FID and ArtFID, whose network is downloaded once.
        tensorboard: Also write the means and the sheet as TensorBoard events to the output folder.
        flicker: Evaluate videos, stylized frame by frame and with temporal stability: those in content, and clips that
            are generated from its images, whose motion is known.
        protocol: Evaluate as a paper does, instead of with the metrics above. styleid (Chung et al., CVPR 2024): 20
            contents in 40 styles, center crops of 512 px; LPIPS, FID, ArtFID, and CFSD, lower is better for all.
        inception: File of Inception weights for the FID and ArtFID of the protocol, which are left out without it.
        contents: Number of contents in the protocol, the first ones by name (default: that of the paper).
        styles: Number of styles in the protocol, the first ones by name (default: that of the paper).
        size: Shorter side of the images in pixels (default: 256); for a protocol, their side (default: that of the
            paper). Not for videos.
        settings: Settings of methods without weights.
    """
    from adain.evaluation.evaluate import evaluate
    from adain.evaluation.grid import Variant, all_pairs
    from adain.evaluation.metrics import EVAL_SIZE
    from adain.evaluation.report import markdown

    names = method or ["adain"]
    own = settings or {}
    side = EVAL_SIZE if size is None else size
    options = StyleOptions(alpha=alpha, alpha_blend=alpha_blend, style_size=side)
    variants = [Variant(name, name, own.get(name, {}), options, side) for name in names]
    of_protocol = _given(contents=contents, styles=styles)
    _check_evaluation(protocol, {**of_protocol, **_given(inception=inception)}, perceptual, tensorboard, flicker)
    if protocol:
        changes = {**of_protocol, **_given(size=size)}
        return _evaluate_styleid(variants, content, style, output, changes, inception, device)
    if flicker:
        if size is not None:
            raise ValueError(f"Expected no --size with --flicker, got {size}; leave it out")
        from adain.evaluation.flicker import evaluate_videos

        table = evaluate_videos(names, content, style, output, alpha, alpha_blend, device, settings=own)
    else:
        pairs = all_pairs(content, style)
        table = evaluate(variants, pairs, output, device, perceptual, tensorboard, size=side)
    print(markdown(table), end="")
    return 0


def _given(**flags: Any) -> dict[str, Any]:
    return {name: value for name, value in flags.items() if value is not None}


def _check_evaluation(
    protocol: str | None, of_protocol: dict[str, Any], perceptual: bool, tensorboard: bool, flicker: bool
) -> None:
    """Raise ValueError for flags of `evaluate` that do not go together; `of_protocol` are those of a protocol only."""
    if protocol and (perceptual or tensorboard or flicker):
        raise ValueError("Expected --protocol without --perceptual, --tensorboard, and --flicker; leave these out")
    if of_protocol and not protocol:
        names = ", ".join(f"--{name}" for name in of_protocol)
        raise ValueError(f"Expected --protocol styleid with {names}, got none; add it, or leave them out")
    if flicker and (perceptual or tensorboard):
        raise ValueError("Expected --flicker without --perceptual and --tensorboard; leave these out")


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
    pairs: str = "all",
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
    """Compare values of a method's flags: a labeled contact sheet, metrics, losses, and their curves.

    Args:
        content: Folder of contents.
        style: Folder of styles.
        output: Folder for the results.
        pairs: Which contents get which styles: all for every content in every style; or a CSV file with the columns
            content and style.
        vary: Values by flag, such as {optimizer: [lbfgs, adam]}; several flags make a grid, with the last one across.
        cases: Flags by label, such as {quick: {steps: 50, optimizer: adam}}, instead of or besides --vary.
        method: Method whose flags vary; method, alpha, alpha_blend, size, style_size, work_size, detail, precision,
            color, and photorealistic can vary too.
        alpha: Strength of the style, from 0 (the content) to 1.
        alpha_blend: How an alpha below 1 blends, see stylize --help.
        size: Shorter side of contents and results in pixels.
        style_size: Stroke size: shorter side of the style images in pixels, or content for that of the content.
        device: Device to use: auto, cpu, cuda, mps, or another one of torch.
        precision: Floating-point type of the network.
        settings: Settings of methods without weights.
    """
    from adain.evaluation.evaluate import evaluate
    from adain.evaluation.grid import Variant, all_pairs, listed_pairs
    from adain.evaluation.report import markdown
    from adain.evaluation.sweep import variations

    options = StyleOptions(alpha=alpha, alpha_blend=alpha_blend, style_size=style_size)
    base = Variant("", method, {}, options, size, precision)
    variants = [_checked(variant) for variant in variations(base, vary or {}, cases or {}, settings or {})]
    chosen_pairs = all_pairs(content, style) if pairs == "all" else listed_pairs(content, style, pairs)
    columns = None
    if vary:
        last = list(vary.values())[-1]
        columns = len(last)
    print(markdown(evaluate(variants, chosen_pairs, output, device, memory=False, columns=columns)), end="")
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
    """Convert a checkpoint of a training run to a small safetensors file with its arguments and recipe.

    Args:
        source: Checkpoint of a run (last.ckpt), or the decoder.pth of naoto0804/pytorch-AdaIN.
        output: File to write, ending in .safetensors.
    """
    from adain.methods.weights import convert

    convert(source, output)
    print(output)
    return 0


def prepare_data(
    source: str,
    output: str,
    size: int = 512,
    quality: int = 90,
    split: str = "train",
    column: str = "image",
    streaming: bool = False,
    workers: int = 4,
    quiet: bool = False,
) -> int:
    """Convert a folder of images or a dataset to parquet files for training, which are read several times as fast.

    Args:
        source: Folder of images, local dataset, or name of a dataset on the Hugging Face Hub.
        output: Folder to write, which --data.content and --data.style of train take. To continue an interrupted run,
            repeat the command.
        size: Shorter side in pixels to which images are resized: the largest --data.size of the training.
        quality: JPEG quality, from 1 to 95.
        split: Split of a dataset from the Hub.
        column: Column of a dataset that holds the images.
        streaming: Read a dataset as a stream, without a copy on disk.
        workers: Number of threads that convert images.
        quiet: Show no progress.
    """
    from adain.training.prepare import Settings, prepare

    found = prepare(Settings(source, split, column, size, quality), Path(output), streaming, workers, quiet)
    print(f"{output}: {found.images} images, {found.bytes / 1e6:.1f} MB")
    return report_failures(found.failures)


def serve(
    host: str = "127.0.0.1",
    port: int = 7860,
    method: str = "adain",
    device: str = "auto",
    max_pixels: int = 64 * 1024**2,
    max_upload: float = 32,
    queue: int = 16,
    styles: str | None = None,
    api: bool = False,
) -> int:
    """Serve a web page that stylizes images, until Ctrl-C.

    Args:
        host: Address to listen on (default: this computer only; 0.0.0.0 for everyone in the network).
        port: Port to listen on; 0 for any free one.
        method: Method that is selected at first.
        device: Device to use: auto, cpu, cuda, mps, or another one of torch.
        max_pixels: Most pixels of an upload or a result; larger ones are refused.
        max_upload: Largest file in MiB; larger ones are refused.
        queue: Most requests that wait; further ones are refused.
        styles: Folder of styles to choose from, besides the examples.
        api: Serve the HTTP API, too: a POST to /api/stylize returns a stylized image.
    """
    from adain.deploy.web.server import serve

    serve(host, port, method, device, max_pixels, max_upload, queue, styles, api)
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
    part: Literal["whole", "style-encoder", "stylizer"] = "whole",
) -> int:
    """Export a method as an ONNX file, which stylizes images of any size, in any style and strength, without PyTorch.

    Args:
        output: File to write, ending in .onnx.
        method: Method to export: adain, adain-lite, adaconv, or johnson, with its embedded weights.
        checkpoint: File of weights to use instead of the method's embedded ones.
        format: Format of the file.
        style: Whether the model takes the style as an image, or as the tensors of a style code (see encode-style).
        precision: Type of the weights and the computation; statistics are float32 in all cases.
        calibration: For int8, a folder of contents and one of styles, from which the ranges of values are measured.
        alpha_blend: How an alpha below 1 blends, see stylize --help; fixed in the file.
        part: What to export: the whole method; its style encoder, from a style image to a style code; or the stylizer,
            from a content and a style code to the result at full strength.
    """
    from adain.deploy.onnx_export import export

    largest, mean = export(output, checkpoint or method, style, precision, calibration, alpha_blend, part)
    size = Path(output).stat().st_size / 1e6
    print(f"{output}: {size:.1f} MB; results in [0, 1] are within {largest:.1g} of PyTorch's, {mean:.1g} on average")
    return 0


COMMANDS: dict[str, Callable[..., int]] = {
    "stylize": stylize,
    "stylize-dataset": stylize_dataset,
    "encode-style": encode_style,
    "grid": grid,
    "evaluate": evaluate,
    "sweep": sweep,
    "convert": convert,
    "export": export,
    "prepare-data": prepare_data,
    "serve": serve,
    "list": list_all,
}
