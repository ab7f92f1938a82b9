"""The parser of the command line, made from the signatures of functions."""

import inspect
import sys
from collections.abc import Callable, Iterable
from typing import Any

from docstring_parser import parse
from jsonargparse import ArgumentParser

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
