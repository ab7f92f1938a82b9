"""Help texts and errors of command lines, for people who do not read Python."""

import argparse
import ast
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, Union, get_args, get_origin

from jsonargparse import DefaultHelpFormatter

from adain.utils.checks import did_you_mean
from adain.utils.errors import shortened

METAVARS: dict[Any, str] = {int: "N", float: "X", bool: "true|false", str: "TEXT"}
"""What stands for a value of each type in help texts. The flags of commands use their own names for text."""

TYPE_NAMES = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list, such as [A,B]",
    "tuple": "a list, such as [A,B]",
    "Sequence": "a list, such as [A,B]",
}
"""Types in error messages."""

LONGEST_ERROR = 400
"""Characters of an error message."""

PRINT_CONFIG_HELP = "Print all flags as YAML, in the form that --config reads, and exit."


class PlainFormatter(DefaultHelpFormatter):
    """Formats help texts with defaults, but without types of Python and defaults that say nothing."""

    def _get_help_string(self, action: argparse.Action) -> str:
        if "print_config" in action.dest:
            return PRINT_CONFIG_HELP
        text = _sentence(action.help or "")
        is_switch = action.nargs == 0
        if "%(default)" in text or "default:" in text.lower() or is_switch or not _is_telling(action.default):
            return text
        # Replaced here, because argparse would print Python's form of a list.
        default = _as_typed(action.default, action.nargs == argparse.ONE_OR_MORE).replace("%", "%%")
        return f"{text} (default: {default})"

    def _metavar_formatter(self, action: argparse.Action, default_metavar: str) -> Any:
        typehint = getattr(action, "_typehint", None)
        if action.metavar is None and typehint is not None:
            metavar = _metavar(typehint, default_metavar)
            return lambda size: (metavar,) * size
        return super()._metavar_formatter(action, default_metavar)

    def _format_args(self, action: argparse.Action, default_metavar: str) -> str:
        if action.nargs == argparse.ONE_OR_MORE:
            (metavar,) = self._metavar_formatter(action, default_metavar)(1)
            return f"{metavar} ..."
        return super()._format_args(action, default_metavar)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        """Return the flag with its value; `--flag+`, which appends to a list, is left out."""
        names = [name for name in action.option_strings if not name.endswith("+")]
        if not names or action.nargs == 0 or "print_config" in action.dest:
            return ", ".join(names) or super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action))
        return f"{', '.join(names)} {value}"


def _sentence(text: str) -> str:
    """Return the help text with an upper-case first letter and a period, without the markup of docstrings."""
    text = " ".join(text.replace("``", "").replace("`", "").split())
    if not text:
        return text
    return text[0].upper() + text[1:] + ("" if text.endswith((".", ")")) else ".")


def _is_telling(default: Any) -> bool:
    """Return whether a default is worth printing: neither empty nor an object of the code."""
    return isinstance(default, int | float | str | list | tuple) and default not in (argparse.SUPPRESS, "", [], ())


def _as_typed(value: Any, spread: bool) -> str:
    """Format a default as it is typed; `spread` lists are separated by spaces."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, list | tuple):
        return str(value)
    items = map(str, value)
    return " ".join(items) if spread else f"[{','.join(items)}]"


def _metavar(typehint: Any, text: str) -> str:
    """Return what stands for a value of a type; `text` stands for any text."""
    names = list(dict.fromkeys(_metavars(typehint, text)))
    return "|".join(names) if len(names) <= 3 else text


def _metavars(typehint: Any, text: str) -> Iterator[str]:
    origin = get_origin(typehint)
    if origin is Literal:
        choices = [str(choice) for choice in get_args(typehint)]
        yield choices[0] if len(choices) == 1 else "{" + ",".join(choices) + "}"
    elif origin in (list, tuple) or getattr(origin, "__name__", "") == "Sequence":
        yield "[" + ",".join(dict.fromkeys(_metavars(get_args(typehint)[0], "NAME"))) + ",...]"
    elif get_args(typehint) and (origin is Union or origin.__name__ == "UnionType"):
        for member in get_args(typehint):
            if member is not NoneType:
                yield from _metavars(member, text)
    elif typehint in METAVARS and typehint is not str:
        yield METAVARS[typehint]
    else:
        yield text


class PlainErrors(argparse.ArgumentParser):
    """Mixin for parsers of jsonargparse whose errors take one line and name flags as they are typed.

    Abbreviated flags are refused: a new flag with the same start would change or break them.

    Attributes:
        first_words: What may stand before all flags, such as PHOTO PAINTING; empty if there are flags only.
        class_names: The classes that a flag takes, by the flag.
    """

    first_words = ""
    class_names: Mapping[str, Sequence[str]] = {}

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{**kwargs, "allow_abbrev": False})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print the message and exit with code 2."""
        parser = getattr(ex, "subcommand_parser", None) or self
        program = parser.prog.replace(" [options]", "")
        plain = plain_message(message, all_flags(self), self.first_words, self.class_names).rstrip(".")
        see = " See" if plain.endswith("?") else "; see"
        print(f"adain: error: {plain}{see} {program} --help", file=sys.stderr)
        sys.exit(2)


def flag_name(name: str) -> str:
    """Return the flag of a parameter or a field, such as --style-size of style_size."""
    return "--" + name.replace("_", "-")


def check_not_empty(flag: str, value: Any) -> None:
    """Raise ValueError if the value of a flag, or one of its values, is an empty text, as of a shell variable not set.

    An empty name of a file or a folder would otherwise be the current folder, or no name at all.
    """
    if "" in (value if isinstance(value, list) else [value]):
        raise ValueError(f"Expected a value for {flag}, got an empty one; a shell variable may not be set")


def all_flags(parser: argparse.ArgumentParser) -> list[str]:
    """Return the flags of a parser and its subcommands, as they are typed."""
    flags = []
    for action in parser._actions:
        flags += [flag for flag in action.option_strings if not flag.endswith("+")]
        if isinstance(action, argparse._SubParsersAction):
            for subparser in action.choices.values():
                flags += all_flags(subparser)
    return list(dict.fromkeys(flags))


@dataclass(frozen=True)
class _CommandLine:
    """What messages say about a command line."""

    flags: list[str]
    """All flags, with which misspelled ones are compared."""
    first_words: str
    """What may stand before all flags."""
    class_names: Mapping[str, Sequence[str]]
    """The classes that a flag takes, by the flag."""


def plain_message(
    message: str, flags: list[str], first_words: str = "", class_names: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Rewrite an error message of jsonargparse in one line, in the words of the command line.

    Args:
        message: The message.
        flags: All flags, with which misspelled ones are compared.
        first_words: What may stand before all flags.
        class_names: The classes that a flag takes, by the flag.
    """
    message = " ".join(message.split())
    command_line = _CommandLine(flags, first_words, class_names or {})
    for pattern, rewrite in MESSAGES:
        match = pattern.search(message)
        if match:
            return rewrite(match, command_line)
    return shortened(message, LONGEST_ERROR)


def _unrecognized(match: re.Match[str], command_line: _CommandLine) -> str:
    name = match[1].partition("=")[0]
    if name.startswith("-"):
        return f"unknown flag {name}{did_you_mean(name, command_line.flags)}"
    if command_line.first_words:
        return f"Expected {command_line.first_words} first, before all flags, got {name} after a flag"
    return f"Expected flags, got {name}{did_you_mean(name, command_line.flags)}"


def _missing_configuration(match: re.Match[str], _: _CommandLine) -> str:
    path, here = Path(match[1]), Path.cwd()
    return f"{path.relative_to(here) if path.is_relative_to(here) else path}: no such file"


def _unknown_command(match: re.Match[str], _: _CommandLine) -> str:
    choices = match[2].replace("'", "")
    return f"unknown command {match[1]}; choose from {choices}"


def _missing_command(match: re.Match[str], _: _CommandLine) -> str:
    return f"Expected one of the commands {match[1].replace(',', ', ')}, got none"


def _unknown_setting(match: re.Match[str], _: _CommandLine) -> str:
    return f"unknown setting {match[1]}"


def _missing_flags(match: re.Match[str], command_line: _CommandLine) -> str:
    if command_line.first_words:
        return f"Expected {command_line.first_words}, got none"
    names = [_flag(name, command_line.flags) for name in match[1].split(", ")]
    return f"Expected {', '.join(names)}, got none"


def _missing_value(match: re.Match[str], _: _CommandLine) -> str:
    return f"Expected a value after {match[1]}, got none"


def _wrong_value(match: re.Match[str], command_line: _CommandLine) -> str:
    message = match.string
    flag = _flag(match[1], command_line.flags)
    name = re.search(r"Expected a dot import path string: (\S+)", message)
    if name:
        classes = command_line.class_names.get(flag)
        kind = f"one of {', '.join(classes)}" if classes else "the name of a class"
        return f"Expected {flag} to be {kind}, got {name[1]}; {flag}.help CLASS describes one"
    given = re.search(r"(?:Got value|Given value): (\S+)", message)
    expected = _expected(message)
    if given and expected:
        return f"Expected {flag} to be {expected}, got {given[1].strip(',')}"
    reason = message[match.end() :].lstrip(": ")
    return shortened(f"{flag}: {reason}", LONGEST_ERROR)


MESSAGES: tuple[tuple[re.Pattern[str], Callable[[re.Match[str], _CommandLine], str]], ...] = (
    (re.compile(r"unrecognized arguments: (\S+)", re.IGNORECASE), _unrecognized),
    (re.compile(r"config\": File does not exist: '(.*)'"), _missing_configuration),
    (re.compile(r"argument subcommand: invalid choice: '?(\S+?)'? \(choose from (.*)\)"), _unknown_command),
    (re.compile(r"expected \"subcommand\" to be one of \{(.*)\}"), _missing_command),
    (re.compile(r"Option '(\S+)' is not accepted"), _unknown_setting),
    (re.compile(r"arguments are required: (.+)"), _missing_flags),
    (re.compile(r"argument (--\S+?)(?:/\S+)?: expected (?:at least )?one argument"), _missing_value),
    (re.compile(r"Parser key \"([\w.]+)\""), _wrong_value),
)
"""Messages of jsonargparse, and what rewrites each. The first pattern that is found counts."""


def with_flags(message: str, flags: Iterable[str]) -> str:
    """Replace the names of Python in an error message by flags, such as style_size by --style-size.

    Earlier flags have precedence. A setting of a method is named as it is typed, such as --gatys.steps.
    """
    flags = [*flags]
    message = re.sub(r"; leave out \w+((, | and )\w+)*", lambda part: _as_flags(part[0], flags), message)
    for flag in flags:
        name = flag.removeprefix("--")
        if "." in name:
            message = re.sub(rf"^{name.rpartition('.')[2]} must be", f"{flag} must be", message)
        elif "-" in name:
            message = re.sub(rf"(?<![\w.-]){name.replace('-', '_')}(?![\w.-])", flag, message)
        else:
            message = re.sub(rf"^(a )?{re.escape(name)} must be", f"{flag} must be", message)
    return message


def _as_flags(names: str, flags: Iterable[str]) -> str:
    """Return the list of names in a message, with those that are flags as flags."""
    known = {flag.removeprefix("--").replace("-", "_"): flag for flag in flags}
    return re.sub(r"\w+", lambda name: known.get(name[0], name[0]), names)


def _flag(key: str, flags: list[str]) -> str:
    """Return the flag of a key of the configuration, such as --style-size of style_size."""
    without_command = key.partition(".")[2]
    for flag in (flag_name(key), f"--{key}", f"--{without_command}"):
        if flag in flags:
            return flag
    return f"--{key}"


def _expected(message: str) -> str:
    """Return the types that a message about a wrong value lists, such as `a whole number or content`."""
    union = re.search(r"Subtypes: \[(.*?)\] Errors:", message)
    types = union[1] if union else message
    names = []
    for kind, choices in re.findall(r"<class '(?:[\w.]+\.)?(\w+)'>|typing\.Literal(\[.*?\])", types):
        if choices:
            names += [str(choice) for choice in ast.literal_eval(choices)]
        elif kind in TYPE_NAMES:
            names.append(TYPE_NAMES[kind])
    names = list(dict.fromkeys(names))
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} or {names[-1]}"
