"""The `adain` command: a table of typed functions, whose signatures are the flags and whose docstrings are the help."""

import inspect
import logging
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from docstring_parser import parse
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
        steady: of a video, how much is carried over from frame to frame along the motion, 0 to 1, by default 0.6; 0
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


COMMANDS: dict[str, Callable[..., int]] = {
    "stylize": stylize,
    "encode-style": encode_style,
    "grid": grid,
    "evaluate": evaluate,
    "sweep": sweep,
    "convert": convert,
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


LISTS: dict[Any, type] = {list[str]: str, list[str] | None: str, list[float] | None: float}
"""Parameters whose flags take several values."""


class Parser(ArgumentParser):
    """A parser made from a function's signature, whose errors take one line."""

    def error(self, message: str, *_: object) -> None:  # type: ignore[override]
        """Print the message and exit with code 2."""
        print(f"{self.prog}: {' '.join(message.split())}; see {self.prog} --help", file=sys.stderr)
        sys.exit(2)

    @classmethod
    def of(cls, function: Callable[..., int], prog: str, methods: Iterable[str] = ()) -> "Parser":
        """Flags from the parameters, types and defaults from the signature, help from the docstring.

        `methods` adds the settings of these, which are in `SETTINGS`.
        """
        doc = parse(inspect.getdoc(function) or "")
        texts = {entry.arg_name: entry.description for entry in doc.params}
        parser = cls(prog=prog, description=doc.short_description)
        parser.add_argument("--config", action="config", help="a YAML file with any of these flags")
        parameters = dict(inspect.signature(function).parameters)
        if parameters.pop("settings", None) and methods:
            from adain.methods import METHODS

            for method in methods:
                parser.add_class_arguments(METHODS[method], method, skip={"seed", "callback"})
        for name, parameter in parameters.items():
            flag, help_ = "--" + name.replace("_", "-"), texts[name]
            if parameter.annotation is bool:
                parser.add_argument(flag, action="store_true", help=help_)
            elif parameter.annotation in LISTS:
                required, kind = parameter.default is parameter.empty, LISTS[parameter.annotation]
                parser.add_argument(flag, nargs="+", type=kind, required=required, help=help_)
            elif parameter.default is parameter.empty:
                parser.add_argument(flag, type=parameter.annotation, required=True, help=help_)
            else:
                parser.add_argument(flag, type=parameter.annotation, default=parameter.default, help=help_)
        return parser


def main(args: list[str] | None = None, prog: str = "adain") -> int:
    """Run a command and return the exit code: 0 done, 1 some inputs failed, 2 wrong input or usage."""
    args = sys.argv[1:] if args is None else args
    name = args[0] if args else ""
    if name in COMMANDS:
        return run(COMMANDS[name], args[1:], f"{prog} {name}")
    if name == "train":
        from adain.task import main as train

        return guarded(lambda: train(args[1:]))
    summaries = {key: parse(command.__doc__ or "").short_description for key, command in COMMANDS.items()}
    summaries["train"] = "Train a network: fit, validate and their flags."
    usage = [f"usage: {prog} COMMAND ...; {prog} COMMAND --help tells more", ""]
    usage += [f"  {key:12} {summary}" for key, summary in summaries.items()]
    asked = name in ("--help", "-h")
    print("\n".join(usage), file=sys.stdout if asked else sys.stderr)
    return 0 if asked else 2


def run(function: Callable[..., int], args: list[str] | None, prog: str) -> int:
    """Call `function` with the flags in `args` (by default the command line's)."""
    words = sys.argv[1:] if args is None else args
    method = inspect.signature(function).parameters.get("method")
    default = method.default if method else None
    asked = {default, *words, *(word.removeprefix("--method=") for word in words)}
    # A configuration may say anything; otherwise settings of a method that is not asked for are refused.
    named = [name for name in SETTINGS if name in asked or any(word.startswith("--config") for word in words)]

    def call() -> int:
        parsed = Parser.of(function, prog, named).parse_args(words).as_dict()
        del parsed["config"]
        keys = {name: name.replace("-", "_") for name in named}  # as the parser writes them
        settings = {name: parsed.pop(key) for name, key in keys.items() if key in parsed}
        with _hushed(parsed.get("quiet", False)):
            return function(**parsed, **({"settings": settings} if settings else {}))

    return guarded(call)


@contextmanager
def _hushed(quiet: bool) -> Iterator[None]:
    """Without warnings, if quiet."""
    logger = logging.getLogger("adain")
    level = logger.level
    if quiet:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def guarded(call: Callable[[], int | None]) -> int:
    """The exit code of `call`: its own, or 2 with the error in one line where input was wrong."""
    try:
        return call() or 0
    except (ValueError, OSError) as error:
        message = " ".join(str(error).split())
    except RuntimeError as error:  # torch has no type of its own for a CPU's memory
        if "memory" not in str(error):
            raise
        message = "out of memory; a smaller --size, or --precision bf16, needs less"
    print(f"adain: error: {message}", file=sys.stderr)
    return 2
