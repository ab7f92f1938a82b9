"""Files that earlier versions wrote still load. `fixtures/saved` holds a tiny training run and what was made with it.

The run has two steps, from its `config.yaml`, with averaged weights. Its checkpoint became `tiny.safetensors`,
`code.safetensors` is the code of the first style, and `results` is a folder run over all pairs.
"""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import ImageChops

from adain.imaging import reader, writer
from adain.inference import pipeline, preparation
from adain.methods import weights
from tests.conftest import exit_code
from tests.launcher import Run

SAVED = Path(__file__).parent / "fixtures" / "saved"
RESULTS = sorted(path.name for path in (SAVED / "results").glob("*.png"))


@pytest.fixture
def saved(tmp_path, monkeypatch):
    """A copy of the files, with the modification times that the manifest knows, as the current folder."""
    shutil.copytree(SAVED, tmp_path / "saved")
    for line in (SAVED / "results" / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        for side in ("content", "style"):
            modified = row[f"{side}_stamp"][1]
            os.utime(tmp_path / "saved" / side / row[side], (modified, modified))
    monkeypatch.chdir(tmp_path / "saved")
    return tmp_path / "saved"


def difference(path, other):
    """The largest difference of two pictures, of 255."""
    return max(high for _, high in ImageChops.difference(reader.read(path), reader.read(other)).getextrema())


@pytest.mark.parametrize("name", ["run/last.ckpt", "tiny.safetensors"])
def test_weights_make_the_same_results(saved, name):
    method = preparation.prepare(saved / name, "cpu", "fp32")
    for result in RESULTS:
        content, style = result.removesuffix(".png").split("__")
        content, style = saved / "content" / f"{content}.png", saved / "style" / f"{style}.png"
        writer.save(pipeline.stylize(content, style, method), "again.png")
        assert difference("again.png", saved / "results" / result) <= 1


def test_a_style_code_makes_the_same_result(saved):
    method = weights.load(saved / "tiny.safetensors")
    writer.save(pipeline.stylize(saved / "content" / "1.png", saved / "code.safetensors", method), "again.png")
    assert difference("again.png", saved / "results" / "1__0.png") <= 1


def test_a_folder_run_finds_its_results_done(saved):
    before = {name: (saved / "results" / name).stat().st_mtime_ns for name in RESULTS}
    words = ("--content", "content", "--style", "style", "--output", "results", "--checkpoint", "tiny.safetensors")
    assert exit_code("stylize", *words, "--quiet") == 0
    assert {name: (saved / "results" / name).stat().st_mtime_ns for name in RESULTS} == before


def test_a_run_is_resumed_from_its_configuration(saved):
    words = ("--config", "run/config.yaml", "--ckpt_path", "run/last.ckpt", "--trainer.max_steps", "3")
    run = Run(["fit", *words], {}, folder=saved)
    output, errors = run.communicate(timeout=120)
    assert run.returncode == 0, output + errors
    before, after = (torch.load(path, weights_only=True) for path in (SAVED / "run/last.ckpt", saved / "run/last.ckpt"))
    assert (before["global_step"], after["global_step"]) == (2, 3)
    changed = [not torch.equal(value, after["state_dict"][name]) for name, value in before["state_dict"].items()]
    assert any(changed)
    assert after["Pictures"] == before["Pictures"], "where the data stand is under the name of the data module"
