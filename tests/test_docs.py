"""The documentation: commands are parsed, Python runs, links and quoted messages exist, and the site builds."""

import ast
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from adain.cli.commands import COMMANDS
from adain.cli.main import main, parse_flags
from adain.training import cli as training
from benchmarks import recipe_images
from tests.conftest import ROOT, wait_for
from tests.video.test_runner import noise, write

PAGES = [
    *sorted(ROOT.glob("*.md")),
    *(page for folder in ("docs", "checkpoints", "examples") for page in sorted((ROOT / folder).glob("*.md"))),
]
MKDOCS = ROOT / "mkdocs.yml"


def page_id(page):
    return page.relative_to(ROOT).as_posix()


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


SCRIPTS = {"infer.py": "stylize", "train.py": "train"}
"""The scripts of a clone, and the commands that are the same."""


def commands(page):
    """The command and the words after it of each line in the shell blocks of a page that starts one."""
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.split(" < ")[0], comments=True)
            if words[:1] == ["python"] and words[1] in SCRIPTS:
                yield SCRIPTS[words[1]], words[2:]
            elif words[:1] == ["adain"]:
                yield words[1], words[2:]


class ParsedError(Exception):
    """The flags of a training run are valid."""


def stop_after_parsing(self):
    raise ParsedError


@pytest.fixture
def check(monkeypatch):
    """A function that fails if a command or one of its flags does not exist, and runs nothing."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("JSONARGPARSE_DEPRECATION_WARNINGS", "off")  # between it and Lightning
    monkeypatch.setattr(training.TrainingCLI, "before_instantiate_classes", stop_after_parsing)

    def check(name, words):
        if name == "train":
            with pytest.raises(ParsedError):
                training.main(words)
        else:
            assert name in (*COMMANDS, "--help", "--version"), f"adain {name}"
        if name in COMMANDS:
            parse_flags(COMMANDS[name], words, name)

    return check


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_and_their_flags_exist(page, check):
    for name, words in commands(page):
        check(name, words)


@pytest.mark.parametrize(
    "line",
    [
        "adain stylise a.jpg b.jpg",
        "adain stylize a.jpg b.jpg --sise 5",
        "adain train fitt",
        "python train.py fit --config configs/adain.yaml --modle.lr 1",
    ],
)
def test_a_typing_mistake_in_a_page_is_found(line, check, tmp_path):
    (tmp_path / "page.md").write_text(f"```sh\n{line}\n```\n")
    ((name, words),) = commands(tmp_path / "page.md")
    with pytest.raises((AssertionError, SystemExit)):
        check(name, words)


def test_there_are_commands_to_check():
    assert sum(len(list(commands(page))) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_python_of_the_pages_can_be_compiled(page):
    for block in blocks(page, "python"):
        ast.parse(block)


@pytest.fixture
def photo_and_painting(make_picture, monkeypatch, tmp_path):
    """The current folder with the images that the pages name."""
    for name in ("photo", "painting"):
        make_picture(f"{name}.png")
        Image.open(tmp_path / f"{name}.png").save(tmp_path / f"{name}.jpg")
    monkeypatch.chdir(tmp_path)


def run_python(page, number=0):
    """Run a Python block of a page of docs/ and return its variables."""
    names = {}
    exec(compile(blocks(ROOT / page, "python")[number], page, "exec"), names)
    return names


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md", "docs/python.md", "docs/stylizing.md"])
def test_python_of_the_first_pages_runs(page, photo_and_painting):
    run_python(page)
    assert Path("stylized.png").exists()


def test_python_for_videos_runs(photo_and_painting):
    write("clip.mp4", noise(2, 48, 64))
    names = run_python("docs/video.md")
    assert names["frame"].shape == (1, 3, 48, 64)
    assert Path("stylized.mp4").exists()


@pytest.mark.slow
def test_python_for_exported_networks_runs(photo_and_painting):
    assert main(["export", "--method", "adain-lite", "--output", "adain_lite.onnx"]) == 0
    run_python("docs/export.md")
    assert Path("stylized.png").exists()


def test_training_with_random_styles_runs(make_picture, monkeypatch, tmp_path):
    for i in range(4):
        make_picture(f"photos/{'ab'[i % 2]}/{i}.png", seed=i)
    monkeypatch.chdir(tmp_path)
    training = blocks(ROOT / "docs" / "datasets.md", "python")[0]
    names = {}
    exec(compile(training, "datasets.md", "exec"), names)
    assert names["loss"].isfinite()
    assert names["network"].fc.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_to_files_lead_somewhere(page):
    text = re.sub(r"^```.*?^```|`[^`\n]*`", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def files_of_nav(entry):
    """The paths in a navigation of MkDocs."""
    if isinstance(entry, str):
        return [entry]
    entries = entry if isinstance(entry, list) else entry.values()
    return [path for one in entries for path in files_of_nav(one)]


class MkDocsLoader(yaml.SafeLoader):
    """A loader that ignores the tags of MkDocs."""


MkDocsLoader.add_constructor("!ENV", lambda loader, node: None)


def test_the_navigation_has_every_page():
    config = yaml.load(MKDOCS.read_text(), MkDocsLoader)
    assert sorted(files_of_nav(config["nav"])) == sorted(
        page_id(page) for page in PAGES if page_id(page) != "README.md"
    )


def messages():
    """The messages that the page of troubleshooting quotes in the first column of its second part."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text()
    part = text[text.index("## By error message") : text.index("## Installation")]
    return [message for message in re.findall(r"^\| `([^`]+)` \|", part, re.MULTILINE) if message != "..."]


def literals():
    """The source code, in which a message is one literal, without the regular expressions that match other messages."""
    source = "".join(path.read_text() for path in sorted((ROOT / "adain").rglob("*.py")))
    source = re.sub(r'\brf?"(\\.|[^"\\])*"', "", source)
    return re.sub(r'"\s*\n\s*f?"', "", source)  # literals that continue on the next line


def test_quoted_error_messages_exist():
    source = literals()
    assert "unrecognized arguments" not in source, "it is matched, and never printed"
    assert len(messages()) > 40
    for message in messages():
        for part in re.split(r"\.\.\.", message):
            assert part.strip(" ()[]'") in source, message


def test_every_recipe_has_its_image():
    names = recipe_images.commands()
    assert len(names) > 10
    assert set(re.findall(r"\(recipes/(\w+)\.jpg\)", recipe_images.PAGE.read_text())) == set(names)
    sizes = [(recipe_images.FOLDER / f"{name}.jpg").stat().st_size for name in names]
    assert max(sizes) <= recipe_images.MOST_BYTES


def test_placeholders_are_listed_for_whoever_publishes():
    part = (ROOT / "CONTRIBUTING.md").read_text().split("## Before publishing")[1]
    listing = subprocess.run(
        ["git", "grep", "-lw", "REPOSITORY_URL"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    for name in {*listing.stdout.split()} - {"CONTRIBUTING.md", "tests/test_docs.py"}:
        assert f"`{name}`" in part, name


@pytest.mark.slow
def test_the_site_builds_without_warnings(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    flags = (tmp_path / "site" / "command-line" / "index.html").read_text()
    assert all(flag in flags for flag in ("--color {style,keep-luminance,coral}", "--gatys.steps", "--model.lr"))
    names = (tmp_path / "site" / "python" / "index.html").read_text()
    assert all(f'id="adain.{name}"' in names for name in ("inference.pipeline.stylize", "methods.weights.load"))


STUBS = {
    "srun": """trap 'echo saved > saved; exit 0' TERM; echo $$ > running; [ -z $FAILS ] || exit 3
for tenth in $(seq 600); do sleep 0.1; done""",
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
@pytest.mark.parametrize("name", ["SIGUSR1", "SIGTERM"])
def test_the_slurm_script_saves_and_requeues_before_the_time_limit(name, slurm_script, tmp_path):
    number = getattr(signal, name)
    process = slurm_script()
    wait_for(lambda: (tmp_path / "running").exists() and (tmp_path / "running").read_text(), process, 60)
    process.send_signal(number)
    if name == "SIGTERM":  # SLURM sends it to the processes too, and requeues the job itself
        os.kill(int((tmp_path / "running").read_text()), number)
    assert process.wait(60) == 0
    assert (tmp_path / "saved").exists()
    assert (tmp_path / "requeued").exists() == (name == "SIGUSR1")
    if name == "SIGUSR1":
        assert (tmp_path / "requeued").read_text() == "requeue 7\n"


@pytest.mark.skipif(sys.platform == "win32", reason="the script needs bash")
def test_the_slurm_script_fails_if_training_fails(slurm_script, tmp_path):
    assert slurm_script(FAILS="1").wait(60) == 3
    assert not (tmp_path / "requeued").exists()
