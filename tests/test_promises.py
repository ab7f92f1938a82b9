"""What the documentation promises of whole commands, checked on files."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from adain.imaging import reader, writer
from adain.imaging.photo import Photo
from adain.methods import METHODS
from tests.conftest import ROOT, exit_code

QUICK = ("--method", "adain-lite", "--device", "cpu", "--precision", "fp32", "--quiet", "--style-size", "32")
HERE = ("--workers", "0")
"""Read the images of a folder in this process."""


@pytest.fixture
def style(make_picture):
    return make_picture("styles/style.png", (40, 40), seed=9)


@pytest.fixture
def photos(tmp_path):
    """A 16-bit PNG with transparency, and a JPEG with EXIF."""
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 65536, (1, 3, 40, 48), generator=generator).to(torch.uint16)
    alpha = torch.full((1, 1, 40, 48), 40000).to(torch.uint16)
    writer.save(pixels, folder / "deep.png", like=Photo(pixels, alpha))
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(
        folder / "camera.jpg", exif=exif
    )
    return folder


@pytest.mark.parametrize("source", ["files", "folder"])
def test_depth_transparency_and_exif_are_kept_for_files_and_folders(photos, style, source, tmp_path):
    out = tmp_path / "out"
    contents = [photos] if source == "folder" else sorted(photos.iterdir())
    workers = HERE if source == "folder" else ()
    assert exit_code("stylize", "--content", *contents, "--style", style, "--output", out, *QUICK, *workers) == 0
    deep = reader.load(out / "deep__style.png")
    assert deep.pixels.dtype == deep.alpha.dtype == torch.uint16
    assert (deep.alpha == 40000).all()
    assert not (deep.pixels.int() % 257 == 0).all(), "more than 8 bits"
    with Image.open(out / "camera__style.png") as image:
        assert image.getexif()[0x010F] == "Maker"


OFFLINE = """
import socket

def refuse(self, address, *_):
    if self.family != socket.AF_UNIX:
        raise AssertionError(f"connects to {address}")

socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda host, *_, **__: refuse(socket.socket(), host)
"""

EACH_METHOD = """
import sys
from adain.cli.main import main
from adain.methods import METHODS

content, style, folder = sys.argv[1:]
for method in METHODS:
    words = ["--content", content, "--output", f"{folder}/{method}.png", "--method", method, "--size", "32"]
    words += [] if method == "johnson" else ["--style", style, "--style-size", "32"]
    words += ["--gatys.steps", "2"] if method == "gatys" else []
    assert main(["stylize", *words, "--device", "cpu"]) == 0, method
"""


def test_no_method_reaches_the_network(make_picture, style, tmp_path):
    out = tmp_path / "out"
    command = [sys.executable, "-c", OFFLINE + EACH_METHOD, make_picture(), style, out]
    process = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=ROOT)
    assert process.returncode == 0, process.stderr
    assert {path.stem for path in out.iterdir()} == METHODS.keys()


def test_the_guard_against_the_network_works():
    code = f"{OFFLINE}\nimport urllib.request; urllib.request.urlopen('http://example.com')"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "connects to example.com" in process.stderr


PEAK = """
import runpy, sys
from pathlib import Path

sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    words = Path("/proc/self/status").read_text().split()
    print(int(words[words.index("VmHWM:") + 1]) / 2**20)
"""
"""Runs a script, and prints the peak memory of the process in GiB."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("method", ["adain", "adain-lite"])
def test_max_memory_bounds_the_peak_of_the_process(make_picture, style, method, tmp_path):
    content, out = make_picture("large.png", (400, 320)), tmp_path / "out.png"
    words = ["--content", content, "--style", style, "--output", out, "--method", method, *QUICK[2:]]

    def run(gib):
        command = [sys.executable, "-c", PEAK, ROOT / "infer.py", *words, "--max-memory", gib]
        return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, cwd=ROOT)

    refused = run(0.01)
    assert refused.returncode == 2
    limit = float(re.search(r"need (\S+) GiB", refused.stderr)[1]) + 0.02
    process = run(limit)
    assert process.returncode == 0, process.stderr
    assert out.exists()
    assert float(process.stdout) < limit


def test_the_manifest_says_what_results_depend_on(photos, style, tmp_path):
    words = "--content", photos, "--style", style.parent, "--output", tmp_path / "out", *QUICK, *HERE
    assert exit_code("stylize", *words) == 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    expected = {"content", "style", "output", "method", "weights", "size", "style_size", "color", "alpha", "work_size"}
    expected |= {"detail", "precision", "seed", "seconds", "bytes", "sha256", "modified_ns"}
    assert all(expected <= row.keys() for row in rows)
    for row in rows:
        path = tmp_path / "out" / row["output"]
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (row["bytes"], row["modified_ns"])
