"""The parser of the command line, made from the signatures and docstrings of functions and option dataclasses."""

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, get_type_hints

from docstring_parser import parse
from jsonargparse import ArgumentParser

from adain.utils.checks import did_you_mean

LISTS: dict[Any, type] = {list[str]: str, list[str] | None: str, list[float] | None: float}
"""Types of parameters whose flags take several values, with the type of one value."""

FIELD_TYPES: dict[str, Any] = {
    "alpha": list[float] | None,
    "style_weight": list[float] | None,
    "mask": list[str] | None,
}
"""Types on the command line of option fields that also take images or single values in Python."""


@dataclasses.dataclass(frozen=True)
class Flag:
    """A flag of the command line.

    Args:
        name: That of the parameter, with underscores.
        type: Type of its value.
        help: What it does.
        default: Its default; `inspect.Parameter.empty` if it must be given.
    """

    name: str
    type: Any
    help: str
    default: Any


class Parser(ArgumentParser):
    """A parser made from a function's signature, whose errors take one line."""

    def error(self, message: str, *_: object) -> None:  # type: ignore[override]
        """Print the message and exit with code 2."""
        message = " ".join(message.split())
        unknown = re.search(r"unrecognized arguments: (--[\w.-]+)", message, re.IGNORECASE)
        flags = [flag for action in self._actions for flag in action.option_strings]
        suggestion = did_you_mean(unknown[1], flags) if unknown else ""
        see = f"{suggestion} See" if suggestion else "; see"
        print(f"{self.prog}: {message}{see} {self.prog} --help", file=sys.stderr)
        sys.exit(2)

    @classmethod
    def of(cls, function: Callable[..., int], prog: str, methods: Iterable[str] = ()) -> "Parser":
        """Make flags from the parameters of a function: types and defaults of its signature, help of its docstring.

        A parameter whose type is a dataclass gives a flag for each field. `methods` adds the settings of these methods,
        which must be in `adain.cli.stylize_command.SETTINGS`.
        """
        parser = cls(prog=prog, description=parse(inspect.getdoc(function) or "").short_description)
        parser.add_argument("--config", action="config", help="YAML file with any of these flags")
        for method in methods:
            from adain.methods import METHODS

            parser.add_class_arguments(METHODS[method], method, skip={"seed", "callback"})
        for flag in flags_of(function):
            parser._add(flag)
        return parser

    def _add(self, flag: Flag) -> None:
        name = "--" + flag.name.replace("_", "-")
        required = flag.default is inspect.Parameter.empty
        if flag.type is bool:
            self.add_argument(name, action="store_true", help=flag.help)
        elif flag.type in LISTS:
            default = None if required else flag.default
            if isinstance(default, float):
                default = [default]
            one = LISTS[flag.type]
            self.add_argument(name, nargs="+", type=one, required=required, default=default, help=flag.help)
        elif required:
            self.add_argument(name, type=flag.type, required=True, help=flag.help)
        else:
            self.add_argument(name, type=flag.type, default=flag.default, help=flag.help)


def flags_of(function: Callable[..., int]) -> list[Flag]:
    """The flags of a function's parameters, except `settings`, which are those of methods."""
    texts = _help_texts(function)
    flags = []
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "settings":
            continue
        if dataclasses.is_dataclass(parameter.annotation):
            flags += _flags_of_fields(parameter.annotation)
        else:
            flags.append(Flag(name, parameter.annotation, texts[name], parameter.default))
    return flags


def _flags_of_fields(options: Any) -> list[Flag]:
    texts = _help_texts(options)
    types = get_type_hints(options, localns={"ImageLike": Any})  # imported for type checkers only
    flags = []
    for field in dataclasses.fields(options):
        type_ = FIELD_TYPES.get(field.name, types[field.name])
        flags.append(Flag(field.name, type_, texts[field.name], field.default))
    return flags


def _help_texts(documented: Any) -> dict[str, str]:
    doc = parse(inspect.getdoc(documented) or "")
    return {entry.arg_name: entry.description or "" for entry in doc.params}


def collect(function: Callable[..., int], values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the function from the values of its flags: fields are put together to their dataclasses."""
    remaining = dict(values)
    arguments = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if dataclasses.is_dataclass(parameter.annotation):
            options: Any = parameter.annotation
            fields = {field.name: remaining.pop(field.name) for field in dataclasses.fields(options)}
            arguments[name] = options(**fields)
    return {**remaining, **arguments}
