"""The commands that compare methods: `adain grid`, `adain evaluate`, and `adain sweep`."""

from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentError, ArgumentParser

from adain.cli.stylize_command import SETTINGS, Settings, given, weights_of
from adain.inference.options import StyleOptions
from adain.utils.checks import did_you_mean

if TYPE_CHECKING:
    from adain.evaluation.grid import Variant


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
        work_size: Shorter side in pixels at which the network processes the contents, see stylize --help.
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
    """Evaluate methods on all pairs of two folders: distances to the style and the content, and run time.

    Args:
        content: Folder of content images, or one image; with --flicker, also videos.
        style: Folder of style images, or one image.
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
    of_protocol = given(contents=contents, styles=styles)
    _check_evaluation(protocol, {**of_protocol, **given(inception=inception)}, perceptual, tensorboard, flicker)
    if protocol:
        changes = {**of_protocol, **given(size=size)}
        return _evaluate_styleid(variants, content, style, output, changes, inception, device)
    if flicker:
        if size is not None:
            raise ValueError(f"Expected no --size with --flicker, got {size}; leave it out")
        from adain.evaluation.flicker import evaluate_videos

        table = evaluate_videos(names, content, style, output, alpha, alpha_blend, device, settings=own)
    else:
        pairs = all_pairs(content, style, output)
        table = evaluate(variants, pairs, output, device, perceptual, tensorboard, size=side)
    print(markdown(table), end="")
    return 0


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
        content: Folder of content images, or one image.
        style: Folder of style images, or one image.
        output: Folder for the results.
        pairs: Which contents get which styles: all for every content in every style; or a CSV file with the columns
            content and style.
        vary: Flags and the values to compare, such as {optimizer: [lbfgs, adam]}. Several flags form a grid, whose
            columns are the values of the last one.
        cases: Named sets of flags, such as {quick: {steps: 50, optimizer: adam}}, in place of --vary or in addition.
        method: Method whose flags vary; method, alpha, alpha_blend, size, style_size, work_size, regions, detail,
            precision, color, and photorealistic can vary too.
        alpha: Strength of the style, from 0 (the content) to 1.
        alpha_blend: How an alpha below 1 blends, see stylize --help.
        size: Shorter side of contents and results in pixels.
        style_size: Stroke size: shorter side of the style images in pixels, or content for that of the content.
        device: Device to use: auto, cpu, cuda, mps, or another one of torch.
        precision: Floating-point type of the network.
        settings: Settings of methods without weights.
    """
    from adain.evaluation.evaluate import check_outputs, evaluate
    from adain.evaluation.grid import Variant, all_pairs, images_of, listed_pairs
    from adain.evaluation.report import markdown
    from adain.evaluation.sweep import variations

    options = StyleOptions(alpha=alpha, alpha_blend=alpha_blend, style_size=style_size)
    base = Variant("", method, {}, options, size, precision)
    variants = [_checked(variant) for variant in variations(base, vary or {}, cases or {}, settings or {})]
    if pairs == "all":
        chosen_pairs = all_pairs(content, style, output)
    else:
        chosen_pairs = listed_pairs(content, style, pairs)
        check_outputs(Path(output), variants, [pairs, *images_of(content, output), *images_of(style, output)])
    columns = None
    if vary:
        last = list(vary.values())[-1]
        columns = len(last)
    print(markdown(evaluate(variants, chosen_pairs, output, device, memory=False, columns=columns)), end="")
    return 0


def _checked(variant: "Variant") -> "Variant":
    """Return the variant with its settings converted to their types.

    Raises:
        ValueError: A setting has another type, or is not one of the method's.
    """
    from adain.evaluation.sweep import FIXED_OPTIONS, VARIANT_FIELDS
    from adain.methods import METHODS

    if variant.method not in SETTINGS:
        return variant
    parser = ArgumentParser(exit_on_error=False)
    own = parser.add_class_arguments(METHODS[variant.method], skip={"callback"})
    for name in variant.settings:
        if name not in own:
            options = {field.name for field in fields(StyleOptions)} - {*FIXED_OPTIONS}
            raise ValueError(f"unknown option {name}{did_you_mean(name, [*VARIANT_FIELDS, *sorted(options), *own])}")
    try:
        return replace(variant, settings=parser.parse_object(dict(variant.settings)).as_dict())
    except ArgumentError as error:
        raise ValueError(f"{variant.label}: {error}") from error
