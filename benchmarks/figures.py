"""Make the tables of the documentation again: `make figures`, or `python -m benchmarks.figures [--only NAME ...]`.

A table stands between two comments, of which the first has its command:

    <!-- figures: OMP_NUM_THREADS=1 python -m benchmarks.alpha -->
    <!-- end -->

The command is `python -m MODULE ...` or `adain ...`, after variables of its environment. The tables in its output, and
its lines that start with `MACHINE`, replace what is between the comments.
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from adain.utils.files import atomic_path
from benchmarks.timing import MACHINE, machine

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/*.md", "checkpoints/*.md")
MARKED = re.compile(r"^<!-- figures: (?P<command>.+?) -->\n(?P<text>.*?)^<!-- end -->\n", re.MULTILINE | re.DOTALL)
ADAIN = "import sys; from adain.cli.main import main; sys.exit(main())"


@dataclass(frozen=True)
class Table:
    """A marked place of a page."""

    page: Path
    command: str

    @property
    def name(self) -> str:
        """What `--only` looks for a part of: the page and the command."""
        return f"{self.page.relative_to(ROOT)}: {self.command}"


def find_tables() -> list[Table]:
    """All marked places, in the order of the pages."""
    tables = []
    for pattern in PAGES:
        for page in sorted(ROOT.glob(pattern)):
            tables += [Table(page, found["command"]) for found in MARKED.finditer(page.read_text())]
    return tables


def split_command(command: str) -> tuple[dict[str, str], list[str]]:
    """The variables at the start of a command, and its words after them."""
    words = shlex.split(command)
    variables = {}
    while words and re.match(r"[A-Z_]+=", words[0]):
        name, value = words.pop(0).split("=", 1)
        variables[name] = value
    return variables, words


def arguments(words: list[str]) -> list[str]:
    """The arguments with which this Python runs `python -m MODULE ...` or `adain ...`.

    Raises:
        ValueError: Another command.
    """
    if words[:2] == ["python", "-m"]:
        return words[1:]
    if words[:1] == ["adain"]:
        return ["-c", ADAIN, *words[1:]]
    raise ValueError(f"Expected python -m MODULE or adain, got {shlex.join(words)}")


def run(command: str) -> str:
    """The output of a command; its errors and warnings are passed on."""
    variables, words = split_command(command)
    process = subprocess.run(
        [sys.executable, *arguments(words)],
        cwd=ROOT,
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return process.stdout


def tables_of(output: str, default_machine: str) -> str:
    """The machine, and after it the tables that a command printed, with empty lines between them.

    Raises:
        ValueError: There is no table.
    """
    machines, lines = [], [""]
    for line in output.splitlines():
        if line.startswith(MACHINE):
            machines.append(line)
        elif line.startswith("|"):
            lines.append(line)
        elif lines[-1]:
            lines.append("")
    text = "\n".join(lines).strip()
    if not text:
        raise ValueError("Expected a table in the output of the command, got none")
    return "\n".join([*(machines or [default_machine]), "", text]) + "\n"


def replace_text(page: str, command: str, text: str) -> str:
    """The page with `text` between the comments of that command."""

    def replaced(found: re.Match[str]) -> str:
        if found["command"] != command:
            return found[0]
        return f"<!-- figures: {command} -->\n\n{text}\n<!-- end -->\n"

    return MARKED.sub(replaced, page)


def main() -> int:
    """Replace the tables one by one; 1 if a command failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only",
        nargs="+",
        default=[""],
        metavar="NAME",
        help="only tables whose page or command contains one of these",
    )
    parser.add_argument("--check", action="store_true", help="list the tables, and run nothing")
    options = parser.parse_args()
    failed = False
    for table in find_tables():
        if not any(part in table.name for part in options.only):
            continue
        print(table.name, flush=True)
        if options.check:
            continue
        try:
            text = tables_of(run(table.command), machine())
        except (subprocess.CalledProcessError, ValueError) as error:
            print(f"  failed: {error}", file=sys.stderr)
            failed = True
            continue
        with atomic_path(table.page) as temporary:
            temporary.write_text(replace_text(table.page.read_text(), table.command, text))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
