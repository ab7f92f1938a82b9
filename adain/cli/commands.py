"""The commands of `adain`: typed functions, whose signatures give the flags and whose docstrings give the help."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from adain.cli.dataset_command import stylize_dataset
from adain.cli.evaluation_commands import evaluate, grid, sweep
from adain.cli.list_command import list_all
from adain.cli.stylize_command import Settings, given, report_failures, stylize, weights_of

if TYPE_CHECKING:
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
        limit: Largest number of styles of a folder to store (default: all).
        quiet: Print only errors.
        settings: Settings of methods without weights.
    """
    from adain.inference import preparation, style_encoding
    from adain.methods import style_codes
    from adain.utils.files import check_not_inputs

    weights = weights_of(method, checkpoint)
    check_not_inputs([output], [*style, weights])
    # In float32: a code serves every precision.
    ready = preparation.prepare(weights, "cpu", "fp32", **(settings or {}).get(method, {}))
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
    changes = given(style_size=style_size)
    bank = build_bank(style[0], method, limit=limit, quiet=quiet, report=failures.append, **changes)
    save_bank(bank, output)
    if not quiet:
        print(f"{output}: {len(bank)} styles")
    return report_failures(failures)


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
        max_pixels: Largest number of pixels of an upload or a result; larger ones are refused.
        max_upload: Largest file in MiB; larger ones are refused.
        queue: Largest number of waiting requests; further ones are refused.
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
        calibration: Folder of contents and folder of styles, to calibrate the value ranges of int8.
        alpha_blend: How an alpha below 1 blends, see stylize --help; fixed in the file.
        part: What to export: the whole method; its style encoder, from a style image to a style code; or the stylizer,
            from a content and a style code to the result at full strength.
    """
    from adain.deploy.onnx_export import export

    largest, mean = export(output, weights_of(method, checkpoint), style, precision, calibration, alpha_blend, part)
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
