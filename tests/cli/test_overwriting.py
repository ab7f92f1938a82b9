"""No command overwrites what it reads."""

import os
from pathlib import Path

import pytest

from adain.cli import main
from adain.evaluation import evaluate, flicker, grid, protocol
from tests.conftest import ROOT

LITE = ROOT / "checkpoints" / "adain_lite.safetensors"


@pytest.fixture
def folder(make_picture, tmp_path, monkeypatch):
    """The current folder, with contents, styles, weights, and earlier results."""
    names = ("c/a.png", "c/sheet.png", "s/b.png", "out/a__b.png", "out/sheet__b.png")
    for i, name in enumerate(names):
        make_picture(name, seed=i)
    monkeypatch.chdir(tmp_path)
    Path("w.safetensors").write_bytes(LITE.read_bytes())
    Path("losses.csv").write_text("content,style\na.png,b.png\n")
    return tmp_path


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


GRID = "grid", "--method", "adain-lite", "--content", "c", "--style", "s", "--output"
EVALUATE = "evaluate", "--method", "adain-lite", "--content", "c", "--style", "s", "--output"
SWEEP = "sweep", "--vary", "{optimizer: [adam]}", "--content", "c", "--style", "s", "--output"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ([*GRID, "c"], "c/sheet.png"),
        ([*GRID, "c/../c"], "c/../c/sheet.png"),
        ([*GRID, "new", "--sheet", "s/b.png"], "s/b.png"),
        (["grid", "--method", "out", *GRID[3:], "out"], "out/a__b.png"),
        ([*EVALUATE, "c"], "c/sheet.png"),
        ([*EVALUATE, "c", "--flicker"], "c/sheet.png"),
        ([*SWEEP, "c", "--pairs", "losses.csv"], "c/sheet.png"),
        ([*SWEEP, ".", "--pairs", "losses.csv"], "losses.csv"),
        (
            ["encode-style", "--style", "s/b.png", "--checkpoint", "w.safetensors", "--output", "./w.safetensors"],
            "./w.safetensors",
        ),
        (["encode-style", "--style", "s", "--method", "w.safetensors", "--output", "w.safetensors"], "w.safetensors"),
        (["convert", "--source", "w.safetensors", "--output", "w.safetensors"], "w.safetensors"),
        (["export", "--checkpoint", "w.safetensors", "--output", "link.onnx"], "link.onnx"),
        (
            ["stylize-dataset", "--content", "c", "--style", "s/b.png", "--output", "new", "--report", "s/b.png"],
            "s/b.png",
        ),
        (
            ["stylize", "--method", "gatys", "--content", "losses.png", "--style", "s/b.png", "--log", "."],
            "losses.png",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_inputs_are_not_overwritten(words, named, folder, capsys):
    Path("link.onnx").symlink_to("w.safetensors")
    os.link("c/a.png", "losses.png")
    before = snapshot(folder)
    assert main.main([*words]) == 2
    assert (
        capsys.readouterr().err == f"adain: error: {named} is an input and would be overwritten; name another output\n"
    )
    assert snapshot(folder) == before


def test_a_report_among_the_images_is_refused(folder, capsys):
    words = ["stylize-dataset", "--content", "c", "--output", "new", "--report", "c/new.json"]
    assert main.main(words) == 2
    assert "Expected an output outside of" in (errors := capsys.readouterr().err)
    assert errors.endswith("choose another --report\n")
    assert not Path("new").exists()


def test_a_sheet_is_not_a_result(folder, capsys):
    assert main.main([*GRID, "out", "--sheet", "out/../out/a__b.png"]) == 2
    assert "out/../out/a__b.png is the name of a result, too; name another sheet" in capsys.readouterr().err


@pytest.mark.parametrize("output", ["new", "c/new"])
def test_a_repeated_command_takes_none_of_its_results_for_an_input(output, folder, capsys):
    Path("c/sheet.png").unlink()
    words = [*GRID, output, "--size", "16", "--device", "cpu"]
    assert main.main(words) == 0
    found = snapshot(folder / output)
    assert sorted(path.name for path in found) == ["a__b.png", "sheet.png"]
    assert main.main(words) == 0
    assert snapshot(folder / output) == found
    assert grid.all_pairs("c", "s", output) == [(Path("c/a.png"), Path("s/b.png"))]
    assert [*flicker._clips(Path("c"), Path(output))] == ["c/a.png"]


def test_a_folder_with_results_only(folder):
    Path("p").mkdir()
    Path("out").rename("p/out")
    with pytest.raises(ValueError, match="Expected images in p, found only results of earlier runs"):
        grid.all_pairs("p", "s", "p/out")


def test_the_protocol_does_not_overwrite_weights(folder, monkeypatch):
    Path("figures.csv").write_bytes(LITE.read_bytes())
    variant = grid.Variant("lite", "figures.csv")
    with pytest.raises(ValueError, match=r"figures\.csv is an input and would be overwritten"):
        protocol.evaluate_styleid([variant], "c", "s", ".", protocol.Protocol(1, 1, 64))


def test_losses_are_outputs_of_optimizations_only(folder):
    adam = grid.Variant("adam", "gatys")
    evaluate.check_outputs(folder, [grid.Variant("lite", "adain-lite")], ["losses.csv"])
    with pytest.raises(ValueError, match=r"losses\.csv is an input"):
        evaluate.check_outputs(folder, [adam], ["losses.csv"])
