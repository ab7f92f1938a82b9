"""Code blocks of the README and the documentation: commands are parsed, and Python of the README runs."""

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest
from PIL import Image

from adain.cli.commands import COMMANDS
from adain.cli.main import parse_flags
from tests.conftest import ROOT, wait_for

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


STUBS = {
    "srun": "trap 'echo saved > saved; exit 0' TERM; echo $$ > running; [ -z $FAILS ] || exit 3; sleep 60 & wait",
    "scancel": "kill -TERM $(cat running)",
    "scontrol": 'echo "$@" > requeued',
}
"""What the SLURM script calls."""


@pytest.fixture
def slurm_script(tmp_path):
    """A function that starts the script of the documentation where a cluster is imitated."""
    (block,) = blocks(ROOT / "docs" / "training.md", "bash")
    (tmp_path / "job.sh").write_text(block)
    for name, text in STUBS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"

    def start(**variables):
        environment = {**os.environ, "PATH": path, "SLURM_JOB_ID": "7", "SLURM_NNODES": "2", **variables}
        return subprocess.Popen(["bash", "job.sh"], cwd=tmp_path, env=environment)

    return start


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals")
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGTERM])
def test_the_slurm_script_saves_and_requeues_before_the_time_limit(number, slurm_script, tmp_path):
    process = slurm_script()
    wait_for(lambda: (tmp_path / "running").exists() and (tmp_path / "running").read_text(), process, 60)
    process.send_signal(number)
    if number == signal.SIGTERM:  # SLURM sends it to the processes too, and requeues the job itself
        os.kill(int((tmp_path / "running").read_text()), number)
    assert process.wait(60) == 0
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "requeued").exists() == (number == signal.SIGUSR1)
    if number == signal.SIGUSR1:
        assert (tmp_path / "requeued").read_text() == "requeue 7\n"


def test_the_slurm_script_fails_if_training_fails(slurm_script, tmp_path):
    assert slurm_script(FAILS="1").wait(60) == 3
    assert not (tmp_path / "requeued").exists()
