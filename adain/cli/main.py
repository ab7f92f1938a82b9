"""The `adain` command: flags from the signatures in `adain.cli.commands`, errors in one line."""

import argparse
import inspect
import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from itertools import pairwise
from typing import Any

from docstring_parser import parse

from adain import __version__
from adain.cli.commands import COMMANDS
from adain.cli.parser import Parser, check_configuration, collect, flags_of
from adain.cli.stylize_command import SETTINGS, STANDARD
from adain.utils import memory
from adain.utils.checks import did_you_mean
from adain.utils.errors import INPUT_ERRORS, one_line
from adain.utils.flags import check_not_empty, flag_name, with_flags
from adain.utils.interrupts import Terminated, terminated_cleanly
from adain.utils.spinning import limit_spinning

TOPICS = {
    "Stylize": ("stylize", "stylize-dataset", "encode-style", "grid", "serve"),
    "Train": ("prepare-data", "train", "convert"),
    "Evaluate": ("evaluate", "sweep"),
    "Weights": ("list", "export"),
}
"""Titles of the help, and the commands under each."""


def main(args: list[str] | None = None, prog: str = "adain") -> int:
    """Run a command and return the exit code: 0 done, 1 some inputs failed, 2 wrong input or usage."""
    args = sys.argv[1:] if args is None else args
    name = args[0] if args else ""
    if name == "--version":
        print(f"{prog} {__version__}")
        return 0
    if name in COMMANDS:
        return run(COMMANDS[name], args[1:], f"{prog} {name}")
    if name == "train":
        return train(args[1:], f"{prog} train")
    summaries = {key: parse(command.__doc__ or "").short_description for key, command in COMMANDS.items()}
    summaries["train"] = "Train a network: fit, validate, and their flags."
    usage = [f"usage: {prog} COMMAND ...; {prog} COMMAND --help for its flags", ""]
    for title, keys in TOPICS.items():
        usage.append(f"{title}:")
        usage += [f"  {key:15}  {summaries[key]}" for key in keys]
    if name in ("--help", "-h"):
        print("\n".join(usage))
        return 0
    if name:
        kind, known = ("flag", ("--help", "--version")) if name.startswith("-") else ("command", summaries)
        hint = did_you_mean(name, known)
        see = " See" if hint else "; see"
        print(f"adain: error: unknown {kind} {name}{hint}{see} {prog} --help", file=sys.stderr)
    else:
        print("\n".join(usage), file=sys.stderr)
    return 2


def run(function: Callable[..., int], args: list[str] | None, prog: str) -> int:
    """Call `function` with the flags in `args` (default: those of the command line)."""
    words = sys.argv[1:] if args is None else args
    flags = [flag_name(flag.name) for flag in flags_of(function)]

    def call() -> int:
        values = parse_flags(function, words, prog)
        for method, settings in values.get("settings", {}).items():
            flags[:0] = [f"--{method}.{name}" for name in settings]
        with _quiet_log(values.get("quiet", False)), terminated_cleanly():
            return function(**collect(function, values))

    return guarded(call, flags)


def train(args: list[str] | None = None, prog: str = "train.py") -> int:
    """Run the command line of training with `args` (default: those of the command line)."""

    def call() -> None:
        from adain.training.cli import main  # imports torch, which reads the settings of OpenMP when it is imported

        main(args, prog)

    return guarded(call)


def parse_flags(function: Callable[..., int], words: list[str], prog: str) -> dict[str, Any]:
    """Return the values of a function's flags; `settings` holds those of methods, by method, if there are any."""
    if function is COMMANDS["stylize"]:
        words = _positionals_as_flags(words)
    for word, following in pairwise([*words, ""]):
        if word.split("=")[0] == "--config":
            check_configuration(following if word == "--config" else word.partition("=")[2])
    methods = _methods_with_settings(function, words)
    values = Parser.of(function, prog, methods).parse_args(words).as_dict()
    for name, value in values.items():
        check_not_empty(flag_name(name), value)
    del values["config"]
    settings = {}
    for method in methods:
        key = method.replace("-", "_")  # as the parser writes it
        if key in values:
            settings[method] = values.pop(key)
    if settings:
        values["settings"] = settings
    return values


def _positionals_as_flags(words: list[str]) -> list[str]:
    """Replace PHOTO and PAINTING at the start of a command line with --content and --style.

    Raises:
        ValueError: There are more words than these two.
    """
    count = 0
    while count < len(words) and (words[count] == STANDARD or not words[count].startswith("-")):
        count += 1
    if count > 2:
        raise ValueError(f"Expected PHOTO PAINTING, got {count} words; for several images, use --content and --style")
    if count == 0:
        return words
    style = ["--style", words[1]] if count == 2 else []
    return ["--content", words[0], *style, *words[count:]]


def _methods_with_settings(function: Callable[..., int], words: list[str]) -> list[str]:
    """Return the methods whose settings are flags of this call: those that are used, so that others are refused.

    They are found by a parser of their own, because the flags of the main parser depend on them. A configuration file
    may name any method.
    """
    parameters = inspect.signature(function).parameters
    if "settings" not in parameters:
        return []
    default = parameters["method"].default
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    finder.add_argument("--method", nargs="+", default=[default])
    finder.add_argument("--config")
    try:
        found, _ = finder.parse_known_args(words)
    except argparse.ArgumentError:
        return []  # the main parser reports it
    if found.config:
        return [*SETTINGS]
    return [method for method in SETTINGS if method in found.method]


@contextmanager
def _quiet_log(quiet: bool) -> Iterator[None]:
    """Suppress warnings, if quiet."""
    logger = logging.getLogger("adain")
    level = logger.level
    if quiet:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _print_any_name() -> None:
    """Let standard output and error print file names that are no text in their encoding, with backslashes."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def guarded(call: Callable[[], int | None], flags: Iterable[str] = ()) -> int:
    """Run `call` and return its exit code; 2 after an error, in one line, 130 after Ctrl-C, or 143 after SIGTERM.

    `flags` are those of the command, which replace the names of Python in the error message.
    """
    limit_spinning()
    memory.keep_freed()
    _print_any_name()
    warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)  # of Pillow; the image is read nevertheless
    try:
        return call() or 0
    except INPUT_ERRORS as error:
        message = one_line(error)
    except Terminated:
        print("adain: terminated", file=sys.stderr)
        return 143
    except KeyboardInterrupt:
        print("adain: interrupted", file=sys.stderr)
        return 130  # as shells do: 128 plus the number of the signal
    print(f"adain: error: {with_flags(message, flags)}", file=sys.stderr)
    return 2
