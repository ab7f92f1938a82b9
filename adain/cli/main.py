"""The `adain` command: flags read from the signatures in `adain.cli.commands`, errors told in one line."""

import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from docstring_parser import parse

from adain.cli.commands import COMMANDS
from adain.cli.parser import Parser
from adain.cli.stylize_command import SETTINGS
from adain.utils import memory
from adain.utils.errors import one_line


def main(args: list[str] | None = None, prog: str = "adain") -> int:
    """Run a command and return the exit code: 0 done, 1 some inputs failed, 2 wrong input or usage."""
    args = sys.argv[1:] if args is None else args
    name = args[0] if args else ""
    if name in COMMANDS:
        return run(COMMANDS[name], args[1:], f"{prog} {name}")
    if name == "train":
        from adain.training.cli import main as train

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
