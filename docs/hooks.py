"""MkDocs hooks: the site has the files of the repository at their paths, and references made from the code.

MkDocs reads one folder, `docs`. Its pages link to others of the repository, such as `../checkpoints/adain.md`. Here
every page gets its path in the repository, so that the same links work on the site and where the repository is hosted.
"""

import argparse
import inspect
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docstring_parser import parse
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
DOCS = "docs/"

OTHER_FILES = (
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "checkpoints/*.md",
    "checkpoints/*.png",
    "checkpoints/*.webp",
    "examples/*.*",
)
"""What the site has besides `docs`."""

COMMAND_LINE = "<!-- flags of all commands -->"
PYTHON = "<!-- public names -->"

PYTHON_SECTIONS = {
    "Options": (
        "adain.inference.options.StyleOptions",
        "adain.imaging.options.ReadOptions",
        "adain.batch.options.RunOptions",
        "adain.datasets.options.SourceOptions",
        "adain.datasets.options.ResultOptions",
        "adain.datasets.options.EngineOptions",
    ),
    "Folders and videos": (
        "adain.batch.runner.stylize_folder",
        "adain.datasets.runner.stylize_dataset",
        "adain.video.runner.stylize_video",
        "adain.video.runner.stylize_frames",
        "adain.video.decoding.frames",
    ),
    "Methods": ("adain.methods.base.Method",),
    "Losses and metrics": ("adain.functional.losses.PerceptualLoss", "adain.evaluation.metrics.scores"),
    "Export": ("adain.deploy.onnx_export.export",),
}
"""What the Python reference has besides the public names of `adain`."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Give each file its path in the repository, and add those outside of `docs`."""
    moved = Files([file for file in files if file.src_dir != config.docs_dir])
    for file in files:
        if file.src_dir == config.docs_dir:
            moved.append(_file(DOCS + file.src_uri, file.src_uri, config, file.inclusion))
    for pattern in OTHER_FILES:
        for path in sorted(ROOT.glob(pattern)):
            uri = path.relative_to(ROOT).as_posix()
            moved.append(_file(uri, uri, config))
    return moved


def _file(source: str, target: str, config: MkDocsConfig, *inclusion: Any) -> File:
    """Return a file at a path of the repository that the site has at the path `target`."""
    at_target = File(target, str(ROOT), config.site_dir, config.use_directory_urls)
    inclusions = {"inclusion": inclusion[0]} if inclusion else {}
    return File(
        source, str(ROOT), config.site_dir, config.use_directory_urls, dest_uri=at_target.dest_uri, **inclusions
    )


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Put the references in the place of their markers."""
    if page.file.src_uri == "docs/command-line.md":
        return _replaced(markdown, COMMAND_LINE, command_line_reference())
    if page.file.src_uri == "docs/python.md":
        return _replaced(markdown, PYTHON, python_reference())
    return markdown


def _replaced(markdown: str, marker: str, text: str) -> str:
    if marker not in markdown:
        raise ValueError(f"Expected {marker} in the page, found none; put it where the reference belongs")
    return markdown.replace(marker, text)


def command_line_reference() -> str:
    """Return a section for each command with its flags, from the parsers themselves."""
    from adain.cli.commands import COMMANDS
    from adain.cli.parser import Parser
    from adain.cli.stylize_command import SETTINGS

    sections = []
    for name, command in COMMANDS.items():
        parser = Parser.of(command, f"adain {name}")
        sections += [f"## adain {name}", parser.description or "", *_flags(parser._actions)]
    for method in SETTINGS:
        own = [action for action in Parser.of(COMMANDS["stylize"], "", [method])._actions if _is_of(action, method)]
        sections += [f"## Settings of {method}", f"With `--method {method}`.", *_flags(own)]
    parser = _training_parser()
    sections += ["## adain train fit", parse(inspect.getdoc(_training_module()) or "").short_description or ""]
    sections += ["The flags of `--trainer` are those of Lightning's `Trainer`."]
    sections += _flags(action for action in parser._actions if "." in action.dest)
    return "\n\n".join(sections)


def _is_of(action: argparse.Action, method: str) -> bool:
    return any(option.startswith(f"--{method}.") for option in action.option_strings)


def _training_module() -> type:
    from adain.training.module import StyleTransfer

    return StyleTransfer


def _training_parser() -> Any:
    """Return a parser of the flags of training, without those of Lightning's trainer."""
    from pytorch_lightning.cli import LightningArgumentParser

    from adain.training.callbacks import LastCheckpoint
    from adain.training.datamodule import Pictures

    parser = LightningArgumentParser()
    for key, configured in {"model": _training_module(), "data": Pictures, "last": LastCheckpoint}.items():
        parser.add_lightning_class_args(configured, key)
    return parser


def _flags(actions: Iterable[argparse.Action]) -> list[str]:
    """Return a list item for each flag that sets something."""
    items = []
    for action in actions:
        names = [option for option in action.option_strings if not option.endswith(("+", ".help"))]
        if names and not {"--help", "--print_config"} & {*names} and "ConfigLoad" not in type(action).__name__:
            items.append(
                f"- `{' '.join([names[0], *_value(action)])}`{_default(action)}: {_escaped(action.help or '')}"
            )
    return ["\n".join(items)]


def _value(action: argparse.Action) -> list[str]:
    """How the value of a flag is written; nothing for a switch."""
    if action.nargs == 0:
        return []
    value = action.metavar or action.dest.rpartition(".")[2].upper()
    return [str(value), *(["..."] if action.nargs == "+" else [])]


def _default(action: argparse.Action) -> str:
    if action.required:
        return " (required)"
    if action.nargs == 0 or action.default in (None, argparse.SUPPRESS, (), [], ""):
        return ""
    default = action.default
    if isinstance(default, list | tuple):
        default = " ".join(map(str, default))
    return f" (default: `{default}`)"


def _escaped(text: str) -> str:
    """Escape a text, on one line, as Markdown that shows it as it is; code in backticks stays."""
    parts = re.split(r"(`[^`]*`)", " ".join(text.split()))
    return "".join(part if part.startswith("`") else re.sub(r"([*_<\[\\])", r"\\\1", part) for part in parts)


def python_reference() -> str:
    """Directives of mkdocstrings for the public names of `adain`, and for `PYTHON_SECTIONS`."""
    import adain

    functions = [getattr(adain, name) for name in adain.__all__]
    public = {f"{function.__module__}.{function.__name__}" for function in functions if callable(function)}
    sections = {"adain": sorted(public, key=lambda path: path.rpartition(".")[2]), **PYTHON_SECTIONS}
    lines = []
    for title, paths in sections.items():
        lines += [f"## {title}", *(f"::: {path}" for path in paths)]
    return "\n\n".join(lines)
