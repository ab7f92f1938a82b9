import ast
import doctest
import importlib
import importlib.metadata
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import adain
import adain.augmentation
import adain.video
from tests.conftest import ROOT

GUARD = """
from importlib.machinery import PathFinder

find = PathFinder.find_spec

@staticmethod
def find_spec(name, *args):
    return None if name.partition(".")[0] in {blocked!r} else find(name, *args)

PathFinder.find_spec = find_spec
"""
"""A sitecustomize.py that hides modules, as if they were not installed."""


def modules_beside_the_base_dependencies():
    """The installed modules that `pip install adain` would not install."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    base = set()
    waiting = [
        Requirement(text) for text in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    ]
    seen = set()
    while waiting:
        requirement = waiting.pop()
        extras = ("", *requirement.extras)
        if str(requirement) in seen:
            continue
        seen.add(str(requirement))
        base.add(canonicalize_name(requirement.name))
        for text in importlib.metadata.requires(requirement.name) or ():
            further = Requirement(text)
            if further.marker is None or any(further.marker.evaluate({"extra": extra}) for extra in extras):
                waiting.append(further)
    installed = importlib.metadata.packages_distributions()
    return {module for module, names in installed.items() if not base & {canonicalize_name(name) for name in names}}


@pytest.mark.slow
def test_the_command_of_an_installed_wheel_needs_only_the_base_dependencies(tmp_path, examples):
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    wheel, site, guard = next(tmp_path.glob("adain-*.whl")), tmp_path / "site", tmp_path / "guard"
    install = [*pip, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    weights = [f"checkpoints/{name}" for name in ("vgg19.safetensors", "adain.safetensors", "adain.md")]
    for name in ("py.typed", *weights, "examples/content/chelsea.png", "examples/style/wave.jpg", "examples/README.md"):
        assert (site / "adain" / name).exists(), name
    blocked = modules_beside_the_base_dependencies() - {"adain"}
    assert {"av", "cv2", "gradio", "onnx", "pytest"} <= blocked
    guard.mkdir()
    (guard / "sitecustomize.py").write_text(GUARD.format(blocked=blocked))
    environment = {**os.environ, "PYTHONPATH": f"{guard}{os.pathsep}{site}"}

    def run(content, suffix):
        words = [site / "bin" / "adain", "stylize", content, examples / "style" / "shipwreck.jpg", "--size", "64"]
        words += ["--output", tmp_path / f"out{suffix}"]
        return subprocess.run(
            [*map(str, words)], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )

    process = run(examples / "content" / "rocket.jpg", ".png")
    assert process.returncode == 0, process.stderr
    assert (tmp_path / "out.png").stat().st_size > 1000
    (tmp_path / "clip.mp4").touch()
    process = run(tmp_path / "clip.mp4", ".mp4")
    assert process.returncode == 2
    assert "pip install '.[video]' in the repository" in process.stderr, "the guard hides what extras install"


def test_the_public_names_are_there():
    assert all(callable(getattr(adain, name)) or name == "METHODS" for name in adain.__all__)
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        adain.paint  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'stylise'; did you mean stylize"):
        adain.stylise  # noqa: B018


def imports_for_type_checkers(tree):
    """The statements of a module below `if TYPE_CHECKING:`."""
    blocks = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    return [node for block in blocks for node in block.body]


@pytest.mark.parametrize("package", [adain, adain.augmentation, adain.video], ids=lambda package: package.__name__)
def test_lazy_names_are_listed_for_editors_and_completion(package):
    """What is imported lazily, what type checkers see, `__all__`, and `dir` agree."""
    checked = imports_for_type_checkers(ast.parse(Path(package.__file__).read_text()))
    seen = {alias.name: node.module for node in checked for alias in node.names}
    assert seen == package._HOMES
    assert sorted(seen) == sorted(package.__all__)
    assert {*package.__all__, "__all__", "__doc__"} <= {*dir(package)}
    assert {name for name in dir(package) if not name.startswith("__")} == {*package.__all__}


CORRECT = """
from typing import assert_type
import adain, adain.video
from adain.imaging import reader
from adain.imaging.photo import Photo
from PIL import Image
from torch import Tensor
assert_type(adain.stylize("photo.jpg", "painting.jpg", alpha=0.8), Tensor)
assert_type(adain.Stylizer("painting.jpg")("photo.jpg"), Image.Image)
assert_type(adain.load_image("photo.jpg"), Tensor)
method = adain.prepare("adain", device="cpu")
adain.save(adain.stylize("photo.jpg", adain.encode_style(method, "painting.jpg"), method), "out.png")
assert_type(adain.stylize(reader.load("photo.jpg"), "painting.jpg"), Photo)
adain.stylize("photo.jpg", "painting.jpg", alpha=[1, 0.5], color="coral", mask="mask.png", work_size="content")
adain.stylize("photo.jpg", "painting.jpg", "gatys", size=512, steps=100, optimizer="adam", detail=0.3)
adain.Stylizer("painting.jpg", "style-swap", patch=5, alpha=0.8)("photo.jpg", style_size=256)
for frame in adain.video.stylize_frames([], "painting.jpg", steady=0.5, alpha=0.8):
    assert_type(frame, Tensor)
"""

WRONG = """
import adain, adain.video
adain.stylise("photo.jpg", "painting.jpg")
adain.stylize("photo.jpg", "painting.jpg", size="large")
adain.stylize("photo.jpg", "painting.jpg", precision="int4")
adain.Stylizer("painting.jpg")(5)
adain.save("photo.jpg", "out.png")
adain.stylize("photo.jpg", "painting.jpg", alhpa=3)
adain.stylize("photo.jpg", "painting.jpg", color="blue")
adain.stylize("photo.jpg", "painting.jpg", "gatys", steps="many")
adain.Stylizer("painting.jpg", alpa=0.8)
adain.Stylizer("painting.jpg", tile="small")
adain.Stylizer("painting.jpg")("photo.jpg", alpa=0.8)
adain.Stylizer("painting.jpg")("photo.jpg", steps=100)
adain.video.stylize_frames([], "painting.jpg", alpa=0.8)
"""


@pytest.mark.slow
def test_type_checkers_see_the_public_names(tmp_path):
    pytest.importorskip("mypy")
    for name, program in (("correct.py", CORRECT), ("wrong.py", WRONG)):
        (tmp_path / name).write_text(program)
    flags = ["--follow-imports=silent", "--ignore-missing-imports", "--cache-dir", str(tmp_path / "cache")]
    command = [sys.executable, "-m", "mypy", *flags, "correct.py", "wrong.py"]
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    errors = [line for line in process.stdout.splitlines() if ": error:" in line]
    found = [name.split(":") for name in dict.fromkeys(line.partition(": error:")[0] for line in errors)]
    lines = range(3, len(WRONG.splitlines()) + 1)
    assert found == [["wrong.py", str(line)] for line in lines], process.stdout
    assert process.stdout.count('did you mean "alpha"?') == WRONG.count("alpa=") + WRONG.count("alhpa=") == 4


def modules_with_examples():
    for path in sorted((ROOT / "adain").rglob("*.py")):
        if ">>> " in path.read_text():
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__")


@pytest.mark.parametrize("name", [*modules_with_examples()])
def test_examples_in_docstrings_run(name, make_picture, tmp_path, monkeypatch):
    for stem, seed in (("photo", 0), ("painting", 1)):
        make_picture(f"{stem}.png", (64, 64), seed)
        Image.open(tmp_path / f"{stem}.png").save(tmp_path / f"{stem}.jpg")
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    names = {"adain": adain} if not hasattr(module, "adain") else {}
    result = doctest.testmod(module, extraglobs=names)
    assert result.attempted > 0
    assert result.failed == 0


def test_the_readme_names_targets_and_files_that_exist():
    readme, makefile = (ROOT / "README.md").read_text(), (ROOT / "Makefile").read_text()
    for target in ("demo", "test"):
        assert f"make {target}" in readme
        assert f"\n{target}:" in makefile


def test_pre_commit_and_ci_call_the_makefile():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == ["make lint"]
    called = re.findall(r'^make VENV="\$venv" (\S+)$', (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert called == ["lint", "test", "test-slow", "test-browser"]
    assert set(called) <= set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_all_that_git_tracks_stays_small():
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    assert sum(path.stat().st_size for path in files if path.is_file()) < 68 * 2**20


def test_every_package_that_is_imported_is_declared():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 cannot read TOML")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    requirements = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    declared = {re.match(r"[\w-]+", requirement)[0].lower() for requirement in requirements}
    installed = importlib.metadata.packages_distributions()
    missing = set()
    for path in (ROOT / "adain").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for_checkers = imports_for_type_checkers(tree)
        for node in ast.walk(tree):
            modules = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                modules = [node.module]
            # Type checkers bring typing_extensions, and only they import it.
            provided = sys.stdlib_module_names | {"adain"} | ({"typing_extensions"} if node in for_checkers else set())
            for module in {module.split(".")[0] for module in modules} - provided:
                packages = {name.lower().replace("_", "-") for name in installed[module]}
                if not packages & declared:
                    missing.add(module)
    assert not missing


def test_functions_for_videos_are_in_their_package():
    pytest.importorskip("av")
    assert all(callable(getattr(adain.video, name)) for name in ("frames", "stylize_frames", "stylize_video"))
    with pytest.raises(AttributeError, match="no attribute 'paint'"):
        adain.video.paint  # noqa: B018
