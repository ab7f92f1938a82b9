"""The parser of the command line, made from the signatures and docstrings of functions and option dataclasses."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_type_hints

import yaml
from docstring_parser import parse
from jsonargparse import ArgumentParser

from adain.utils.flags import PlainErrors, PlainFormatter, flag_name

MOST_VALUES = 10_000
"""Values of a configuration file."""

LISTS: dict[Any, type] = {list[str]: str, list[str] | None: str, list[float] | None: float}
"""Types of parameters whose flags take several values, with the type of one value."""

FIELD_TYPES: dict[str, Any] = {
    "alpha": list[float] | None,
    "style_weight": list[float] | None,
    "mask": list[str] | None,
}
"""Types on the command line of option fields that also take images or single values in Python."""


TOPICS = {
    "Input and output": (
        *("content", "style", "source", "output", "sheet", "size", "format", "contents", "styles"),
        *("crop", "suffix", "quality", "limit", "max_pixels", "truncated", "report", "quiet"),
    ),
    "Method": ("method", "checkpoint", "device", "precision", "seed", "calibration", "part"),
    "What is drawn": ("per_content", "p"),
    "Strength, strokes, and colors": (
        *("alpha", "alpha_blend", "style_size", "style_weight", "color", "detail", "photorealistic"),
    ),
    "Masks and regions": ("mask", "feather", "regions"),
    "Large images": ("work_size", "tile", "max_memory"),
    "Datasets": ("split", "column", "key", "streaming", "shard_size"),
    "Folders": ("pairs",),
    "Runs": ("workers", "batch_size", "engine", "address", "verify", "retry"),
    "Videos": ("steady", "flicker"),
    "Records of an optimization": ("log", "snapshot_every"),
    "What varies": ("vary", "cases"),
    "Metrics": ("perceptual", "tensorboard", "protocol", "inception"),
    "Server": ("host", "port", "max_upload", "queue", "api"),
}
"""Titles in help texts, and the flags of all commands under each."""


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


def check_configuration(path: str) -> None:
    """Refuse a YAML file whose aliases repeat their values so often that reading it would take forever.

    Everything else that may be wrong with the file is left to the parser.

    Raises:
        ValueError: The file has more than `MOST_VALUES` values when its aliases are replaced, or contains itself.
    """
    try:
        with open(path, encoding="utf-8") as file:
            root = yaml.compose(file, yaml.SafeLoader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError):
        return
    if root is not None and _count_values(root, {}) > MOST_VALUES:
        raise ValueError(f"Expected at most {MOST_VALUES} values in {path}, got more, or one that contains itself")


def _count_values(node: yaml.Node, counted: dict[int, float]) -> float:
    """Return the number of values in a node, with those that aliases repeat; infinity if it contains itself."""
    if id(node) not in counted:
        counted[id(node)] = math.inf  # until it is known
        count = 1.0
        for child in node.value if isinstance(node, yaml.CollectionNode) else ():
            for part in child if isinstance(child, tuple) else (child,):
                count += _count_values(part, counted)
        counted[id(node)] = count
    return counted[id(node)]


class Parser(PlainErrors, ArgumentParser):
    """A parser made from a function's signature, whose help is grouped by topic and whose errors take one line."""

    @classmethod
    def of(cls, function: Callable[..., int], prog: str, methods: Iterable[str] = ()) -> "Parser":
        """Make flags from the parameters of a function: types and defaults of its signature, help of its docstring.

        A parameter whose type is a dataclass gives a flag for each field. `methods` adds the settings of these methods,
        which must be in `adain.cli.stylize_command.SETTINGS`.
        """
        description = parse(inspect.getdoc(function) or "").short_description
        parser = cls(prog=prog, description=description, formatter_class=PlainFormatter)
        parser.add_argument("--config", action="config", help="YAML file with any of these flags.")
        groups: Any = parser._action_groups
        other = groups.pop()
        other.title = "Other flags"
        flags = flags_of(function)
        for title, names in TOPICS.items():
            topic = [flag for flag in flags if flag.name in names]
            if topic:
                group = parser.add_argument_group(title)
                for flag in topic:
                    _add(group, flag)
        for flag in flags:
            if not any(flag.name in names for names in TOPICS.values()):
                _add(other, flag)
        for method in methods:
            from adain.methods import METHODS

            parser.add_class_arguments(METHODS[method], method, skip={"seed", "callback"})
            groups[-1].title = f"Settings of {method}"
            parser._option_string_actions[f"--{method}"].help = f"YAML file with settings of {method}."
        groups.append(other)
        parser.first_words = "PHOTO PAINTING" if prog.endswith(("stylize", "infer.py")) else ""
        parser.usage = _usage(parser.first_words, prog, flags)
        return parser


def _usage(first_words: str, prog: str, flags: Sequence[Flag]) -> str:
    if first_words:
        return f"{prog} {first_words} [flags]"
    required = [f"--{flag.name} {flag.name.upper()}" for flag in flags if flag.default is inspect.Parameter.empty]
    return " ".join([prog, *required, "[flags]"])


def _add(group: Any, flag: Flag) -> None:
    """Add a flag to a group of a parser."""
    name = flag_name(flag.name)
    required = flag.default is inspect.Parameter.empty
    if flag.type is bool:
        group.add_argument(name, action="store_true", help=flag.help)
    elif flag.type in LISTS:
        default = None if required else flag.default
        if isinstance(default, float):
            default = [default]
        one = LISTS[flag.type]
        group.add_argument(name, nargs="+", type=one, required=required, default=default, help=flag.help)
    elif required:
        group.add_argument(name, type=flag.type, required=True, help=flag.help)
    else:
        group.add_argument(name, type=flag.type, default=flag.default, help=flag.help)


def flags_of(function: Callable[..., int]) -> list[Flag]:
    """Return the flags of a function's parameters, except `settings`, which are those of methods."""
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
    """Build the arguments of a function from the values of its flags: fields are combined into their dataclasses."""
    remaining = dict(values)
    arguments = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if dataclasses.is_dataclass(parameter.annotation):
            options: Any = parameter.annotation
            fields = {field.name: remaining.pop(field.name) for field in dataclasses.fields(options)}
            arguments[name] = options(**fields)
    return {**remaining, **arguments}
