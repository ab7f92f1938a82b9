"""The contents of the wheel and of the source archive."""

import re
import subprocess
import sys
import tarfile
import zipfile

import pytest

from adain.models.checkpoint_io import CHECKSUMS
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

UNWANTED = re.compile(
    r"__pycache__|\.pyc$|\.git(/|$)|\.venv|\.env$|_cache|\.ckpt$|(^|/)(out|shared|lightning_logs)/|\.pem$|id_rsa"
)
PRIVATE = re.compile(rb"/(home|root|Users|work)/\w|BEGIN [A-Z ]*PRIVATE KEY")


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


def test_the_wheel_has_the_package_and_its_weights_only(archives):
    names = archives[0].namelist()
    assert {name.split("/")[0] for name in names} == {"adain", next(n for n in names if "dist-info" in n).split("/")[0]}
    assert not [name for name in names if UNWANTED.search(name)]
    assert len(names) == len(set(names))
    suffixes = {name.rsplit(".", 1)[-1] for name in names if name.startswith("adain/")}
    assert suffixes <= {
        "py",
        "typed",
        "md",
        "png",
        "safetensors",
        "html",
        "js",
        "css",
        f"adain/checkpoints/{CHECKSUMS}",
    }
    for path in (ROOT / "adain").rglob("*.py"):
        assert path.relative_to(ROOT).as_posix() in names
    for line in archives[0].read(f"adain/checkpoints/{CHECKSUMS}").decode().splitlines():
        assert f"adain/checkpoints/{line.split()[1]}" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_the_source_archive_has_what_git_tracks(archives):
    names = {name.partition("/")[2] for name in archives[1].getnames()}
    assert not [name for name in names if UNWANTED.search(name)]
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    tracked = {name for name in listing.stdout.split("\0") if name}
    assert names - tracked == {"PKG-INFO"}
    assert {name.split("/")[0] for name in tracked - names} <= {".ci", ".pre-commit-config.yaml"}


def test_no_archive_has_private_paths_or_keys(archives):
    wheel, source = archives
    for name in wheel.namelist():
        if not name.endswith((".safetensors", ".png")):
            assert not PRIVATE.search(wheel.read(name)), name
    for member in source.getmembers():
        if member.isfile() and not member.name.endswith((".safetensors", ".png", ".jpg", ".whl")):
            text = source.extractfile(member).read()
            assert not PRIVATE.search(text) or "/tests/" in member.name, member.name
