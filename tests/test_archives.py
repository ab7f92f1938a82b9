"""The contents of the wheel and of the source archive."""

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path, PurePath

import pytest

from adain.deploy.web.examples import TITLES
from adain.models.checkpoint_io import CHECKSUMS
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

UNWANTED = re.compile(
    r"__pycache__|\.pyc$|\.git/|\.venv|\.env$|\.[a-z]+_cache|(^|/)(out|shared|lightning_logs)/|\.pem$"
)

PRIVATE = (f"{ROOT}/".encode(), f"{Path.home()}/".encode(), b"PRIVATE KEY-----")
"""What this machine's files may have taken with them."""


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The wheel and the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, check=True, capture_output=True
    )
    (wheel,) = folder.glob("*.whl")
    (source,) = folder.glob("*.tar.gz")
    return zipfile.ZipFile(wheel), tarfile.open(source)


def test_the_wheel_has_the_package_its_weights_and_its_examples_only(archives):
    names = archives[0].namelist()
    assert {name.split("/")[0] for name in names} == {"adain", next(n for n in names if "dist-info" in n).split("/")[0]}
    assert not [name for name in names if UNWANTED.search(name)]
    assert len(names) == len(set(names))
    suffixes = {PurePath(name).suffix for name in names if name.startswith("adain/") and CHECKSUMS not in name}
    assert suffixes == {".py", ".js", ".typed", ".md", ".png", ".jpg", ".safetensors", ".webp"}
    for path in (ROOT / "adain").rglob("*.py"):
        assert path.relative_to(ROOT).as_posix() in names
    for line in archives[0].read(f"adain/checkpoints/{CHECKSUMS}").decode().splitlines():
        assert f"adain/checkpoints/{line.split()[1]}" in names
    examples = {name.removeprefix("adain/examples/") for name in names if name.startswith("adain/examples/")}
    assert examples == {"README.md", *TITLES}, "those of the web page, with their licenses"
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_source_archive_has_what_git_tracks(archives):
    names = {name.partition("/")[2] for name in archives[1].getnames()}
    assert not [name for name in names if UNWANTED.search(name)]
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    tracked = {name for name in listing.stdout.split("\0") if name}
    assert names - tracked == {"PKG-INFO"}
    assert {name.split("/")[0] for name in tracked - names} <= {".ci", ".github", ".pre-commit-config.yaml"}


def test_no_archive_has_private_paths_or_keys(archives):
    wheel, source = archives
    contents = {name: wheel.read(name) for name in wheel.namelist()}
    for member in source.getmembers():
        if member.isfile() and Path(member.name).name != Path(__file__).name:
            contents[member.name] = source.extractfile(member).read()
    assert not [name for name, data in contents.items() if any(private in data for private in PRIVATE)]
