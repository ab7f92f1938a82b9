"""The commands of `adain`: typed functions, whose signatures are the flags and whose docstrings are the help."""

import sys
from collections.abc import Callable, Container, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse import ArgumentError, ArgumentParser

from adain import clips

if TYPE_CHECKING:
    from adain.grid import Case

STANDARD = "-"
"""Standard input or output in place of a file."""

SETTINGS = ("style-swap", "wct", "gatys")
"""Methods without weights, whose constructors' arguments are flags: --gatys.steps 100."""

Settings = dict[str, dict[str, Any]]
"""Such arguments, by method."""

# torch is imported by the functions that need it, so that help and wrong usage answer at once.


def stylize(
    content: list[str],
    style: list[str] | None = None,
    output: str | None = None,
    method: str = "adain",
    checkpoint: str | None = None,
    alpha: list[float] | None = None,
    size: int | None = None,
    style_size: int | Literal["content"] | None = None,
    style_weight: list[float] | None = None,
    mask: list[str] | None = None,
    feather: float = 0.0,
    color: Literal["style", "keep-luminance", "coral"] = "style",
    photorealistic: bool = False,
    tile: int | None = None,
    max_memory: float | None = None,
    max_pixels: int | None = None,
    truncated: bool = False,
    pairs: str | None = None,
    workers: int = 2,
    steady: float | None = None,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    log: str | None = None,
    snapshot_every: int = 0,
    seed: int = 0,
    quiet: bool = False,
    settings: Settings | None = None,
) -> int:
    """Paint pictures, or videos, in the style of another picture.

    Args:
        content: the pictures or videos to paint; - for standard input; or a folder of pictures, see pairs.
        style: the picture whose style they take, or a file that encode-style wrote; several are mixed; none for
            johnson.
        output: the file to write, - for standard output, or a folder if the name has no suffix; by default
            CONTENT__STYLE.png beside each content. A video is written as .mp4, .m4v, .mov, .mkv, .webm or .gif, by
            default as it was, or as .mp4.
        method: the kind of network, with its embedded weights; or gatys, whose own settings --method gatys --help
            tells.
        checkpoint: a file of weights to use instead of the method's embedded ones.
        alpha: strength of the style, 0 to 1, by default 1; one, or one for each style.
        size: shorter side of the result in pixels; by default the content's.
        style_size: shorter side that the style is brought to, in pixels, or content for the content's; larger
            makes coarser strokes; by default its own, at most 1024.
        style_weight: share of each of several styles, of any sum; by default even.
        mask: a picture for each style, white where it is painted; elsewhere the content stays as it is.
        feather: pixels over which the masks are softened.
        color: style takes the style's colours; keep-luminance keeps the content's; coral first gives the style the
            content's.
        photorealistic: smooth the result along the content's edges, so that straight lines stay straight.
        tile: pixels a side painted at a time, with the statistics of the whole picture; by default as memory allows.
        max_memory: GiB that this may take; large pictures are painted faster in more memory than the 1 GiB that
            painting takes by default.
        max_pixels: of a picture, more are refused; by default 512 million.
        truncated: use what there is of truncated pictures instead of refusing them.
        pairs: for folders as content and style: all paints every content in every style; random each in one, drawn by
            its name and the seed; a CSV file has columns content, style and, if wanted, alpha. By default all. What is
            there from an earlier run is not painted again.
        workers: processes that read the pictures of a folder.
        steady: of a video, how much is carried over from frame to frame along the motion, 0 to 1, by default 0.8; 0
            paints each frame on its own, and flickers.
        device: auto, cpu, cuda, mps, or any other that torch knows.
        precision: of the network's arithmetic; auto is bf16 where it is fast and within 1/255, else fp32.
        log: folder for what an optimisation (gatys) records: losses as CSV, curves and events, snapshots.
        snapshot_every: steps of an optimisation between snapshots of it; 0 for none.
        seed: of whatever is drawn at random.
        quiet: print nothing but errors.
        settings: of a method without weights.
    """
    if checkpoint and method in SETTINGS:
        raise ValueError(f"{method} has no weights to take from {checkpoint}; leave --checkpoint or --method out")
    own = dict((settings or {}).get(method, {}))
    reading = _given(max_pixels=max_pixels, truncated=truncated)
    look = _given(style_size=style_size, color=color, photorealistic=photorealistic, tile=tile, max_memory=max_memory)
    parts = _given(style_weight=style_weight, mask=mask, feather=feather or None)
    if len(content) == 1 and Path(content[0]).is_dir():
        wrong = [*parts, *_given(log=log, snapshot_every=snapshot_every or None, steady=steady)]
        if wrong or len(style or [""]) > 1 or len(alpha or [1]) > 1:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in wrong) or "one style and alpha for each"
            raise ValueError(f"a folder of contents takes no {names}, but a folder of styles, or --pairs FILE.csv")
        if output is None or output == STANDARD or (Path(output).suffix and not Path(output).is_dir()):
            raise ValueError("a folder of contents needs a folder to write to; name it with --output")
        from adain.folder import paint_folder

        run = {"size": size, "workers": workers, "seed": seed, "device": device, "precision": precision, "quiet": quiet}
        flags = {**look, **reading, **run, **own, **({"alpha": alpha[0]} if alpha else {})}
        folders = content[0], style[0] if style else None, output, pairs or "all", checkpoint or method
        return _report([f"{path}: {reason}" for path, reason in paint_folder(*folders, **flags)])
    if pairs:
        raise ValueError("--pairs is for a folder as the content and another as the style")
    moving = clips.videos(content, output)
    if steady is not None and not moving:
        raise ValueError("--steady is for videos; name one as --content, or leave it out")
    jobs = plan_outputs(content, style or [], output, Path(checkpoint or method).stem, mask or [], moving)
    import torch

    from adain import images, inference
    from adain.methods import METHODS
    from adain.watch import Watch

    options = look | parts | _given(alpha=alpha)
    iterative = [name for name, kind in METHODS.items() if kind.iterative]
    if (log or snapshot_every) and method not in iterative:
        raise ValueError(f"{method} paints in one pass; --log and --snapshot-every are for {', '.join(iterative)}")
    torch.manual_seed(seed)
    failures: list[OSError] = []
    with Watch(log, snapshot_every, quiet) if method in iterative else nullcontext() as watch:
        if watch:
            own |= {"seed": seed, "callback": watch}
        ready = inference.prepare(checkpoint or method, device, precision, **own)
        given: Any = style
        if style and not (mask or style_size == "content" or color == "coral" or (alpha and len(alpha) > 1)):
            once = options.pop("style_size", None), options.pop("style_weight", None)
            given = inference.encode_style(ready, style, *once)
        for source, target in jobs.items():
            if watch and watch.stopped:
                failures.append(OSError(f"{source} was not painted"))
                continue
            if watch:
                watch.name = source.stem
            try:
                if str(source) in moving:
                    from adain.video import stylize_video

                    flags = options | reading | _given(steady=steady, size=size)
                    stylize_video(source, given, target, ready, quiet=quiet, **flags)
                else:
                    painted = inference.stylize(images.load(source, size, **reading), given, ready, **options)
                    images.save(painted.pixels, target, like=painted)
            except OSError as error:
                failures.append(error)
                continue
            if not quiet and str(target) != STANDARD:
                print(target)
    if len(failures) == len(jobs):
        raise failures[0]
    return _report(failures)


def _given(**flags: Any) -> dict[str, Any]:
    """The flags that were given; the rest have their defaults where they are used."""
    return {name: value for name, value in flags.items() if value is not None}


def _report(failures: Sequence[object]) -> int:
    """Print what went wrong; the exit code."""
    for failure in failures:
        print(f"adain: {failure}", file=sys.stderr)
    return 1 if failures else 0


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
    from adain import inference, weights

    # In float32: a code serves every precision.
    ready = inference.prepare(checkpoint or method, "cpu", "fp32", **(settings or {}).get(method, {}))
    weights.save_code(inference.encode_style(ready, style, style_size, style_weight), ready, output)
    print(output)
    return 0


def grid(
    content: str,
    style: str,
    output: str,
    method: str = "adain",
    alpha: float = 1.0,
    size: int | None = None,
    style_size: int | None = None,
    settings: Settings | None = None,
) -> int:
    """Paint every picture of a folder in every style of another, with a contact sheet of them all.

    Args:
        content: folder of contents.
        style: folder of styles.
        output: folder to write to; the sheet is sheet.png in it.
        method: a method's name, or a file of weights.
        alpha: strength of the style, 0 to 1.
        size: shorter side of the results in pixels; by default each content's.
        style_size: shorter side that the styles are brought to, in pixels.
        settings: of methods without weights.
    """
    from adain.grid import Case, write_grid

    case = Case(method, method, (settings or {}).get(method, {}), alpha, size, style_size)
    print(write_grid(case, content, style, output))
    return 0


def evaluate(
    content: str,
    style: str,
    output: str,
    method: list[str] | None = None,
    alpha: float = 1.0,
    device: str = "auto",
    perceptual: bool = False,
    tensorboard: bool = False,
    flicker: bool = False,
    settings: Settings | None = None,
) -> int:
    """Judge methods on every pair of two folders: how much style (S, G), how much content (C, SSIM), how long.

    Args:
        content: folder of contents.
        style: folder of styles.
        output: folder to write the figures, the table and the contact sheet to.
        method: names of methods, files of weights, or folders of results that were painted before, named as grid
            names them; by default adain.
        alpha: strength of the style, 0 to 1.
        device: as of stylize.
        perceptual: LPIPS, FID and ArtFID too; downloads their networks once.
        tensorboard: the means and the sheet as events in the output folder too.
        flicker: judge videos, painted frame by frame and steadily: those in content, and from its pictures generated
            ones, whose motion is known.
        settings: of methods without weights.
    """
    from adain.grid import Case, evaluate, markdown
    from adain.metrics import SIDE

    own = settings or {}
    if flicker:
        if perceptual or tensorboard or own:
            raise ValueError("--flicker goes with neither --perceptual nor --tensorboard, nor with a method's settings")
        from adain.flicker import evaluate_videos

        print(markdown(evaluate_videos(method or ["adain"], content, style, output, alpha, device)), end="")
        return 0
    cases = [Case(name, name, own.get(name, {}), alpha, SIDE, SIDE) for name in method or ["adain"]]
    print(markdown(evaluate(cases, content, style, output, device, perceptual, tensorboard)), end="")
    return 0


def sweep(
    content: str,
    style: str,
    output: str,
    vary: dict[str, list[Any]] | None = None,
    cases: dict[str, dict[str, Any]] | None = None,
    method: str = "gatys",
    alpha: float = 1.0,
    size: int = 256,
    style_size: int | Literal["content"] = 256,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    settings: Settings | None = None,
) -> int:
    """Run a method over values of its flags: a labelled contact sheet, figures, losses and their curves.

    Args:
        content: folder of contents.
        style: folder of styles.
        output: folder to write to.
        vary: values by flag, {optimizer: [lbfgs, adam]}; several flags make a grid, the last one across.
        cases: or flags by label, {quick: {steps: 50, optimizer: adam}}.
        method: whose flags they are; method, alpha, size, style_size, precision, color, photorealistic can vary too.
        alpha: strength of the style, 0 to 1.
        size: shorter side of contents and results in pixels.
        style_size: of the styles.
        device: as of stylize.
        precision: of the network's arithmetic.
        settings: of methods without weights.
    """
    from adain.grid import Case, evaluate, markdown, variations

    base = Case("", method, {}, alpha, size, style_size, precision)
    chosen = [_checked(case) for case in variations(base, vary or {}, cases or {}, settings or {})]
    across = len(list(vary.values())[-1]) if vary else None
    print(markdown(evaluate(chosen, content, style, output, device, memory=False, columns=across)), end="")
    return 0


def _checked(case: "Case") -> "Case":
    """The case with its settings as their types say; ValueError if they are not so, or not its method's."""
    from adain.methods import METHODS

    if case.method not in SETTINGS:
        return case
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(METHODS[case.method], skip={"callback"})
    try:
        return replace(case, settings=parser.parse_object(dict(case.settings)).as_dict())
    except ArgumentError as error:
        raise ValueError(f"{case.label}: {error}") from error


def convert(source: str, output: str) -> int:
    """Turn a training run's checkpoint into a small safetensors file that carries its own arguments and recipe.

    Args:
        source: a checkpoint of a run (last.ckpt), or the decoder.pth of naoto0804/pytorch-AdaIN.
        output: the file to write, ending in .safetensors.
    """
    from adain.weights import convert

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
    from adain.serve import serve

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
    """
    from adain.export import export

    largest, mean = export(output, checkpoint or method, style, precision, calibration)
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


def plan_outputs(
    content: list[str],
    style: list[str],
    output: str | None,
    method: str = "",
    mask: Sequence[str] = (),
    moving: Container[str] = (),
) -> dict[Path, Path]:
    """Where each content's result goes, checked before any work is done; the method names it where no style does.

    Those of `content` that are in `moving` are videos.

    Raises:
        ValueError: an output that would replace an input or another output, or a suffix that cannot be written.
        OSError: an input that is not there.
    """
    contents, styles, masks = ([Path(name) for name in names] for names in (content, style, mask))
    for path in (*contents, *styles, *masks):
        if not path.exists() and str(path) != STANDARD:
            raise FileNotFoundError(f"{path}: no such file")
    made = "+".join(one.stem for one in styles) or method
    names = [f"{path.stem}__{made}{clips.suffix(path) if str(path) in moving else '.png'}" for path in contents]
    if output == STANDARD or (output is None and contents == [Path(STANDARD)]):
        targets = [Path(STANDARD)] * len(contents)
    elif output is None:
        targets = [path.with_name(name) for path, name in zip(contents, names, strict=True)]
    elif Path(output).suffix and not Path(output).is_dir():
        from adain import images

        check = clips.check_suffix if any(name in moving for name in content) else images.check_suffix
        targets = [check(output)] * len(contents)
    else:
        targets = [Path(output) / name for name in names]
    if len(set(targets)) < len(targets):
        raise ValueError("several contents would be written to one output; name a folder, and contents unlike in name")
    for target in targets:
        if target.exists() and any(target.samefile(path) for path in (*contents, *styles, *masks)):
            raise ValueError(f"{target} is an input and would be overwritten; name another output")
    return dict(zip(contents, targets, strict=True))
