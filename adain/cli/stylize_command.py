"""The command that paints, `adain stylize` or `infer.py`: pictures and videos one by one, and folders."""

import sys
from collections.abc import Container, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from adain.utils.errors import CONTENT_ERRORS, OptimizationError, one_line
from adain.video import detection, formats

if TYPE_CHECKING:
    from adain.imaging.reader import ReadOptions
    from adain.inference.recorder import OptimizationRecorder
    from adain.methods import Method

STANDARD = "-"
"""Standard input or output in place of a file."""

SETTINGS = ("style-swap", "wct", "gatys")
"""Methods without weights, whose constructors' arguments are flags: --gatys.steps 100."""

Settings = dict[str, dict[str, Any]]
"""Such arguments, by method."""


@dataclass(frozen=True)
class Failure:
    """Why a content was not stylized, on one line, and whether the input is to blame."""

    message: str
    wrong_input: bool


# torch is imported by the functions that need it, so that help and wrong usage answer at once.


def weights_of(method: str, checkpoint: str | None) -> str:
    """The checkpoint, or else the method's name. Raises ValueError for a checkpoint of a method without weights."""
    if checkpoint and method in SETTINGS:
        raise ValueError(f"{method} has no weights to take from {checkpoint}; leave --checkpoint or --method out")
    return checkpoint or method


def stylize(
    content: list[str],
    style: list[str] | None = None,
    output: str | None = None,
    method: str = "adain",
    checkpoint: str | None = None,
    alpha: list[float] | None = None,
    alpha_blend: Literal["residual", "features"] = "residual",
    size: int | None = None,
    style_size: int | Literal["content"] | None = None,
    style_weight: list[float] | None = None,
    mask: list[str] | None = None,
    feather: float = 0.0,
    color: Literal["style", "keep-luminance", "coral"] = "style",
    photorealistic: bool = False,
    work_size: int | Literal["content"] | None = None,
    detail: float = 0.0,
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
        alpha: strength of the style, from 0 (the photo) to 1, by default 1; one, or one for each style.
        alpha_blend: how alpha below 1 blends. residual blends features and adds back, in proportion to 1 - alpha, what
            the network cannot rebuild of the photo, so that alpha 0 is the photo; features is equation 14 of the AdaIN
            paper, whose alpha 0 is the network's reconstruction. Not for johnson; gatys ignores it.
        size: shorter side of the result in pixels; by default the content's.
        style_size: shorter side that the style is brought to, in pixels, or content for the content's; larger
            makes coarser strokes; by default its own, at most 1024.
        style_weight: share of each of several styles, of any sum; by default even.
        mask: a picture for each style, white where it is painted; elsewhere the content stays as it is.
        feather: pixels over which the masks are softened.
        color: style takes the style's colors; keep-luminance keeps the content's; coral first gives the style the
            content's.
        photorealistic: smooth the result along the content's edges, so that straight lines stay straight.
        work_size: shorter side in pixels at which the network sees the content (default: 512 for contents above 1024,
            else the content's own). The result is brought to full size along the content's edges, so that stroke size
            and time do not depend on the content's resolution. content always uses the content's own size. Not for
            gatys, which works at several sizes.
        detail: how much of the content's fine luminance detail is kept in place of strokes, 0 to 1; above 0, faces
            stay more recognizable.
        tile: pixels a side painted at a time, with the statistics of the whole picture; by default as memory allows.
        max_memory: GiB that this may take; large pictures are painted faster in more memory than the 1 GiB that
            painting takes by default.
        max_pixels: most pixels of a content, style, mask or result; more are refused; by default 512 million.
        truncated: use what there is of truncated pictures, also of styles and masks, instead of refusing them.
        pairs: for folders as content and style: all paints every content in every style; random each in one, drawn by
            its name and the seed; a CSV file has columns content, style and, if wanted, alpha. By default all. What is
            there from an earlier run is not painted again.
        workers: processes that read the pictures of a folder.
        steady: of a video, how much is carried over from frame to frame along the motion, 0 to 1, by default 0.8; 0
            paints each frame on its own, and flickers.
        device: auto, cpu, cuda, mps, or any other that torch knows.
        precision: of the network's arithmetic; auto is bf16 where it is fast and within 1/255, else fp32.
        log: folder for what an optimization (gatys) records: losses as CSV, curves and events, snapshots.
        snapshot_every: steps of an optimization between snapshots of it; 0 for none.
        seed: of whatever is drawn at random.
        quiet: print nothing but errors.
        settings: of a method without weights.
    """
    weights, own = weights_of(method, checkpoint), dict((settings or {}).get(method, {}))
    accepted = _given(max_pixels=max_pixels, truncated=truncated)
    look = _given(style_size=style_size, color=color, photorealistic=photorealistic, alpha_blend=alpha_blend)
    look |= _given(work_size=work_size, detail=detail or None, tile=tile, max_memory=max_memory)
    parts = _given(style_weight=style_weight, mask=mask, feather=feather or None)
    records, video = _given(log=log or None, snapshot_every=snapshot_every or None), _given(steady=steady)
    if len(content) == 1 and Path(content[0]).is_dir():
        folder = _check_folders(style, alpha, output, [*parts, *records, *video])
        from adain.batch.runner import stylize_folder

        run = {"workers": workers, "seed": seed, "device": device, "precision": precision, "quiet": quiet}
        flags = {**look, **accepted, **run, **own, **_given(size=size, alpha=alpha and alpha[0])}
        folders = content[0], style[0] if style else None, folder, pairs or "all", weights
        return _report([f"{path}: {reason}" for path, reason in stylize_folder(*folders, **flags)])
    if pairs:
        raise ValueError("--pairs is for a folder as the content and another as the style")
    moving = detection.videos(content, output)
    if video and not moving:
        raise ValueError("--steady is for videos; name one as --content, or leave it out")
    jobs = plan_outputs(content, style or [], output, Path(weights).stem, mask or [], moving)
    import torch

    from adain.imaging.reader import ReadOptions
    from adain.inference.preparation import prepare
    from adain.inference.recorder import OptimizationRecorder
    from adain.inference.style_encoding import encode_style
    from adain.methods import ITERATIVE

    if records and method not in ITERATIVE:
        raise ValueError(f"{method} paints in one pass; --log and --snapshot-every are for {', '.join(ITERATIVE)}")
    torch.manual_seed(seed)
    watch, options = OptimizationRecorder(log, snapshot_every, quiet), look | parts | _given(alpha=alpha)
    given, reading = cast(Any, style), ReadOptions(**accepted)
    with watch if method in ITERATIVE else nullcontext():
        own |= {"seed": seed, "callback": watch} if method in ITERATIVE else {}
        ready = prepare(weights, device, precision, **own)
        if style and not (mask or style_size == "content" or color == "coral" or len(alpha or [1]) > 1):
            shares = options.pop("style_weight", None)
            given = encode_style(ready, style, options.pop("style_size", None), shares, read_options=reading)
        failures = _paint_each(jobs, moving, given, ready, options, size, reading, video, watch)
    all_wrong = len(failures) == len(jobs) and all(failure.wrong_input for failure in failures)
    return _report([failure.message for failure in failures], all_wrong)


def _given(**flags: Any) -> dict[str, Any]:
    """The flags that were given; the rest have their defaults where they are used."""
    return {name: value for name, value in flags.items() if value is not None}


def _check_folders(
    style: list[str] | None, alpha: list[float] | None, output: str | None, others: Sequence[str]
) -> str:
    """The folder to write to; ValueError if there is none, or more than one style, or flags for single pictures."""
    if others or len(style or [""]) > 1 or len(alpha or [1]) > 1:
        names = ", ".join(f"--{name.replace('_', '-')}" for name in others) or "one style and alpha for each"
        raise ValueError(f"a folder of contents takes no {names}, but a folder of styles, or --pairs FILE.csv")
    if output is None or output == STANDARD or (Path(output).suffix and not Path(output).is_dir()):
        raise ValueError("a folder of contents needs a folder to write to; name it with --output")
    return output


def _paint_each(
    jobs: Mapping[Path, Path],
    moving: Container[str],
    style: Any,
    method: "Method",
    options: Mapping[str, Any],
    size: int | None,
    reading: "ReadOptions",
    video: Mapping[str, Any],
    watch: "OptimizationRecorder",
) -> list[Failure]:
    """Paint one after the other, and print where each result is; returns why contents failed."""
    from adain.imaging import reader, writer
    from adain.inference import pipeline
    from adain.inference.recorder import unique_names

    failures, names = list[Failure](), unique_names(jobs)
    for source, target in jobs.items():
        watch.name = names[source]
        try:
            if watch.stopped:
                raise OSError(f"{source} was not painted")
            if str(source) in moving:
                from adain.video.runner import stylize_video

                limits: dict[str, Any] = {
                    "size": size,
                    "max_pixels": reading.max_pixels,
                    "truncated": reading.truncated,
                }
                stylize_video(source, style, target, method, quiet=watch.quiet, **options, **limits, **video)
            else:
                photo = reader.load(source, size, reading.max_pixels, reading.truncated)
                painted = pipeline.stylize(photo, style, method, read_options=reading, **options)
                writer.save(painted.pixels, target, like=painted)
        except CONTENT_ERRORS as error:
            name = "" if isinstance(error, OSError) else f"{source}: "  # which names its file itself
            failures.append(Failure(name + one_line(error), not isinstance(error, OptimizationError)))
        else:
            if not watch.quiet and str(target) != STANDARD:
                print(target)
    return failures


def _report(failures: Sequence[str], all_wrong: bool = False) -> int:
    """Print what went wrong; the exit code, 2 if all inputs were wrong."""
    for failure in dict.fromkeys(failures):  # a style or a mask may fail for several contents
        print(f"adain: error: {failure}" if all_wrong else f"adain: {failure}", file=sys.stderr)
    return 2 if failures and all_wrong else 1 if failures else 0


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
    names = [f"{path.stem}__{made}{formats.suffix(path) if str(path) in moving else '.png'}" for path in contents]
    if output == STANDARD or (output is None and contents == [Path(STANDARD)]):
        targets = [Path(STANDARD)] * len(contents)
    elif output is None:
        targets = [path.with_name(name) for path, name in zip(contents, names, strict=True)]
    elif Path(output).suffix and not Path(output).is_dir():
        from adain.imaging import writer

        check = formats.check_suffix if any(name in moving for name in content) else writer.check_suffix
        targets = [check(output)] * len(contents)
    else:
        targets = [Path(output) / name for name in names]
    if len(set(targets)) < len(targets):
        raise ValueError("several contents would be written to one output; name a folder, and contents unlike in name")
    for target in targets:
        if target.exists() and any(target.samefile(path) for path in (*contents, *styles, *masks)):
            raise ValueError(f"{target} is an input and would be overwritten; name another output")
    return dict(zip(contents, targets, strict=True))
