"""Every recipe in `configs/` as users run it: it is trained for two steps, converted, and used."""

import math

import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adain.methods import weights
from adain.training.module import StyleTransfer
from adain.training.recipe import portable
from tests.conftest import ROOT, exit_code, picture

RECIPES = sorted((ROOT / "configs").glob("*.yaml"))
SLOW = ("adaconv", "adain", "adain-finetune", "johnson")
PARAMETERS = [pytest.param(path, marks=[pytest.mark.slow] * (path.stem in SLOW), id=path.stem) for path in RECIPES]

SMALL = {
    "--data.size": "[32,36]",
    "--data.crop": 32,
    "--data.batch_size": 2,
    "--data.val_pairs": 1,
    "--data.workers": 0,
    "--trainer.max_steps": 2,
    "--trainer.val_check_interval": 2,
    "--trainer.log_every_n_steps": 1,
    "--trainer.accelerator": "cpu",
    "--trainer.precision": "32-true",
    "--trainer.enable_progress_bar": "false",
}

OWN_FLAGS = {
    "johnson": ["--model.style", "examples/style/starry_night.jpg", "--model.style_size", "32"],
    "adain-finetune": ["--model.start", "checkpoints/adain.safetensors"],
    "photorealistic": ["--model.start", "checkpoints/adain.safetensors"],
}
"""Flags that users add according to the comment at the top of a recipe."""


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    base = tmp_path_factory.mktemp("images")
    for side, key in (("content", 0), ("style", 100)):
        for i in range(4):
            picture(base / side / f"{i}.png", (40, 36), key + i)
    return base


def small_run(recipe, images, root, *flags):
    """Return the exit code of a run of two steps on tiny crops."""
    words = ["--config", recipe, "--data.content", images / "content", "--trainer.default_root_dir", root]
    if yaml.safe_load(recipe.read_text()).get("data", {}).get("style", "") is not None:
        words += ["--data.style", images / "style"]
    small = [word for pair in SMALL.items() for word in pair]
    return exit_code("train", "fit", *words, *small, *OWN_FLAGS.get(recipe.stem, []), *flags)


@pytest.fixture
def initial(monkeypatch):
    """The weights of the method before its first step, recorded when the run starts."""
    found = {}
    start = StyleTransfer.on_train_start

    def record(module):
        found.update({name: tensor.clone() for name, tensor in module.method.state_dict().items()})
        start(module)

    monkeypatch.setattr(StyleTransfer, "on_train_start", record)
    return found


@pytest.mark.filterwarnings("ignore")  # Lightning's advice about workers
@pytest.mark.parametrize("recipe", PARAMETERS)
def test_every_recipe_trains_converts_and_stylizes(recipe, images, initial, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert small_run(recipe, images, tmp_path) == 0

    (checkpoint,) = tmp_path.rglob("last.ckpt")
    board = EventAccumulator(str(checkpoint.parent))
    board.Reload()
    for name in ("train/loss", "val/content", "val/style"):
        values = [event.value for event in board.Scalars(name)]
        assert values
        assert all(map(math.isfinite, values)), (name, values)
    trained, metadata = weights.read(checkpoint)
    assert metadata["steps"] == "2"
    assert yaml.safe_load(metadata["recipe"])["fit"]["data"]["content"] == "content"
    assert str(images) not in metadata["recipe"]
    assert str(tmp_path) not in metadata["recipe"]
    assert trained.keys() == initial.keys()
    assert any(not torch.equal(trained[name], initial[name]) for name in trained)

    converted, output = tmp_path / "small.safetensors", tmp_path / "out.png"
    assert exit_code("convert", "--source", checkpoint, "--output", converted) == 0
    style = ["--style", images / "style" / "0.png"] if recipe.stem != "johnson" else []
    words = ["--content", images / "content" / "0.png", *style, "--checkpoint", converted, "--output", output]
    assert exit_code("stylize", *words, "--device", "cpu", "--precision", "fp32") == 0
    with Image.open(output) as result:
        assert result.size == (40, 36)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda path: path.stem)
def test_no_recipe_starts_from_the_embedded_weights_of_its_own_method(recipe):
    """The recipe produces these weights."""
    model = yaml.safe_load(recipe.read_text())["model"]
    path = ROOT / model.get("start", "made by the user")
    if path.is_file():
        method = model["method"] if isinstance(model["method"], str) else model["method"]["class_path"]
        assert type(weights.load(path)).__name__ != method


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data.crop", "20"], "a multiple of 8 and at least 16, got 20"),
        (["--data.content", "nowhere"], "Expected a folder of images, a local dataset, or"),
    ],
)
def test_a_run_that_fails_before_its_first_step_leaves_no_folder(flags, message, images, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    assert small_run(ROOT / "configs" / "adain-cpu.yaml", images, tmp_path / "mine" / "runs", *flags) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.rglob("*")) == [tmp_path / "mine"]


def test_a_recipe_keeps_only_the_names_of_files_and_datasets(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "photos").mkdir(parents=True)
    recipe = {
        "config": ["/home/me/train.yaml"],
        "model": {"start": "../weights/mine.safetensors", "lr": 0.1, "note": "b" * 300 + "/a"},
        "data": {"content": "data/photos", "style": "huggan/wikiart", "size": [64, 64]},
        "trainer": {"default_root_dir": "runs/me", "callbacks": [{"init_args": {"file": "/home/me/log.txt"}}]},
    }
    assert yaml.safe_load(portable(yaml.safe_dump(recipe))) == {
        "model": {"start": "mine.safetensors", "lr": 0.1, "note": "b" * 300 + "/a"},
        "data": {"content": "photos", "style": "huggan/wikiart", "size": [64, 64]},
        "trainer": {"callbacks": [{"init_args": {"file": "log.txt"}}]},
    }
