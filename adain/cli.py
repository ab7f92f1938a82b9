"""The `adain` command: flags read from the signatures in `adain.commands`, errors told in one line."""

import inspect
import logging
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from docstring_parser import parse
from jsonargparse import ArgumentParser

from adain import memory
from adain.commands import COMMANDS
from adain.errors import one_line
from adain.painting import SETTINGS

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
    """The exit code of `call`: its own, 2 with the error in one line where input was wrong, or 130 after Ctrl-C."""
    memory.keep_freed()
    try:
        return call() or 0
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        message = one_line(error)
    except KeyboardInterrupt:
        print("adain: interrupted", file=sys.stderr)
        return 130  # as a shell has it: 128 and the signal's number
    print(f"adain: error: {message}", file=sys.stderr)
    return 2
