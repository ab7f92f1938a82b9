"""The command that stylizes, `adain stylize` or `infer.py`: images and videos one by one, and folders."""

import sys
from collections.abc import Container, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from adain.batch.options import DEFAULT_RUN_OPTIONS
from adain.imaging.options import DEFAULT_READ_OPTIONS, ReadOptions
from adain.inference.naming import result_stem
from adain.inference.options import DEFAULT_STYLE_OPTIONS, StyleOptions
from adain.utils.errors import CONTENT_ERRORS, OptimizationError, one_line
from adain.utils.files import check_not_inputs
from adain.utils.flags import flag_name
from adain.video import detection, formats

if TYPE_CHECKING:
    from adain.inference.recorder import OptimizationRecorder
    from adain.methods import Method
    from adain.utils.precision import Precision

# torch is imported by the functions that need it, so that help and errors about usage appear at once.

STANDARD = "-"
"""Standard input or output instead of a file."""

SETTINGS = ("style-swap", "wct", "gatys")
"""Methods without weights. The arguments of their constructors are flags, such as --gatys.steps 100."""

Settings = dict[str, dict[str, Any]]
"""These arguments, by method."""


@dataclass(frozen=True)
class Failure:
    """Why a content was not stylized, in one line, and whether the input is the cause."""

    message: str
    wrong_input: bool


def given(**flags: Any) -> dict[str, Any]:
    """Return the flags that were given, by name: those that are not None."""
    return {name: value for name, value in flags.items() if value is not None}


def weights_of(method: str, checkpoint: str | None) -> str:
    """Return the checkpoint if there is one, else the method's name.

    Raises:
        ValueError: A checkpoint for a method without weights.
    """
    if checkpoint and method in SETTINGS:
        raise ValueError(f"{method} has no weights, got --checkpoint {checkpoint}; leave out --checkpoint or --method")
    return checkpoint or method


def stylize(
    content: list[str],
    style: list[str] | None = None,
    output: str | None = None,
    method: str = "adain",
    checkpoint: str | None = None,
    size: int | None = None,
    style_options: StyleOptions = DEFAULT_STYLE_OPTIONS,
    read_options: ReadOptions = DEFAULT_READ_OPTIONS,
    pairs: str | None = None,
    workers: int = DEFAULT_RUN_OPTIONS.workers,
    verify: bool = False,
    steady: float | None = None,
    device: str = "auto",
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto",
    log: str | None = None,
    snapshot_every: int = 0,
    seed: int = 0,
    quiet: bool = False,
    settings: Settings | None = None,
) -> int:
    """Stylize images or videos in the style of another image.

    Args:
        content: Images or videos to stylize; - for standard input; or a folder of images, see --pairs.
        style: Image whose style is applied, or a file that encode-style wrote. Several are mixed. Not for johnson.
        output: File to write, - for standard output, or a folder if the name has no suffix (default: CONTENT__STYLE.png
            beside each content). Videos are written as .mp4, .m4v, .mov, .mkv, .webm or .gif (default: as the content
            if that is possible, else .mp4).
        method: Method to use, or a file of weights; adain list shows the methods. style-swap, wct, and gatys have
            settings; see, for example, --method gatys --help.
        checkpoint: File of weights to use instead of the method's embedded ones.
        size: Shorter side of the result in pixels (default: that of the content).
        style_options: How the content is stylized.
        read_options: Which files are accepted.
        pairs: Which contents of a folder get which styles of a folder: all for every content in every style; random for
            one random style per content, determined by its name and the seed; or a CSV file with columns content, style
            and, optionally, alpha (default: all). Results of earlier runs are not made again.
        workers: Processes that read the images of a folder.
        verify: Check earlier results of a folder by their hashes, not only by size and modification time.
        steady: Temporal stability of a video, from 0 to 1: how much of each frame is carried over from the one before,
            along the motion (default: 0.8). At 0 each frame is stylized alone, and the result flickers.
        device: Device to use: auto, cpu, cuda, mps, or another one of torch.
        precision: Floating-point type of the network. auto is bf16 where that is fast and within 1/255 on
            average, else fp32.
        log: Folder for the records of an optimization (gatys): losses as CSV, curves, TensorBoard events, snapshots.
        snapshot_every: Steps of an optimization between snapshots; 0 for none.
        seed: Seed of everything that is drawn at random.
        quiet: Print only errors.
        settings: Settings of methods without weights.
    """
    request = Request(
        content=content,
        style=style,
        output=output,
        method=method,
        weights=weights_of(method, checkpoint),
        settings=dict((settings or {}).get(method, {})),
        size=size,
        style_options=style_options,
        read_options=read_options,
        device=device,
        precision=precision,
        seed=seed,
        quiet=quiet,
    )
    if len(content) == 1 and Path(content[0]).is_dir():
        _refuse_for_folders(style_options, log=log, snapshot_every=snapshot_every or None, steady=steady)
        return _stylize_folder(request, pairs or "all", workers, verify)
    if pairs:
        raise ValueError("Expected a folder as --content and another as --style with --pairs")
    return _stylize_files(request, steady, log, snapshot_every)


@dataclass(frozen=True)
class Request:
    """What to stylize and how, as the command takes it; `settings` are those of the method."""

    content: list[str]
    style: list[str] | None
    output: str | None
    method: str
    weights: str
    settings: dict[str, Any]
    size: int | None
    style_options: StyleOptions
    read_options: ReadOptions
    device: str
    precision: "Precision"
    seed: int
    quiet: bool


def _stylize_folder(request: Request, pairs: str, workers: int, verify: bool) -> int:
    from adain.batch.options import RunOptions
    from adain.batch.runner import stylize_folder

    failed = stylize_folder(
        request.content[0],
        _folder_of_styles(request),
        _output_folder(request.output),
        pairs,
        request.weights,
        size=request.size,
        options=request.style_options,
        read_options=request.read_options,
        run_options=RunOptions(seed=request.seed, workers=workers, verify=verify, quiet=request.quiet),
        device=request.device,
        precision=request.precision,
        **request.settings,
    )
    return report_failures([_failure_of(path, reason) for path, reason in failed])


def _failure_of(path: Path, reason: str) -> str:
    """Say why an image of a folder failed: `a.png is not a readable image`, or `a.png: out of memory`."""
    is_predicate = reason.startswith(("is ", "cannot "))
    return f"{path} {reason}" if is_predicate else f"{path}: {reason}"


def _stylize_files(request: Request, steady: float | None, log: str | None, snapshot_every: int) -> int:
    videos = detection.videos(request.content, request.output)
    if steady is not None and not videos:
        raise ValueError("Expected a video as --content with --steady, got none; leave out --steady")
    masks: Any = request.style_options.mask or []
    method_name = Path(request.weights).stem
    outputs = plan_outputs(request.content, request.style or [], request.output, method_name, masks, videos)
    import torch

    from adain.inference.preparation import prepare
    from adain.inference.recorder import LOSS_FILES, OptimizationRecorder
    from adain.inference.style_encoding import encode_once
    from adain.methods import ITERATIVE

    iterative = request.method in ITERATIVE
    if (log or snapshot_every) and not iterative:
        names = ", ".join(ITERATIVE)
        raise ValueError(f"--log and --snapshot-every are for {names}; leave them out with {request.method}")
    if log:
        inputs = [*request.content, *(request.style or []), *masks]
        check_not_inputs([Path(log) / name for name in LOSS_FILES], inputs)
    torch.manual_seed(request.seed)
    recorder = OptimizationRecorder(log, snapshot_every, request.quiet)
    with recorder if iterative else nullcontext():
        settings = dict(request.settings)
        if iterative:
            settings |= {"seed": request.seed, "callback": recorder}
        method = prepare(request.weights, request.device, request.precision, **settings)
        style, style_options = encode_once(method, request.style, request.style_options, request.read_options)
        run = Run(method, style, request.size, style_options, request.read_options, steady, recorder)
        failures = run.stylize_each(outputs, videos)
    all_wrong = len(failures) == len(outputs) and all(failure.wrong_input for failure in failures)
    messages = dict.fromkeys(failure.message for failure in failures)  # a style or a mask may fail for several contents
    return report_failures([*messages], all_wrong)


def _refuse_for_folders(options: StyleOptions, **others: Any) -> None:
    """Raise ValueError for flags that apply to single images only; those of `others` that are None were not given."""
    flags = {"style_weight": options.style_weight, "mask": options.mask, "feather": options.feather or None}
    flags |= {"regions": options.regions, **others}
    wrong = [flag_name(name) for name, value in flags.items() if value is not None]
    if wrong:
        raise ValueError(
            f"{', '.join(wrong)} cannot be used with a folder of contents; leave out, or name single images"
        )


def _folder_of_styles(request: Request) -> str | None:
    styles = request.style or []
    if len(styles) > 1:
        raise ValueError(
            f"Expected one style or folder of styles for a folder of contents, got {len(styles)}; "
            "for others, use --pairs FILE.csv"
        )
    return styles[0] if styles else None


def _output_folder(output: str | None) -> str:
    if output is None or output == STANDARD or (Path(output).suffix and not Path(output).is_dir()):
        raise ValueError(f"Expected a folder as --output for a folder of contents, got {output or 'none'}")
    return output


@dataclass(frozen=True)
class Run:
    """How contents are stylized one by one."""

    method: "Method"
    style: Any
    size: int | None
    style_options: StyleOptions
    read_options: ReadOptions
    steady: float | None
    recorder: "OptimizationRecorder"

    def stylize_each(self, outputs: Mapping[Path, Path], videos: Container[Path]) -> list[Failure]:
        """Stylize one content after the other, print each output, and return why contents failed."""
        from adain.inference.recorder import unique_names

        failures = []
        names = unique_names(outputs)
        for content, output in outputs.items():
            self.recorder.name = names[content]
            try:
                if self.recorder.stopped:
                    raise OSError(f"{content} was not stylized: stopped before")
                if content in videos:
                    self._stylize_video(content, output)
                else:
                    self._stylize_image(content, output)
            except CONTENT_ERRORS as error:
                name = "" if isinstance(error, OSError) else f"{content}: "  # an OSError names its file
                failures.append(Failure(name + one_line(error), not isinstance(error, OptimizationError)))
            else:
                if not self.recorder.quiet and str(output) != STANDARD:
                    print(output)
        return failures

    def _stylize_image(self, content: Path, output: Path) -> None:
        from adain.imaging import reader, writer
        from adain.inference import pipeline

        photo = reader.load(content, self.size, self.read_options)
        stylized = pipeline.stylize(
            photo, self.style, self.method, options=self.style_options, read_options=self.read_options
        )
        writer.save(stylized.pixels, output, like=stylized)

    def _stylize_video(self, content: Path, output: Path) -> None:
        from adain.video.runner import stylize_video

        changes = {} if self.steady is None else {"steady": self.steady}
        stylize_video(
            content,
            self.style,
            output,
            self.method,
            size=self.size,
            options=self.style_options,
            read_options=self.read_options,
            quiet=self.recorder.quiet,
            **changes,
        )


def report_failures(failures: Sequence[str], all_wrong: bool = False) -> int:
    """Print what failed, and return the exit code, 2 if all inputs were wrong."""
    for failure in failures:
        print(f"adain: error: {failure}", file=sys.stderr)
    if not failures:
        return 0
    return 2 if all_wrong else 1


def plan_outputs(
    content: list[str],
    style: list[str],
    output: str | None,
    method: str = "",
    mask: Sequence[str] = (),
    videos: Container[Path] = (),
) -> dict[Path, Path]:
    """Return the output of each content, checked before any work is done.

    Args:
        content: Contents.
        style: Styles, which name the outputs.
        output: As the command takes it.
        method: Names the outputs if there are no styles.
        mask: Masks, which must not be overwritten.
        videos: Those of `content` that are videos.

    Raises:
        ValueError: An output that would replace an input or another output, or a suffix that cannot be written.
        OSError: An input does not exist.
    """
    for name in (*content, *style, *mask):
        if name.startswith(("http://", "https://")):
            raise ValueError(f"Expected a file, got the URL {name}; download it first")
    contents = [Path(name) for name in content]
    styles = [Path(name) for name in style]
    inputs = [*contents, *styles, *(Path(name) for name in mask)]
    for path in inputs:
        if not path.exists() and str(path) != STANDARD:
            raise FileNotFoundError(f"{path}: no such file")
    stems = [path.stem for path in styles] or [method]
    names = []
    for path in contents:
        suffix = formats.suffix(path) if path in videos else ".png"
        names.append(result_stem(path.stem, stems) + suffix)
    has_video = any(path in videos for path in contents)
    targets = _targets(contents, names, output, has_video)
    if len(set(targets)) < len(targets):
        raise ValueError(
            "several contents would be written to one output; name a folder, and contents with different names"
        )
    check_not_inputs(targets, inputs)
    return dict(zip(contents, targets, strict=True))


def _targets(contents: Sequence[Path], names: Sequence[str], output: str | None, has_video: bool) -> list[Path]:
    """Return the path of each output, whose name in a folder is in `names`."""
    if output == STANDARD or (output is None and list(contents) == [Path(STANDARD)]):
        return [Path(STANDARD)] * len(contents)
    if output is None:
        return [path.with_name(name) for path, name in zip(contents, names, strict=True)]
    if Path(output).suffix and not Path(output).is_dir():
        from adain.imaging import writer

        check = formats.check_suffix if has_video else writer.check_suffix
        return [check(output)] * len(contents)
    return [Path(output) / name for name in names]
