"""Training as users run it: `train.py` in a process of its own, on small images."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import yaml
from datasets import Dataset, Image
from pytorch_lightning import Callback, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adain.functional.losses import PerceptualLoss
from adain.imaging import listing
from adain.methods import METHODS, AdaIN, weights
from adain.training import module as training_module
from adain.training.callbacks import LastCheckpoint
from adain.training.datamodule import Pictures
from adain.training.module import StyleTransfer, reconstruction_share
from tests.conftest import ROOT, picture_folders, wait_for
from tests.launcher import DEADLINE, Run, run_ranks

CONFIG = {
    "model": {"method": {"class_path": "AdaIN", "init_args": {"layer": "relu2_1"}}, "loss": {}},
    "data": {"size": [40, 44], "crop": 32, "batch_size": 2, "val_pairs": 3, "workers": 0},
    "trainer": {
        "max_steps": 4,
        "log_every_n_steps": 1,
        "val_check_interval": 2,
        "accelerator": "cpu",
        "precision": "32-true",  # on every processor, so that the tolerances of float32 apply
        "enable_model_summary": False,
    },
    "last": {"every_n_steps": 1},
}
CONFIG["model"]["loss"] = {
    "content_layer": "relu2_1",
    "style_layers": ["relu1_1", "relu2_1"],
    "reconstruction_weight": 1.0,
}


def command_line(folders, root, *flags, config=CONFIG):
    root.mkdir(parents=True, exist_ok=True)
    (root / "test.yaml").write_text(yaml.safe_dump(config))
    words = ["--config", str(root / "test.yaml"), "--data.content", str(folders[0])]
    words += ["--data.style", str(folders[1]), "--trainer.default_root_dir", str(root)]
    return [*words, "--trainer.enable_progress_bar", "false", *flags]


def start(folders, root, *flags, config=CONFIG):
    words = ["fit", *command_line(folders, root, *flags, config=config)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # one order of summation on every machine
    if "--trainer.devices" not in flags:
        return Run(words, environment)
    command = [sys.executable, str(ROOT / "train.py"), *words]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, env=environment, stdout=pipe, stderr=pipe, text=True)


def train(folders, root, *flags, **options):
    process = start(folders, root, *flags, **options)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, output + errors
    return next(root.rglob("last.ckpt"))


def state(checkpoint):
    return torch.load(checkpoint, weights_only=True)


def killed(process, root):
    """Kill a run as soon as it has written a checkpoint, and return the checkpoint."""
    wait_for(lambda: list(root.rglob("last.ckpt")), process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    return next(root.rglob("last.ckpt"))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One uninterrupted run of four steps on folders."""
    base = tmp_path_factory.mktemp("run")
    folders = picture_folders(base, 9)
    return folders, train(folders, base / "uninterrupted")


def test_the_board_has_losses_speed_and_images(finished):
    board = EventAccumulator(str(finished[1].parent), size_guidance={"scalars": 0, "images": 0})
    board.Reload()
    scalars, images = board.Tags()["scalars"], board.Tags()["images"]
    named = {"loss", "content", "style", "style/relu1_1", "style/relu2_1", "reconstruction", "images_per_second"}
    assert {f"train/{name}" for name in named} <= set(scalars)
    assert {"lr", "val/content", "val/style"} <= set(scalars)
    assert len(board.Scalars("train/style")) == 4
    assert images == ["content | style | stylized", "alpha 0 to 1"]
    assert [event.step for event in board.Images(images[0])] == [2, 4]
    assert board.Images(images[0])[0].width == 3 * 32, "content, style, stylized"
    assert board.Images(images[0])[0].height == 3 * 32, "a row for each held-out pair"


def test_a_run_killed_and_resumed_ends_with_the_same_weights(finished, tmp_path):
    folders, uninterrupted = finished
    halfway = killed(start(folders, tmp_path, "--trainer.max_steps", "1000"), tmp_path)
    step = state(halfway)["global_step"]
    steps = max(4, step + 2)
    resumed = state(train(folders, tmp_path / "b", "--ckpt_path", str(halfway), "--trainer.max_steps", str(steps)))
    expected = state(uninterrupted if steps == 4 else train(folders, tmp_path / "c", "--trainer.max_steps", str(steps)))
    assert resumed["global_step"] == expected["global_step"] == steps
    for name, tensor in expected["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], tensor), name
    for a, b in zip(*(run["optimizer_states"][0]["state"].values() for run in (resumed, expected)), strict=True):
        assert torch.equal(a["exp_avg_sq"], b["exp_avg_sq"])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_saves_its_last_step_and_resumes_exactly(finished, number, tmp_path):
    seldom = "--last.every_n_steps", "100000", "--trainer.val_check_interval", "100000"
    process = start(finished[0], tmp_path / "a", "--trainer.max_steps", "100000", *seldom)
    wait_for(lambda: any(b"train/loss" in path.read_bytes() for path in tmp_path.rglob("events.*")), process)
    assert not list(tmp_path.rglob("last.ckpt")), "the interruption writes it"
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 0, output + errors
    stopped = next(tmp_path.rglob("last.ckpt"))
    steps = str(state(stopped)["global_step"] + 1)
    resumed = train(finished[0], tmp_path / "b", "--ckpt_path", str(stopped), "--trainer.max_steps", steps, *seldom)
    uninterrupted = train(finished[0], tmp_path / "c", "--trainer.max_steps", steps, *seldom)
    for name, tensor in state(uninterrupted)["state_dict"].items():
        assert torch.equal(state(resumed)["state_dict"][name], tensor), name


def test_ctrl_c_before_the_first_step_says_so(finished, tmp_path):
    process = start(finished[0], tmp_path, "--trainer.callbacks+=tests.training.faults.InterruptedEarly")
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130, output + errors
    assert "adain: interrupted\n" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["test.yaml"], "no folder of a run that did not start"


def test_the_newest_checkpoint_is_found_or_a_run_starts(finished, tmp_path):
    flags = "--ckpt_path", "last", "--trainer.max_steps"
    process = start(finished[0], tmp_path, *flags, "2")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert f"There is no last.ckpt below {tmp_path}" in errors
    process = start(finished[0], tmp_path, *flags, "4")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert "Resuming from" in errors
    *_, newest = sorted(tmp_path.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    for name, tensor in state(finished[1])["state_dict"].items():
        assert torch.equal(state(newest)["state_dict"][name], tensor), name


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits on file sizes")
def test_a_checkpoint_that_cannot_be_written_does_not_replace_a_good_one(finished, tmp_path):
    checkpoint = train(finished[0], tmp_path, "--trainer.max_steps", "2")
    good = checkpoint.read_bytes()
    folder = str(checkpoint.parent)
    logger = "--trainer.logger", "TensorBoardLogger", "--trainer.logger.save_dir", folder, "--trainer.logger.name", ""
    flags = "--ckpt_path", str(checkpoint), "--trainer.max_steps", "4", *logger, "--trainer.logger.version", ""
    limit = "--trainer.callbacks+=tests.training.faults.SmallFiles", "--trainer.callbacks.size", str(len(good) // 2)
    process = start(finished[0], tmp_path, *flags, *limit)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "adain: error: " in errors
    assert "Traceback" not in errors
    assert checkpoint.read_bytes() == good
    assert not list(checkpoint.parent.glob(".adain-*"))


@pytest.mark.slow
def test_two_processes_stop_together(finished, tmp_path):
    flags = "--trainer.devices", "2", "--trainer.strategy", "ddp", "--trainer.log_every_n_steps", "3"
    process = start(finished[0], tmp_path, "--trainer.max_steps", "100000", *flags)
    wait_for(lambda: list(tmp_path.rglob("last.ckpt")), process)
    process.send_signal(signal.SIGINT)  # to the first of them only
    output, errors = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0, output + errors
    assert 0 < state(next(tmp_path.rglob("last.ckpt")))["global_step"] < 100_000


def test_a_run_becomes_weights_with_its_recipe(finished, tmp_path):
    _, checkpoint = finished
    weights.convert(checkpoint, str(tmp_path / "small.safetensors"))
    metadata = weights.read(tmp_path / "small.safetensors")[1]
    assert metadata["steps"] == "4"
    assert yaml.safe_load(metadata["recipe"])["fit"]["data"]["crop"] == 32
    method = weights.load(tmp_path / "small.safetensors")
    assert method.arguments["layer"] == "relu2_1"
    for name, tensor in method.state_dict().items():
        torch.testing.assert_close(tensor, state(checkpoint)["state_dict"][f"method.{name}"], atol=1e-3, rtol=1e-3)
    module = StyleTransfer(METHODS["adain"](layer="relu2_1"), start=str(tmp_path / "small.safetensors"))
    assert torch.equal(module.method.decoder.conv1.weight, method.decoder.conv1.weight)


def test_checkpoints_do_not_contain_the_frozen_networks(finished):
    checkpoint = state(finished[1])
    assert {name.split(".")[1] for name in checkpoint["state_dict"]} == {"decoder"}


@pytest.mark.parametrize("streaming", [pytest.param("false", marks=pytest.mark.slow), "true"])
def test_training_on_datasets(finished, tmp_path, streaming):
    sources = []
    for folder in finished[0]:
        cells = [{"bytes": path.read_bytes(), "path": path.name} for path in listing.files(folder)]
        sources.append(tmp_path / f"{folder.name}.parquet")
        Dataset.from_dict({"image": cells}).cast_column("image", Image()).to_parquet(sources[-1])
    flags = "--data.streaming", streaming, "--data.shuffle_buffer", "0"
    process = start(sources, tmp_path / "b", *flags, "--trainer.max_steps", "1000", "--last.every_n_steps", "2")
    half = killed(process, tmp_path / "b")
    steps = str(max(4, state(half)["global_step"] + 1))
    resumed = state(train(sources, tmp_path / "c", *flags, "--ckpt_path", str(half), "--trainer.max_steps", steps))
    uninterrupted = state(train(sources, tmp_path / "a", *flags, "--trainer.max_steps", steps))
    for name, tensor in uninterrupted["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], tensor), name


@pytest.mark.parametrize("ranks", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_ranks_share_a_batch_and_train_as_one(finished, ranks, tmp_path):
    flags = "--data.batch_size", "8", "--trainer.max_steps", "6", "--trainer.val_check_interval", "6"
    alone = state(train(finished[0], tmp_path / "alone", *flags))
    flags += "--trainer.devices", str(ranks), "--trainer.strategy", "ddp"
    words = command_line(finished[0], tmp_path / "shared", *flags)
    codes, output = run_ranks(*[words] * ranks)
    assert codes == [0] * ranks, output
    shared = state(next((tmp_path / "shared").rglob("last.ckpt")))
    assert alone["global_step"] == shared["global_step"] == 6
    for name, tensor in alone["state_dict"].items():
        torch.testing.assert_close(shared["state_dict"][name], tensor, atol=1e-4, rtol=0)


@pytest.mark.parametrize("world_size", [2, 4])
def test_gradients_of_ranks_average_to_that_of_the_batch(world_size):
    torch.manual_seed(0)
    module = StyleTransfer(AdaIN(layer="relu2_1"), PerceptualLoss("relu2_1", ("relu1_1",), reconstruction_weight=10))
    batch = {"content": torch.rand(8, 3, 32, 32), "style": torch.rand(8, 3, 32, 32)}
    parameters = list(module.method.decoder.parameters())

    def gradients(part, rank=0, ranks=1):
        return torch.autograd.grad(module.loss.total(module(part, rank, ranks)[1]), parameters)

    of_ranks = []
    for rank in range(world_size):
        part = {name: images[rank::world_size] for name, images in batch.items()}
        of_ranks.append(gradients(part, rank, world_size))
    for expected, *parts in zip(gradients(batch), *of_ranks, strict=True):
        difference = torch.stack(parts).mean(0) - expected
        assert difference.norm() < 1e-5 * expected.norm()


@pytest.mark.parametrize("world_size", [1, 2, 4, 8])
@pytest.mark.parametrize("batch_size", [8, 16, 40])
def test_the_reconstructed_quarter_is_shared_among_ranks(batch_size, world_size):
    squares = torch.arange(batch_size).square().double()
    quarter = squares[: -(-batch_size // 4)]
    terms = []
    for rank in range(world_size):
        own = squares[rank::world_size]
        count, weight = reconstruction_share(len(own), rank, world_size)
        terms.append(weight * own[:count].mean() if count else torch.zeros((), dtype=torch.double))
    torch.testing.assert_close(torch.stack(terms).mean(), quarter.mean())


@pytest.mark.slow
def test_averaged_weights(finished, tmp_path):
    average = {"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.5, "use_buffers": False}}
    config = {**CONFIG, "trainer": {**CONFIG["trainer"], "callbacks": [average]}}
    checkpoint = train(finished[0], tmp_path, config=config)
    mean, live = state(checkpoint)["state_dict"], state(finished[1])["state_dict"]
    differences = [(mean[name] - live[name]).abs().max() for name in live]
    assert 0 < max(differences) < 0.01
    weights.convert(checkpoint, str(tmp_path / "mean.safetensors"))
    key = "decoder.conv1.weight"
    torch.testing.assert_close(
        weights.read(tmp_path / "mean.safetensors")[0][key].float(), mean["method." + key], atol=1e-3, rtol=1e-3
    )


@pytest.mark.slow
def test_a_finished_run_with_averaged_weights_resumes_exactly(finished, tmp_path):
    average = {"class_path": "EMAWeightAveraging", "init_args": {"decay": 0.5, "use_buffers": False}}
    config = {**CONFIG, "trainer": {**CONFIG["trainer"], "callbacks": [average]}}
    four = train(finished[0], tmp_path / "a", config=config)
    flags = "--trainer.max_steps", "6"
    resumed = state(train(finished[0], tmp_path / "b", "--ckpt_path", str(four), *flags, config=config))
    uninterrupted = state(train(finished[0], tmp_path / "c", *flags, config=config))
    for part in ("state_dict", "current_model_state"):
        for name, tensor in uninterrupted[part].items():
            assert torch.equal(resumed[part][name], tensor), (part, name)


def test_a_checkpoint_with_code_is_refused(finished, tmp_path):
    torch.save({"state_dict": {}, "code": torch.nn.Linear(1, 1)}, tmp_path / "evil.ckpt")
    process = start(finished[0], tmp_path, "--ckpt_path", str(tmp_path / "evil.ckpt"))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "Traceback" not in errors
    assert "evil.ckpt" in errors.splitlines()[-1]


def test_a_missing_folder_is_one_line(tmp_path):
    process = start((tmp_path / "nothing", tmp_path / "nothing"), tmp_path)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "Traceback" not in errors
    assert "Expected a folder of images, a local dataset, or the name of a dataset" in errors.splitlines()[-1]


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_config_names_real_settings(path):
    process = Run(["fit", "--config", str(path), "--print_config"], {})
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert yaml.safe_load(output)["trainer"]["max_steps"] > 0


def test_a_method_is_trained_on_the_network_it_encodes_with():
    method = METHODS["adain"]("resnet18", "layer2", "random")
    module = StyleTransfer(method, PerceptualLoss("layer2", ("layer1", "layer2")))
    batch = {"content": torch.rand(2, 3, 32, 32), "style": torch.rand(2, 3, 32, 32)}
    stylized, terms = module(batch)
    expected = method.stylize(batch["content"], method.encode_style(batch["style"]))
    torch.testing.assert_close(stylized, expected, atol=1e-4, rtol=1e-4)
    module.loss.total(terms).backward()
    assert all(parameter.grad is not None for parameter in method.parameters())


def rates(steps, **settings):
    """Return the learning rates that the optimizer uses in a run of so many steps."""
    module = StyleTransfer(
        METHODS["adain"](layer="relu1_1"), PerceptualLoss("relu1_1", ("relu1_1",)), lr=1.0, **settings
    )
    module.trainer = Trainer(max_steps=steps, max_epochs=-1, logger=False, accelerator="cpu")
    settings = module.configure_optimizers()
    optimizer, scheduler = settings["optimizer"], settings["lr_scheduler"]["scheduler"]
    found = []
    for _ in range(steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_the_inverse_schedule_divides_by_the_decay():
    assert rates(3, lr_decay=0.5) == pytest.approx([1, 1 / 1.5, 1 / 2, 1 / 2.5])


def test_the_cosine_schedule_ends_at_zero():
    assert rates(4, schedule="cosine") == pytest.approx([1, (1 + 0.5**0.5) / 2, 1 / 2, (1 - 0.5**0.5) / 2, 0])


def test_the_rate_rises_over_the_warmup_steps():
    assert rates(5, lr_decay=0, warmup_steps=4) == pytest.approx([1 / 4, 2 / 4, 3 / 4, 1, 1, 1])
    cosine = rates(4, schedule="cosine", warmup_steps=2)
    assert cosine[:2] == pytest.approx([1 / 2, (1 + 0.5**0.5) / 2])


def module_and_batch(pairs=8, **weights):
    module = StyleTransfer(METHODS["adain"](layer="relu1_1"), PerceptualLoss("relu1_1", ("relu1_1",), **weights))
    return module, {"content": torch.rand(pairs, 3, 16, 16), "style": torch.rand(pairs, 3, 16, 16)}


def test_the_reconstruction_is_compared_with_the_content():
    module, batch = module_and_batch(reconstruction_weight=1.0)
    content = batch["content"][:2]  # a quarter of the batch
    code = module.method.encode_style(content)
    expected = (module.method.stylize(content, code) - content).square().mean()
    assert module(batch)[1]["reconstruction"].item() == pytest.approx(expected.item(), rel=1e-4)


def test_total_variation_is_part_of_the_loss():
    module, batch = module_and_batch(tv_weight=3.0)
    stylized, terms = module(batch)
    down, across = (stylized.diff(dim=dim).square().mean() for dim in (2, 3))
    assert terms["tv"].item() == pytest.approx((down + across).item(), rel=1e-4)
    others = {name: term for name, term in terms.items() if name != "tv"}
    difference = module.loss.total(terms) - module.loss.total(others)
    assert difference.item() == pytest.approx(3 * terms["tv"].item(), rel=1e-3)


def test_a_discriminator_is_trained_beside_the_method():
    module, batch = module_and_batch(adversarial_weight=2.0)
    batch = {name: F.interpolate(images, 32) for name, images in batch.items()}
    trained = module.configure_optimizers()["optimizer"].param_groups[0]["params"]
    terms = module(batch)[1]
    module.loss.total(terms).backward()
    assert len(trained) == len([*module.method.parameters(), *module.discriminator.parameters()])
    assert all(parameter.grad is not None for parameter in trained)


def test_a_crop_too_small_for_a_score_is_refused():
    module, _ = module_and_batch(adversarial_weight=1.0)
    data = SimpleNamespace(sources=["content", "style"], training_crop=SimpleNamespace(crop=16))
    module.trainer = SimpleNamespace(datamodule=data)
    with pytest.raises(ValueError, match="Expected a crop of 24 or more for an adversarial loss, got 16"):
        module.setup("fit")
    data.training_crop.crop = 24
    module.setup("fit")


def test_without_an_adversarial_loss_there_is_no_discriminator():
    module, batch = module_and_batch()
    assert module.discriminator is None
    assert not {"adversarial", "discriminator"} & set(module(batch)[1])


class Running:
    """What a module needs of a `Trainer` within a step. It records what is logged."""

    global_rank = 0
    world_size = 2
    accumulate_grad_batches = 3
    log_every_n_steps = 2
    global_step = 0

    def __init__(self, module, monkeypatch):
        self.logged, self.images, self.flushed = {}, [], 0
        self.strategy = self.logger = self.experiment = self
        self.optimizers = [torch.optim.SGD(module.method.parameters(), lr=0.25)]
        monkeypatch.setattr(module, "log", lambda name, value, **_: self.logged.update({name: float(value)}))
        monkeypatch.setattr(module, "log_dict", lambda values, **_: self.logged.update(values))
        module.trainer = self

    def reduce(self, means, reduce_op):
        assert reduce_op == "mean"
        return means / self.world_size  # as if the other rank had zeros

    def add_image(self, name, image, step):
        self.images.append((name, image, step))

    def flush(self):
        self.flushed = len(self.images)


def test_a_step_logs_its_terms_the_rate_and_the_skipped_images(monkeypatch):
    module, batch = module_and_batch(tv_weight=3.0)
    running = Running(module, monkeypatch)
    loss = module.training_step({**batch, "skipped": 2}, 0)
    terms = module(batch)[1]
    assert loss.item() == pytest.approx(module.loss.total(terms).item(), rel=1e-5)
    for name, value in {"loss": loss, **terms}.items():
        assert running.logged[f"train/{name}"] == pytest.approx(value.item() / 2, rel=1e-5), name
    assert running.logged["lr"] == 0.25
    module.training_step({**batch, "skipped": 1}, 1)
    assert running.logged["train/skipped"] == 3


def test_the_speed_is_that_of_the_pairs_of_all_ranks(monkeypatch):
    module, batch = module_and_batch(pairs=5)
    running = Running(module, monkeypatch)
    monkeypatch.setattr(time, "perf_counter", iter([100.0, 104.0, 104.0, 109.0, 109.0]).__next__)
    module._restart_clock()
    outputs = {"loss": torch.tensor(1.0)}
    assert not module.has_trained
    for step in (1, 2):
        running.global_step = step
        module.on_train_batch_end(outputs, batch, step)
        assert bool(running.logged) == (step == 2), "at every second step"
    assert module.has_trained
    assert running.logged == {"train/images_per_second": 5 * 2 * 3 * 2 / 4}
    running.global_step = 5
    module.on_train_batch_end(outputs, {**batch, "styles_per_content": 4}, 5)
    assert running.logged == {"train/images_per_second": 5 * 4 * 2 * 3 * 3 / 5}
    running.global_step = 7
    with pytest.raises(ValueError, match="Expected a finite loss, got nan at step 7"):
        module.on_train_batch_end({"loss": torch.tensor(torch.nan)}, batch, 7)


def test_the_validation_image_has_a_row_for_each_pair(monkeypatch):
    module, batch = module_and_batch(pairs=2)
    running = Running(module, monkeypatch)
    running.global_step = 9
    module.validation_step(batch, 0)
    stylized, terms = module(batch)
    assert running.logged.keys() == {f"val/{name}" for name in (*terms, "loss")}
    assert not running.images, "no board"
    monkeypatch.setattr(training_module, "TensorBoardLogger", Running)
    module.validation_step(batch, 0)
    ((name, image, step),) = running.images
    assert (name, step, running.flushed) == ("content | style | stylized", 9, 1)
    content, style, result = image.unflatten(2, (3, 16)).unflatten(1, (2, 16)).permute(3, 1, 0, 2, 4)
    assert torch.equal(content, batch["content"])
    assert torch.equal(style, batch["style"])
    torch.testing.assert_close(result, stylized.clamp(0, 1), atol=1e-6, rtol=0)


def test_a_single_style_is_encoded_once(make_picture):
    loss = PerceptualLoss("relu1_1", ("relu1_1",), content_target="content")
    module = StyleTransfer(METHODS["johnson"](4, 1), loss, style=str(make_picture(size=(30, 24))), style_size=16)
    assert module.style.shape == (1, 3, 16, 20)
    sizes, backbone = [], module.backbone.forward
    module.backbone.forward = lambda image: sizes.append(tuple(image.shape)) or backbone(image)
    batch = {"content": torch.rand(2, 3, 16, 16)}
    for _ in range(2):
        stylized, terms = module(batch)
    assert sizes == [(1, 3, 16, 20)] + 2 * [(2, 3, 16, 16), (2, 3, 16, 16)]
    expected = loss(backbone(stylized), backbone(batch["content"]), backbone(module.style))
    for name, term in terms.items():
        assert term.item() == pytest.approx(expected[name].item(), rel=1e-5), name


def test_the_default_schedule_is_that_of_the_paper():
    assert rates(2) == pytest.approx([1, 1 / (1 + 5e-5), 1 / (1 + 1e-4)], rel=1e-9)


def test_a_run_cannot_be_resumed_with_other_batches(finished):
    data = Pictures(*map(str, finished[0]), size=(32, 32), crop=32, batch_size=4)
    with pytest.raises(ValueError, match=r"Expected batches of 2 images of each kind, .*got 4"):
        data.load_state_dict({"position": [None], "batch_size": 2})
    data.load_state_dict({"position": [None, None], "batch_size": 2})  # two ranks with half a batch each


@pytest.mark.parametrize(
    ("batch_size", "styles", "ranks", "sizes"),
    [(9, 1, 2, "8 or 10"), (3, 1, 4, "4"), (12, 2, 4, "16"), (18, 2, 2, "16 or 20")],
)
def test_a_batch_that_the_ranks_cannot_share_is_refused(finished, batch_size, styles, ranks, sizes):
    data = Pictures(*map(str, finished[0]), size=(32, 32), crop=32, batch_size=batch_size, styles_per_content=styles)
    data.trainer = type("Trainer", (), {"global_rank": 0, "world_size": ranks})()
    with pytest.raises(ValueError, match=rf"{ranks} ranks.* can share, got {batch_size}; use {sizes}$"):
        data.setup()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data.crop", "33"], "a multiple of 2 and at least 4, got 33"),
        (["--model.lr", "1e30"], "Expected a finite loss, got"),
        (
            ["--ckpt_path", "checkpoints/vgg19.safetensors"],
            "Expected the checkpoint of a training run, got",
        ),
        (["--ckpt_path", "missing.ckpt"], "no weights at missing.ckpt"),
        (["--model.start", "checkpoints/vgg19.safetensors"], "does not say which method it holds"),
    ],
)
def test_mistakes_are_one_line(finished, tmp_path, flags, message):
    process = start(finished[0], tmp_path, "--trainer.max_steps", "50", *flags)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    assert message in errors.splitlines()[-1]
    assert not list(tmp_path.rglob("last.ckpt")), "there is nothing to resume"


class Explode(Callback):
    """Makes a run diverge: a step at a learning rate of 1e30."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.global_step == self.step:
            trainer.optimizers[0].param_groups[0]["lr"] = 1e30


@pytest.mark.filterwarnings("ignore")  # Lightning's advice about workers and loggers
def test_a_run_that_diverges_keeps_its_last_good_checkpoint(finished, tmp_path, caplog):
    data = Pictures(*map(str, finished[0]), size=(32, 32), crop=32, batch_size=2, val_pairs=0, workers=0)
    module = StyleTransfer(METHODS["adain"](layer="relu1_1"), PerceptualLoss("relu1_1", ("relu1_1",)))
    trainer = Trainer(
        max_steps=5,
        max_epochs=-1,
        accelerator="cpu",
        callbacks=[LastCheckpoint(every_n_steps=1), Explode(step=3)],
        default_root_dir=tmp_path,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, datamodule=data)
    kept = state(tmp_path / "last.ckpt")
    assert kept["global_step"] == 3
    assert all(tensor.abs().max() < 10 for tensor in kept["state_dict"].values())
    assert "No checkpoint is saved at step 4: the loss with these weights is not finite" in caplog.text


def test_the_given_rate_replaces_the_checkpoints(finished, tmp_path):
    flags = "--ckpt_path", str(finished[1]), "--trainer.max_steps", "5", "--model.lr", "1e-7"
    resumed = state(train(finished[0], tmp_path, *flags))
    assert resumed["optimizer_states"][0]["param_groups"][0]["lr"] < 1e-7


def test_crossed_pairs_are_the_pairs_written_out():
    task = StyleTransfer(METHODS["adain"](), PerceptualLoss(relative=True, reconstruction_weight=1.0))
    content, style = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    few = {"content": content, "style": style, "styles_per_content": 2}
    pairs = {"content": content[[0, 1, 0, 1]], "style": style[[0, 1, 1, 0]]}
    results = []
    for batch in (few, pairs):
        terms = task(batch)[1]
        task.zero_grad()
        task.loss.total(terms).backward()
        results.append((terms, [parameter.grad.clone() for parameter in task.method.parameters()]))
    torch.testing.assert_close(results[0], results[1], atol=1e-4, rtol=1e-3)


@pytest.mark.slow
def test_compiled_training_is_the_same(finished, tmp_path):
    short = "--trainer.max_steps", "2"
    plain = state(train(finished[0], tmp_path / "plain", *short))
    compiled = state(train(finished[0], tmp_path / "compiled", *short, "--model.compile", "true"))
    for name, tensor in plain["state_dict"].items():
        torch.testing.assert_close(compiled["state_dict"][name], tensor, atol=1e-4, rtol=0)
