import dataclasses
import inspect
import re
import subprocess
import sys
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import adain
from adain.cli import main, parser
from adain.evaluation import peak_memory
from adain.imaging import reader
from adain.methods import METHODS, style_codes
from adain.models.backbones import BACKBONES
from tests.conftest import ROOT, exit_code, picture_of_bytes


def run(*args, **options):
    return subprocess.run(
        [sys.executable, *map(str, args)], cwd=ROOT, capture_output=True, check=False, **{"text": True, **options}
    )


stylize = partial(exit_code, "stylize")


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
    assert "bad.png is not a readable image" in capsys.readouterr().err
    assert stylize("--content", bad, "--style", good, "--output", tmp_path / "out") == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--alpha": "1.5"}, "alpha must be between 0"),
        ({"--alpha": "much"}, "alpha"),
        ({"--content": "missing.png"}, "missing.png: no such file"),
        ({"--output": "out.xyz"}, "Expected a name that ends in one of .png"),
        ({"--output": "CONTENT"}, "is an input and would be overwritten"),
        ({"--method": "magic"}, "unknown method magic; choose from adain"),
        ({"--checkpoint": "missing.safetensors"}, "neither a file of weights nor a method"),
        ({"--device": "tpu"}, "device tpu cannot be used here"),
        ({"--device": "hpu"}, "device hpu cannot be used here"),
        ({"--device": "privateuseone"}, "device privateuseone cannot be used here"),
        ({"--device": "meta"}, "device meta cannot be used here (it computes no values); choose auto, cpu"),
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
    assert stylize(*(part for pair in flags.items() for part in pair)) == 2
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert message in errors
    assert content.read_bytes() == before
    assert list(tmp_path.iterdir()) == [content], "nothing is half written"


def test_two_contents_never_share_an_output(make_picture, capsys, tmp_path):
    a, b = make_picture("1/c.png"), make_picture("2/c.png")
    assert stylize("--content", a, b, "--style", a, "--output", tmp_path / "out") == 2
    assert "several contents would be written to one output" in capsys.readouterr().err


LITE = ("--method", "adain-lite", "--quiet", "--device", "cpu")


def test_masks_strengths_and_colors(make_picture, tmp_path):
    content, a, b = (make_picture(f"{name}.png", seed=i) for i, name in enumerate("cab"))
    mask = tmp_path / "mask.png"
    Image.fromarray(np.tile(np.repeat(np.uint8([255, 0]), 24), (40, 1))).save(mask)
    inverse = tmp_path / "inverse.png"
    Image.fromarray(np.tile(np.repeat(np.uint8([0, 255]), 24), (40, 1))).save(inverse)
    flags = "--content", content, "--style", a, b, *LITE
    parts = "--mask", mask, inverse, "--feather", "2", "--alpha", "1", "0.3"
    assert stylize(*flags, *parts, "--color", "keep-luminance", "--output", tmp_path / "1.png") == 0
    assert stylize(*flags, "--style-weight", "1", "3", "--photorealistic", "--output", tmp_path / "2.png") == 0
    with Image.open(tmp_path / "1.png") as one, Image.open(tmp_path / "2.png") as two:
        assert one.size == two.size == (48, 40)
        assert one.tobytes() != two.tobytes()


def test_a_mask_that_does_not_fit_one_content_leaves_the_others(make_picture, tmp_path, capsys):
    wide, other, tall = make_picture("wide.png"), make_picture("other.png"), make_picture("tall.png", (40, 90))
    mask = tmp_path / "mask.png"
    Image.new("L", (48, 40), 255).save(mask)
    flags = "--style", wide, "--mask", mask, *LITE, "--output", tmp_path / "out"
    assert stylize("--content", wide, tall, other, *flags) == 1
    reason = f"{tall}: Expected a mask of the aspect ratio of the content, 40x90, got 48x40\n"
    assert capsys.readouterr().err == f"adain: error: {reason}"
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"wide__wide.png", "other__wide.png"}


def test_if_all_contents_fail_every_reason_is_printed(make_picture, tmp_path, capsys):
    style, tall = make_picture("style.png"), make_picture("tall.png", (40, 90))
    broken, mask = tmp_path / "broken.png", tmp_path / "mask.png"
    broken.write_text("no picture")
    Image.new("L", (48, 40), 255).save(mask)
    flags = "--style", style, "--mask", mask, *LITE, "--output", tmp_path / "out"
    assert stylize("--content", tall, broken, *flags) == 2
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 2
    assert errors[0].startswith(f"adain: error: {tall}: Expected a mask of the aspect ratio")
    assert errors[1].startswith(f"adain: error: {broken} is not a readable image")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes.")],
    ids=["numpy", "torch"],
)
def test_too_little_memory_for_one_content_leaves_the_others(make_picture, tmp_path, capsys, monkeypatch, error):
    large, small = make_picture("large.png", (60, 40)), make_picture("small.png")
    load = reader.load

    def limited(path, *args, **options):
        if path == large:
            raise error
        return load(path, *args, **options)

    monkeypatch.setattr(reader, "load", limited)
    assert stylize("--content", large, small, "--style", small, *LITE, "--output", tmp_path / "out") == 1
    assert capsys.readouterr().err.startswith(f"adain: error: {large}: out of memory; a smaller --size")
    assert stylize("--content", large, "--style", small, *LITE, "--output", tmp_path / "out") == 2


@pytest.mark.parametrize("part", ["style", "mask"])
@pytest.mark.parametrize("flags", [(), ("--color", "coral")], ids=["encoded-once", "encoded-per-content"])
def test_truncated_and_max_pixels_reach_styles_and_masks(make_picture, tmp_path, capsys, part, flags):
    pictures = {"content": make_picture("c.png"), "style": make_picture("s.png"), "mask": make_picture("m.png")}
    large = make_picture("large.png", (96, 80))
    cut = tmp_path / "cut.png"
    cut.write_bytes(large.read_bytes()[: large.stat().st_size // 2])
    for bad, flag, message in [(large, ("--max-pixels", "3000"), "over the limit"), (cut, (), "truncated")]:
        given = [word for name, path in (pictures | {part: bad}).items() for word in (f"--{name}", path)]
        assert stylize(*given, *flag, *flags, *LITE, "--output", tmp_path / "out.png") == 2
        errors = capsys.readouterr().err
        assert errors.count("\n") == 1
        assert f"{bad} is not a readable image" in errors
        assert message in errors
    assert stylize(*given, "--truncated", *flags, *LITE, "--output", tmp_path / "out.png") == 0


def test_truncated_and_max_pixels_reach_the_styles_of_a_folder(make_picture, tmp_path):
    content = make_picture("c/c.png").parent
    large = make_picture("s/large.png", (96, 80))
    cut = large.with_name("cut.png")
    cut.write_bytes(large.read_bytes()[: large.stat().st_size // 2])
    given = "--content", content, "--style", large.parent, *LITE, "--workers", "0", "--output", tmp_path / "out"
    assert stylize(*given, "--max-pixels", "3000", "--truncated") == 1
    assert not list(tmp_path.glob("out/*.png"))
    for color in ("style", "coral"):
        assert stylize(*given, "--color", color, "--truncated") == 0


def test_results_have_the_limit_of_inputs(make_picture, tmp_path, capsys):
    content = make_picture("c.png", (48, 40))
    flags = "--content", content, "--style", content, *LITE, "--output", tmp_path / "out"
    assert stylize(*flags, "--size", "300000") == 2
    expected = "the result would have 360000 x 300000 pixels, over the limit of 536870912; use a smaller --size"
    assert capsys.readouterr().err.startswith(f"adain: error: {content}: {expected}")
    assert stylize(*flags, "--size", "20", "--max-pixels", "1920") == 0


def test_a_folder_leaves_out_too_large_results_and_values_that_are_not_finite(make_picture, tmp_path, capsys):
    make_picture("c/long.png", (600, 40))
    make_picture("c/short.png")
    Image.fromarray(np.full((40, 48), np.nan, np.float32)).save(tmp_path / "c" / "nan.tif")
    style = make_picture("s/style.png").parent
    flags = "--max-pixels", "24000", "--size", "50", "--workers", "0"
    assert stylize("--content", tmp_path / "c", "--style", style, *LITE, *flags, "--output", tmp_path / "out") == 1
    errors = sorted(capsys.readouterr().err.splitlines())
    assert "long.png: the result would have 750 x 50 pixels, over the limit of 24000" in errors[0]
    assert "nan.tif is not a readable image (expected finite values, got NaN or infinity)" in errors[1]
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["short__style.png"]


def test_a_style_kept_as_a_file_through_pipes(make_picture, tmp_path, monkeypatch, capfdbinary):
    content, style, code = make_picture("c.png"), make_picture("s.png", seed=1), tmp_path / "s.safetensors"
    kept = "encode-style", "--style", style, "--output", code, "--method", "adain-lite"
    assert main.main([*map(str, kept)]) == 0
    assert stylize("--content", content, "--style", code, *LITE, "--output", tmp_path / "out.png") == 0
    flags = "--content", "-", "--style", code, *LITE
    capfdbinary.readouterr()
    with content.open() as file:
        monkeypatch.setattr(sys, "stdin", file)
        assert stylize(*flags) == 0
    with Image.open(BytesIO(capfdbinary.readouterr().out)) as piped, Image.open(tmp_path / "out.png") as written:
        assert piped.tobytes() == written.tobytes()


def test_a_folder(make_picture, tmp_path, capsys):
    for name in ("c/x/a.png", "c/b.png", "s/1.png", "s/2.png"):
        make_picture(name)
    (tmp_path / "c" / "bad.png").write_text("no picture")
    folders = "--content", tmp_path / "c", "--style", tmp_path / "s", "--output", tmp_path / "out"
    assert stylize(*folders, *LITE, "--workers", "0") == 1
    bad = tmp_path / "c" / "bad.png"
    reason = "is not a readable image (unsupported format, or not an image)"
    assert capsys.readouterr().err == f"adain: error: {bad} {reason}\n"
    stylized = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")}
    assert stylized == {"b__1.png", "b__2.png", "x/a__1.png", "x/a__2.png"}
    assert stylize(*folders, *LITE, "--mask", tmp_path / "s" / "1.png") == 2
    assert "--mask cannot be used with a folder of contents" in capsys.readouterr().err
    assert stylize("--content", tmp_path / "c", "--style", tmp_path / "s", *LITE) == 2
    assert "Expected a folder as --output" in capsys.readouterr().err
    assert stylize("--content", tmp_path / "c" / "b.png", "--style", tmp_path / "s" / "1.png", "--pairs", "all") == 2
    assert "with --pairs" in capsys.readouterr().err


def test_methods_without_weights_have_their_settings_as_flags():
    assert [name for name, kind in METHODS.items() if not kind.trained] == [*main.SETTINGS]


def test_grid_paints_all_and_a_sheet(make_picture, tmp_path):
    for name in ("c/a.png", "c/b.png", "s/x.png"):
        make_picture(name)
    assert (
        main.main(["grid", "--content", f"{tmp_path}/c", "--style", f"{tmp_path}/s", "--output", f"{tmp_path}/o"]) == 0
    )
    assert sorted(path.name for path in (tmp_path / "o").iterdir()) == ["a__x.png", "b__x.png", "sheet.png"]


def test_grid_takes_a_checkpoint_colors_a_device_and_a_place_for_the_sheet(make_picture, tmp_path, capsys):
    folders = [
        f"--{name}={make_picture(f'{name}/a.png', seed=seed).parent}" for seed, name in enumerate(("content", "style"))
    ]
    weights = ["--checkpoint", str(ROOT / "checkpoints" / "adain_lite.safetensors")]
    results = []
    for color in ("style", "keep-luminance"):
        output, sheet = tmp_path / f"out-{color}", tmp_path / "sheets" / f"{color}.jpg"
        flags = [f"--output={output}", f"--sheet={sheet}", f"--color={color}", "--device=cpu"]
        assert main.main(["grid", *folders, *weights, *flags]) == 0
        assert sheet.exists()
        assert [path.name for path in output.iterdir()] == ["a__a.png"]
        results.append(reader.load_image(output / "a__a.png"))
    paths = tmp_path / "content" / "a.png", tmp_path / "style" / "a.png"
    expected = adain.stylize(*paths, "adain-lite", device="cpu")
    assert (results[0] - expected).abs().max() < 0.51 / 255
    assert (results[1] - results[0]).abs().max() > 10 / 255
    assert main.main(["grid", *folders, "--output", str(tmp_path / "o"), "--sheet", "sheet.txt"]) == 2
    assert main.main(["grid", *folders, "--output", str(tmp_path / "o"), "--method", "wct", *weights]) == 2
    assert not (tmp_path / "o").exists(), "refused before anything is written"


def test_help_and_unknown_commands(capsys):
    assert main.main(["--help"]) == 0
    usage = capsys.readouterr().out
    assert all(name in usage for name in (*main.COMMANDS, "train"))
    assert main.main(["stylise"]) == 2
    assert "adain: error: unknown command stylise; did you mean stylize?" in capsys.readouterr().err
    assert main.main(["--foo"]) == 2
    assert capsys.readouterr().err == "adain: error: unknown flag --foo; see adain --help\n"
    assert main.main(["--versoin"]) == 2
    assert "unknown flag --versoin; did you mean --version? See adain --help" in capsys.readouterr().err
    assert main.main([]) == 2
    assert main.main(["--version"]) == 0
    assert capsys.readouterr().out == f"adain {adain.__version__}\n"


def test_a_mistyped_flag_is_answered_with_a_similar_one(capsys):
    with pytest.raises(SystemExit) as stop:
        main.main(["stylize", "--content", "a.png", "--styel", "b.png"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "did you mean --style? See adain stylize --help" in error
    assert error.count("\n") == 1


def test_photo_and_painting_need_no_flags(make_picture, tmp_path):
    photo, painting = make_picture("photo.png"), make_picture("painting.png", seed=1)
    for words, name in (
        ([photo, painting], "positional.png"),
        (["--content", photo, "--style", painting], "flags.png"),
    ):
        assert exit_code("stylize", *words, *LITE, "--output", tmp_path / name) == 0
    assert (tmp_path / "positional.png").read_bytes() == (tmp_path / "flags.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--size", "128", "a.png", "b.jpg"],
            "Expected PHOTO PAINTING first, before all flags, got a.png after a flag",
        ),
        (["a.png", "--quiet", "b.jpg"], "Expected PHOTO PAINTING first, before all flags, got b.jpg after a flag"),
        (["a.png", "b.jpg", "c.jpg"], "Expected PHOTO PAINTING, got 3 words; for several images, use --content and"),
    ],
    ids=["both", "painting", "three"],
)
def test_photo_and_painting_at_a_wrong_place(words, message, capsys):
    assert stylize(*words) == 2
    errors = capsys.readouterr().err
    assert errors.startswith(f"adain: error: {message}")
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "flag"),
    [(["", "b.png"], "--content"), (["a.png", ""], "--style"), (["a.png", "b.png", "--output", ""], "--output")],
)
def test_empty_names_are_refused(words, flag, capsys):
    assert stylize(*words) == 2
    expected = f"Expected a value for {flag}, got an empty one; a shell variable may not be set"
    assert capsys.readouterr().err == f"adain: error: {expected}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="names are text")
def test_names_that_are_no_text_stop_no_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    picture_of_bytes(Path("c/caf\udce9.png"))
    picture_of_bytes(Path("c/z.png"))
    picture_of_bytes(Path("s/\udce8.png"), seed=1)
    flags = [*LITE[:2], *LITE[3:], "--size", "16", "--style", "s/\udce8.png", "--output", "out"]
    assert stylize("--content", "c/caf\udce9.png", "c/z.png", *flags) == 0
    assert capsys.readouterr().out == "out/caf\\udce9__\\udce8.png\nout/z__\\udce8.png\n"
    assert len([*Path("out").iterdir()]) == 2
    folders = [*flags[:-1], "folder", "--content", "c", "--workers", "0"]
    assert stylize(*folders) == 0
    made = {path: path.stat().st_mtime_ns for path in Path("folder").iterdir()}
    assert {path.name for path in made} == {"caf\udce9__\udce8.png", "z__\udce8.png", "manifest.jsonl"}
    assert stylize(*folders) == 0
    assert {path: path.stat().st_mtime_ns for path in Path("folder").iterdir()} == made, "the manifest was read back"


TEXT_FLAGS = [
    (name, flag.name)
    for name, command in main.COMMANDS.items()
    for flag in parser.flags_of(command)
    if "str" in str(flag.type) and "dict" not in str(flag.type)
]


@pytest.mark.parametrize(("command", "flag"), TEXT_FLAGS)
def test_every_flag_of_text_refuses_an_empty_one(command, flag):
    values = {}
    for other in parser.flags_of(main.COMMANDS[command]):
        if other.default is inspect.Parameter.empty:
            values[other.name] = "a"
    words = []
    for name, value in {**values, flag: ""}.items():
        words += [main.flag_name(name), value]
    with pytest.raises(ValueError, match=f"Expected a value for {main.flag_name(flag)}, got an empty one"):
        main.parse_flags(main.COMMANDS[command], words, "adain")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--style-weight", "1", "2"], "Expected one style weight for each style, got 2 for 1 style"),
        (["--alpha", "0.2", "0.3"], "Expected one alpha for all styles or one for each, got 2 for 1 style"),
        (["--method", "gatys", "--gatys.steps", "-3"], "--gatys.steps must be at least 1, got -3"),
        (["--method", "gatys", "--gatys.history", "0"], "--gatys.history must be at least 1, got 0"),
        (
            ["--method", "johnson", "--style-size", "64"],
            "Johnson has one built-in style, the one it was trained on; leave out --style, --style-size",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_of_the_library_name_flags_as_they_are_typed(flags, message, make_picture, capsys):
    picture = make_picture()
    assert stylize("--content", picture, "--style", picture, "--device", "cpu", *flags) == 2
    assert f"{message}\n" in capsys.readouterr().err


def test_sweep_suggests_a_similar_option(make_picture, tmp_path, capsys):
    folder = make_picture("c/a.png").parent
    flags = "--content", folder, "--style", folder, "--output", tmp_path / "out"
    for name, similar in (("sz", "size"), ("step", "steps")):
        assert exit_code("sweep", *flags, "--vary", f"{{{name}: [1]}}") == 2
        expected = f"unknown option {name}; did you mean {similar}?"
        assert capsys.readouterr().err == f"adain: error: {expected}\n"


def test_urls_are_refused(make_picture, capsys):
    assert exit_code("stylize", make_picture(), "https://example.com/painting.jpg") == 2
    assert "Expected a file, got the URL https://example.com/painting.jpg; download it first" in capsys.readouterr().err


@pytest.mark.parametrize("name", main.COMMANDS)
def test_every_flag_is_explained(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main.main([name, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for parameter in inspect.signature(main.COMMANDS[name]).parameters.values():
        kind = parameter.annotation
        names = (
            [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else [parameter.name]
        )
        for flag in {*names} - {"settings"}:
            assert f"--{flag.replace('_', '-')}" in text
    assert not re.search(r"None|null\)|typing|Union|Literal", text)


def test_help_is_grouped_by_topic(capsys):
    assert exit_code("stylize", "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: adain stylize PHOTO PAINTING [flags]\n")
    headings = re.findall(r"^(\S.*):$", text, re.MULTILINE)
    assert headings[:3] == ["Input and output", "Method", "Strength, strokes, and colors"]
    assert headings[-1] == "Other flags"
    assert "Settings of gatys" not in headings
    assert exit_code("stylize", "--method", "gatys", "--help") == 0
    text = capsys.readouterr().out
    assert "\nSettings of gatys:\n" in text
    assert "(default: [relu1_1,relu2_1,relu3_1,relu4_1,relu5_1])" in " ".join(text.split())


def test_every_flag_has_a_topic():
    flags = {flag.name for command in main.COMMANDS.values() for flag in parser.flags_of(command)}
    assert flags == {name for names in parser.TOPICS.values() for name in names}


def test_every_command_has_a_topic():
    assert sorted(name for names in main.TOPICS.values() for name in names) == sorted([*main.COMMANDS, "train"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--size", "big"], "Expected --size to be a whole number, got big"),
        (["--style-size", "x"], "Expected --style-size to be a whole number or content, got x"),
        (["--precision", "int4"], "Expected --precision to be auto, fp32, bf16 or fp16, got int4"),
        (["--alpha", "1", "x"], "Expected --alpha to be a number, got x"),
        (["--alpha"], "Expected a value after --alpha, got none"),
        (["--gatys.steps", "4"], "unknown flag --gatys.steps"),
        (["--siz", "64"], "unknown flag --siz; did you mean --size?"),
        (["--alpha", "2"], "--alpha must be between 0 (the content) and 1 (the style), got 2"),
        (["--work-size", "5"], "--work-size must be content or at least 64 pixels, got 5"),
        (["--method", "gatys", "--gatys.steps", "x"], "Expected --gatys.steps to be a whole number, got x"),
        (["--method", "gatys", "--gatys.style_layers", "x"], "Expected --gatys.style_layers to be a list, such as"),
        (["--max-memory", "-1"], "--max-memory must be positive, in GiB, got -1"),
        (["--config", "missing.yaml"], "missing.yaml: no such file; see adain stylize --help"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_have_one_prefix_and_name_flags_as_they_are_typed(flags, message, capsys):
    assert stylize("--content", "a.png", "--style", "b.png", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"adain: error: {message}")
    assert error.count("\n") == 1


def test_required_flags_are_named(capsys):
    assert exit_code("grid", "--content", "a") == 2
    assert capsys.readouterr().err.startswith("adain: error: Expected --style, --output, got none; see adain grid")
    assert exit_code("stylize") == 2
    assert capsys.readouterr().err == "adain: error: Expected PHOTO PAINTING, got none; see adain stylize --help\n"


def test_list_names_methods_backbones_and_weights_with_their_licenses(capsys):
    assert exit_code("list") == 0
    text = capsys.readouterr().out
    assert all(f"\n  {name} " in text for name in (*METHODS, *BACKBONES))
    for path in (ROOT / "checkpoints").glob("*.safetensors"):
        size = f"{path.stat().st_size / 1e6:.1f} MB"
        assert re.search(rf"^  {path.name} +{size} +\S", text, re.MULTILINE)
    assert "CC BY 4.0 (Oxford Visual Geometry Group)" in text
    assert "not stated" not in text


@pytest.mark.usefixtures("small_metrics")
@pytest.mark.parametrize("command", [("evaluate", "--method", "johnson"), ("sweep", "--vary", "{method: [johnson]}")])
def test_networks_of_one_style_are_compared_with_the_styles(command, make_picture, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("adain.evaluation.evaluate.peak_memory", peak_memory._stylize_one)  # in this process
    images = "--content", make_picture("content/a.png"), "--style", make_picture("style/b.png", seed=1)
    assert exit_code(*command, *images, "--size", "64", "--device", "cpu", "--output", tmp_path / "out") == 0
    assert re.search(r"johnson \| 1 \| \d", capsys.readouterr().out)


@pytest.mark.usefixtures("no_memory_probe")
def test_evaluate_takes_a_size(make_picture, tmp_path, capsys):
    content, style = make_picture("c/a.png"), make_picture("s/b.png", seed=1)
    tables = []
    for size in ("64", "96"):
        flags = "--content", content, "--style", style, "--output", tmp_path / size, "--size", size
        assert exit_code("evaluate", *flags, "--method", "adain-lite", "--device", "cpu") == 0
        tables.append((tmp_path / size / "figures.csv").read_text())
    assert tables[0] != tables[1]
    assert exit_code("evaluate", *flags[:-1], "32") == 2
    assert "--size of at least 64" in capsys.readouterr().err
    assert exit_code("evaluate", *flags, "--flicker") == 2
    assert "Expected no --size with --flicker, got 96" in capsys.readouterr().err


def test_help_does_not_wait_for_torch_nor_stylizing_for_lightning():
    code = "import sys; from adain.cli.commands import COMMANDS; from adain.cli.parser import Parser; "
    code += "Parser.of(COMMANDS['stylize'], 'x'); assert 'torch' not in sys.modules"
    assert run("-c", code).returncode == 0
    heavy = "{'gradio', 'pytorch_lightning', 'lightning', 'datasets', 'torchvision', 'tensorboard'}"
    code = f"import sys, adain; adain.prepare(); assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    process = run("-c", code)
    assert process.returncode == 0, process.stderr


def test_ctrl_c_ends_with_a_line(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert main.guarded(interrupted) == 130
    assert capsys.readouterr().err == "adain: interrupted\n"


def test_encode_style_stores_a_mixture(make_picture, tmp_path):
    styles = [make_picture("a.png"), make_picture("b.png", seed=1)]
    words = "--style", *styles, "--style-weight", 3, 1, "--method", "adain-lite", "--output"
    assert exit_code("encode-style", *words, tmp_path / "mixture.safetensors") == 0
    method = adain.prepare("adain-lite", "cpu", "fp32")
    expected = adain.encode_style(method, styles, style_weight=[3, 1])
    found = style_codes.load_code(tmp_path / "mixture.safetensors", method)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


def test_printed_flags_are_a_configuration(capsys, tmp_path):
    words = ["stylize", "photo.png", "painting.jpg", "--alpha", "0.5", "--color", "coral"]
    assert exit_code(*words, "--print_config") == 0
    first = capsys.readouterr().out
    (tmp_path / "flags.yaml").write_text(first)
    assert exit_code("stylize", "--config", tmp_path / "flags.yaml", "--print_config") == 0
    again = yaml.safe_load(capsys.readouterr().out)
    assert yaml.safe_load(first).items() <= again.items()
    assert (again["alpha"], again["color"]) == ([0.5], "coral")
