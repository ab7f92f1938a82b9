import importlib.util
import re
from pathlib import Path

import pytest

from adain.cli.commands import COMMANDS
from adain.cli.main import parse_flags
from benchmarks import figures, timing

TABLES = figures.find_tables()


def test_tables_are_marked():
    assert {table.page.parent.name for table in TABLES} == {"docs", "checkpoints"}
    assert len({table.name for table in TABLES}) == len(TABLES) > 15


@pytest.mark.parametrize("table", TABLES, ids=lambda table: f"{table.page.stem}: {table.command[:60]}")
def test_the_command_of_a_table_exists(table):
    _, words = figures.split_command(table.command)
    figures.arguments(words)
    if words[0] == "adain":
        parse_flags(COMMANDS[words[1]], words[2:], words[1])
        return
    source = Path(importlib.util.find_spec(words[2]).origin).read_text()
    assert "print(machine(" in source or 'print(f"{machine(' in source, "a table names its machine"
    if "parse_known_args" in source:  # other flags are those of infer.py
        return
    for flag in words[3:]:
        assert not flag.startswith("--") or f'"{flag}"' in source


def test_every_mark_has_an_end():
    for pattern in figures.PAGES:
        for page in figures.ROOT.glob(pattern):
            marks = re.findall("^<!-- (figures: |end)", page.read_text(), re.MULTILINE)
            assert marks == ["figures: ", "end"] * (len(marks) // 2), page


@pytest.fixture
def page(tmp_path, monkeypatch):
    """A page with two tables, in a repository of its own."""
    text = "# Page\n\nBefore.\n\n<!-- figures: A=1 python -m one --x -->\nold\n\n| a |\n<!-- end -->\n\nBetween.\n"
    text += "\n<!-- figures: adain two -->\n<!-- end -->\nAfter.\n"
    (tmp_path / "README.md").write_text(text)
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    return tmp_path / "README.md"


def run(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["figures", *words])
    return figures.main()


def test_tables_are_replaced_and_the_rest_stays(page, monkeypatch):
    outputs = {
        "A=1 python -m one --x": f"progress\n{timing.MACHINE}fast; 3 rounds\n| b |\n| - |\nnoise\n| c |\n",
        "adain two": "| d |\n",
    }
    monkeypatch.setattr(figures, "run", outputs.__getitem__)
    expected = page.read_text().replace(
        "old\n\n| a |\n", f"\n{timing.MACHINE}fast; 3 rounds\n\n| b |\n| - |\n\n| c |\n\n"
    )
    assert run(monkeypatch, "--only", "python -m one") == 0
    assert page.read_text() == expected
    assert run(monkeypatch) == 0
    second = f"<!-- figures: adain two -->\n\n{timing.machine()}\n\n| d |\n\n<!-- end -->\n"
    assert page.read_text() == expected.replace("<!-- figures: adain two -->\n<!-- end -->\n", second)
    again = page.read_text()
    assert run(monkeypatch) == 0
    assert page.read_text() == again


def test_check_lists_the_tables_and_runs_nothing(page, monkeypatch, capsys):
    before = page.read_text()
    assert run(monkeypatch, "--check") == 0
    assert capsys.readouterr().out == "README.md: A=1 python -m one --x\nREADME.md: adain two\n"
    assert page.read_text() == before


def test_a_command_that_fails_or_prints_no_table_leaves_the_page(page, monkeypatch, capsys):
    before = page.read_text()
    monkeypatch.setattr(figures, "run", lambda _: "no table\n")
    assert run(monkeypatch, "--only", "two") == 1
    assert "Expected a table" in capsys.readouterr().err
    assert page.read_text() == before
