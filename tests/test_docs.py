"""Code blocks of the README and the documentation: commands are parsed, and Python of the README runs."""

import re
import shlex

import pytest
from PIL import Image

from adain.cli.commands import COMMANDS
from adain.cli.main import parse_flags
from tests.conftest import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page):
    """The words of each `adain COMMAND` and `python infer.py` in the shell blocks of a page."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:2] == ["python", "infer.py"]:
                yield "stylize", words[2:]
            elif words[:1] == ["adain"] and words[1] in COMMANDS:
                yield words[1], words[2:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_have_flags_that_exist(page):
    for name, words in commands(page):
        parse_flags(COMMANDS[name], words, name)


def test_there_are_commands_to_check():
    assert sum(len(list(commands(page))) for page in PAGES) > 20


def test_python_of_the_readme_runs(make_picture, monkeypatch, tmp_path):
    for name in ("photo", "painting"):
        make_picture(f"{name}.png")
        Image.open(tmp_path / f"{name}.png").save(tmp_path / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)
    (block,) = blocks(ROOT / "README.md", "python")
    exec(compile(block, "README.md", "exec"), {})
    assert (tmp_path / "stylized.png").exists()


def test_training_with_random_styles_runs(make_picture, monkeypatch, tmp_path):
    for i in range(4):
        make_picture(f"photos/{'ab'[i % 2]}/{i}.png", seed=i)
    monkeypatch.chdir(tmp_path)
    training = blocks(ROOT / "docs" / "datasets.md", "python")[0]
    names = {}
    exec(compile(training, "datasets.md", "exec"), names)
    assert names["loss"].isfinite()
    assert names["network"].fc.weight.grad.abs().sum() > 0
