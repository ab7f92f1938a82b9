import re
import sys
from types import SimpleNamespace

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adain.functional import normalization
from adain.methods import AdaIN, AdaINLite
from adain.training import console, tensorboard
from tests.conftest import exit_code, picture_folders
from tests.launcher import Run

CONFIG = {
    "model": {
        "method": {"class_path": "AdaIN", "init_args": {"layer": "relu2_1"}},
        "loss": {"content_layer": "relu2_1", "style_layers": ["relu1_1", "relu2_1"]},
        "lr": 0.0003,
    },
    "data": {"size": [32, 36], "crop": 32, "batch_size": 2, "val_pairs": 1, "workers": 0},
    "trainer": {
        "max_steps": 4,
        "val_check_interval": 2,
        "log_every_n_steps": 1,
        "accelerator": "cpu",
        "precision": "32-true",
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of four steps, and its folder."""
    base = tmp_path_factory.mktemp("run")
    content, style = picture_folders(base, 4)
    (base / "small.yaml").write_text(yaml.safe_dump(CONFIG))
    sources = ["--data.content", str(content), "--data.style", str(style)]
    words = ["fit", "--config", str(base / "small.yaml"), *sources, "--trainer.default_root_dir", str(base / "runs")]
    process = Run(words, {})
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, output + errors
    return SimpleNamespace(stdout=output, stderr=errors), base / "runs" / "lightning_logs" / "version_0"


@pytest.fixture(scope="module")
def events(run):
    accumulator = EventAccumulator(str(run[1]), size_guidance={"scalars": 0, "images": 0})
    return accumulator.Reload()


def test_a_run_prints_its_folder_twice_and_one_line_of_progress(run):
    process, folder = run
    start = f"Training AdaIN on CPU, 32-true, 4 steps; run: {folder}"
    assert process.stdout.splitlines() == [start, f"Finished step 4; run: {folder}"]
    number = r"[\d.e+-]+"
    line = rf"step \d of 4, loss {number}, content {number}, style {number}, validation {number}, {number} pairs/s"
    lines = process.stderr.splitlines()
    assert len(lines) == 2, "one for each validation, and nothing of Lightning"
    assert re.fullmatch(line + r", \d:\d\d:\d\d left", lines[0])
    assert re.fullmatch(line, lines[1])


def test_tensorboard_gets_settings_total_validation_loss_and_strengths(events):
    summaries = {metadata.plugin_data.plugin_name for metadata in events.summary_metadata.values()}
    assert summaries == {"text", "hparams"}
    settings = events.summary_metadata["_hparams_/session_start_info"].plugin_data.content
    assert b"model.lr" in settings
    assert b"data.crop" in settings
    text = events.Tensors("configuration/text_summary")[0].tensor_proto.string_val[0].decode()
    assert yaml.safe_load(text.removeprefix("```yaml\n").removesuffix("```"))["fit"]["model"]["lr"] == 0.0003
    losses = {name: events.Scalars(f"val/{name}") for name in ("loss", "content", "style")}
    for total, content, style in zip(*losses.values(), strict=True):
        assert total.value == pytest.approx(content.value + 10 * style.value, rel=1e-5)  # the default weights
    assert len(losses["loss"]) == 2, "no invented value at the start"
    strip = events.Images("alpha 0 to 1")
    assert [(image.step, image.width, image.height) for image in strip] == [(2, 160, 32), (4, 160, 32)]


def test_the_strip_goes_from_the_content_to_the_style():
    method = AdaIN(layer="relu2_1").eval()
    content, style = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        strip = tensorboard.strengths(method, content, style)
        full = method.stylize(content, method.encode_style(style))
        half = method.stylize(content, method.encode_style(style), 0.5)
        rebuilt = method.rebuild(method.encode_content(content))
    assert torch.equal(strip[:1], content)
    assert torch.allclose(strip[-1:], full.clamp(0, 1), atol=1e-6)
    expected = normalization.add_residual(half, rebuilt, content, 0.5).clamp(0, 1)
    assert torch.allclose(strip[2:3], expected, atol=1e-6)


@pytest.mark.parametrize("method", [AdaIN(layer="relu2_1"), AdaINLite((4, 4, 8), 1, (4, 8), 8)], ids=["adain", "lite"])
def test_the_strip_is_drawn_in_mixed_precision(method):
    content, style = torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        strip = tensorboard.strengths(method.eval(), content, style)
    assert torch.equal(strip[:1], content)


class Terminal:
    def __init__(self):
        self.text = ""

    def isatty(self):
        return True

    def write(self, text):
        self.text += text

    def flush(self):
        pass


def test_a_terminal_has_one_line_with_the_time_left(monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    now = 0.0
    bar = console.Console(clock=lambda: now)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer = SimpleNamespace(global_step=0, max_steps=1000, log_dir="runs/a", world_size=1, precision="32-true")
    trainer.strategy, trainer.callback_metrics = strategy, {"train/loss": torch.tensor(2.5)}
    module = SimpleNamespace(method=object())
    bar.on_train_start(trainer, module)
    for _ in range(11):
        trainer.global_step += 1
        now += 20 if trainer.global_step == 1 else 4  # the first step is not representative
        bar.on_train_batch_end(trainer, module)
    assert "\n" not in terminal.text
    assert terminal.text.split("\r")[-1] == "step 11 of 1000, loss 2.5, 1:05:56 left"  # 989 steps of 4 seconds
    bar.on_exception(trainer, module, KeyboardInterrupt())
    assert terminal.text.endswith("left\n")
    assert capsys.readouterr().out.endswith("Stopped at step 11; run: runs/a\n")


def test_help_of_fit_starts_with_the_own_flags(capsys):
    assert exit_code("train", "fit", "--help") == 0
    short = capsys.readouterr().out
    assert short.startswith("usage: adain train fit ")
    headings = re.findall(r"^(\w.*):$", short, re.MULTILINE)
    assert headings == ["Data", "Network", "Losses", "Optimizer", "Run", "Hardware", "Other flags"]
    flags = re.findall(r"^  (--[\w.]+)", short, re.MULTILINE)
    assert flags[0] == "--data.content"
    assert {"--model.method", "--model.lr", "--trainer.max_steps", "--ckpt_path"} <= {*flags}
    assert "--trainer.profiler" not in short
    assert not re.search(r"typing\.|Union|null\)|None\b", short)
    assert "--help-all" in short
    assert exit_code("train", "fit", "--help-all") == 0
    everything = capsys.readouterr().out
    assert "--trainer.profiler" in everything
    assert len(short.splitlines()) < len(everything.splitlines()) / 2


def test_help_names_the_program_and_the_commands_that_work(capsys):
    assert exit_code("train", "--help") == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: adain train {fit,validate} [flags]\n")
    assert exit_code("train", "test") == 2
    assert capsys.readouterr().err.startswith("adain: error: unknown command test; choose from fit, validate")
    assert exit_code("train", "--lr_typo", "3") == 2
    expected = "Expected a command first (fit or validate), got --lr_typo; see adain train --help"
    assert capsys.readouterr().err == f"adain: error: {expected}\n"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--modle.lr", "3"], "unknown flag --modle.lr; did you mean --model.lr? See adain train fit --help"),
        (["--model.meth", "AdaIN"], "unknown flag --model.meth; did you mean --model.method?"),
        (["--data.crop", "x"], "Expected --data.crop to be a whole number, got x"),
        (["--model.method.nrom", "x"], "unknown setting nrom"),
        (
            ["--model.method", "AdaINN"],
            "Expected --model.method to be one of AdaIN, AdaINLite, AdaConv, Johnson, got AdaINN",
        ),
        (["--trainer.logger", "Logger"], "Expected --trainer.logger to be"),
        (["--config", "missing.yaml"], "missing.yaml: no such file; see adain train fit --help"),
        (["--trainer.precision", "half"], "Expected --trainer.precision to be auto, 32-true, "),
        (["--data.size", "x"], "Expected --data.size to be a list, such as [A,B], got x"),
        (["--data.content", ""], "Expected a value for --data.content, got an empty one"),
        (["--ckpt_path", ""], "Expected a value for --ckpt_path, got an empty one"),
        (["--model.start", ""], "Expected a value for --model.start, got an empty one"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_flag_is_one_line(flags, message, capsys):
    assert exit_code("train", "fit", "--model.method", "AdaIN", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"adain: error: {message}")
    assert error.count("\n") == 1
