import inspect
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from adain import cli
from tests.conftest import ROOT


def run(*args, **options):
    return subprocess.run(
        [sys.executable, *map(str, args)], cwd=ROOT, capture_output=True, text=True, check=False, **options
    )


def stylize(*args):
    return cli.main(["stylize", *map(str, args)])


def test_infer_writes_the_picture_and_says_where(examples, tmp_path):
    output = tmp_path / "out.jpg"
    content, style = examples / "content" / "chelsea.png", examples / "style" / "starry_night.jpg"
    pictures = "--content", content, "--style", style, "--output", output
    process = run("infer.py", *pictures, "--alpha", "0.8", "--size", "64", "--style-size", "64")
    assert process.returncode == 0, process.stderr
    assert process.stdout == f"{output}\n"
    with Image.open(output) as image:
        assert image.size == (96, 64)
        assert np.asarray(image).std() > 10, "not a flat picture"


def test_the_default_name_stands_beside_the_content(make_picture, capsys):
    content, style = make_picture("a/c.jpg"), make_picture("b/s.png")
    assert stylize("--content", content, "--style", style, "--quiet") == 0
    assert (content.parent / "c__s.png").exists()
    assert capsys.readouterr().out == ""


def test_several_contents_into_a_folder(make_picture, tmp_path):
    contents = [make_picture(f"{name}.png", seed=i) for i, name in enumerate("ab")]
    styles = [make_picture(f"{name}.png", seed=9 + i) for i, name in enumerate("xy")]
    assert stylize("--content", *contents, "--style", *styles, "--output", tmp_path / "out") == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a__x+y.png", "b__x+y.png"]


def test_a_broken_content_does_not_stop_the_others(make_picture, tmp_path, capsys):
    good, bad = make_picture("good.png"), tmp_path / "bad.png"
    bad.write_text("no picture")
    assert stylize("--content", bad, good, "--style", good, "--output", tmp_path / "out") == 1
    assert (tmp_path / "out" / "good__good.png").exists()
    assert "bad.png is not a readable picture" in capsys.readouterr().err
    assert stylize("--content", bad, "--style", good, "--output", tmp_path / "out") == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--alpha": "1.5"}, "alpha lies between 0"),
        ({"--alpha": "much"}, "alpha"),
        ({"--content": "missing.png"}, "missing.png: no such file"),
        ({"--output": "out.xyz"}, "must end in one of .png"),
        ({"--output": "CONTENT"}, "is an input and would be overwritten"),
        ({"--method": "magic"}, "the methods are adain"),
        ({"--checkpoint": "missing.safetensors"}, "neither a file of weights nor a method"),
        ({"--device": "tpu"}, "device tpu cannot be used here"),
        ({"--precision": "int4"}, "precision"),
        ({"--size": "0"}, "at least 1 pixel"),
        ({"--sise": "5"}, "--sise"),
    ],
    ids=lambda value: "".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_wrong_input_is_one_line_and_exit_code_2(make_picture, tmp_path, capsys, changes, message):
    content = make_picture("c.png")
    before = content.read_bytes()
    flags = {"--content": content, "--style": content, "--output": tmp_path / "out.png", **changes}
    if flags["--output"] == "CONTENT":
        flags["--output"] = content
    try:
        code = stylize(*(str(part) for pair in flags.items() for part in pair))
    except SystemExit as stop:
        code = stop.code
    errors = capsys.readouterr().err
    assert code == 2
    assert errors.count("\n") == 1
    assert message in errors
    assert content.read_bytes() == before
    assert list(tmp_path.iterdir()) == [content], "nothing is half written"


def test_two_contents_never_share_an_output(make_picture, capsys, tmp_path):
    a, b = make_picture("1/c.png"), make_picture("2/c.png")
    assert stylize("--content", a, b, "--style", a, "--output", tmp_path / "out") == 2
    assert "several contents would be written to one output" in capsys.readouterr().err


def test_grid_paints_all_and_a_sheet(make_picture, tmp_path):
    for name in ("c/a.png", "c/b.png", "s/x.png"):
        make_picture(name)
    assert (
        cli.main(["grid", "--content", f"{tmp_path}/c", "--style", f"{tmp_path}/s", "--output", f"{tmp_path}/o"]) == 0
    )
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["a__x.png", "b__x.png", "sheet.png"]


def test_help_and_unknown_commands(capsys):
    assert cli.main(["--help"]) == 0
    usage = capsys.readouterr().out
    assert all(name in usage for name in (*cli.COMMANDS, "train"))
    assert cli.main(["paint"]) == 2
    assert cli.main([]) == 2


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_flag_is_explained(name, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([name, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for parameter in inspect.signature(cli.COMMANDS[name]).parameters.keys() - {"settings"}:
        assert f"--{parameter.replace('_', '-')}" in text
    assert "None" not in text


def test_help_does_not_wait_for_torch_nor_stylising_for_lightning():
    code = "import sys, adain.cli as c; c.Parser.of(c.stylize, 'x'); assert 'torch' not in sys.modules"
    assert run("-c", code).returncode == 0
    heavy = "{'pytorch_lightning', 'lightning', 'datasets', 'torchvision', 'tensorboard'}"
    code = f"import sys, adain; adain.prepare(); assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    process = run("-c", code)
    assert process.returncode == 0, process.stderr
