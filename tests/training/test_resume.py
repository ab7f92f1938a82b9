"""A resumed run ends with exactly the same weights as an uninterrupted one."""

import pytest
import torch
from datasets import Dataset, Image

from adain.imaging import listing
from tests.conftest import exit_code, picture_folders
from tests.training.test_module import state, train

SMALL = {
    "--model.method": "AdaIN",
    "--model.method.layer": "relu2_1",
    "--model.loss.content_layer": "relu2_1",
    "--model.loss.style_layers": "[relu1_1,relu2_1]",
    "--model.loss.reconstruction_weight": 1,
    "--data.size": "[32,40]",
    "--data.crop": 32,
    "--data.batch_size": 2,
    "--data.val_pairs": 2,
    "--trainer.accelerator": "cpu",
    "--trainer.val_check_interval": 2,
    "--trainer.log_every_n_steps": 1,
    "--trainer.enable_progress_bar": "false",
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return picture_folders(tmp_path_factory.mktemp("images"), 11)


@pytest.fixture
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def assert_equal(resumed, uninterrupted):
    assert resumed["global_step"] == uninterrupted["global_step"]
    assert resumed["state_dict"].keys() == uninterrupted["state_dict"].keys()
    for name, tensor in uninterrupted["state_dict"].items():
        assert torch.equal(resumed["state_dict"][name], tensor), name
    states = (run["optimizer_states"][0]["state"].values() for run in (resumed, uninterrupted))
    for one, other in zip(*states, strict=True):
        assert one.keys() == other.keys()
        for name, value in other.items():
            assert torch.equal(torch.as_tensor(one[name]), torch.as_tensor(value)), name


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Lightning's advice
def test_with_muon_in_the_default_precision_with_two_workers_and_two_threads(folders, two_threads, tmp_path):
    def run(name, steps, *flags):
        words = ["--data.content", folders[0], "--data.style", folders[1], "--data.workers", 2]
        words += ["--model.optimizer", "muon", "--model.lr", "1e-3", "--trainer.default_root_dir", tmp_path / name]
        words += [word for pair in SMALL.items() for word in pair]
        assert exit_code("train", "fit", *words, "--trainer.max_steps", steps, *flags) == 0
        (checkpoint,) = (tmp_path / name).rglob("last.ckpt")
        return checkpoint

    half = run("half", 3)
    resumed = run("resumed", 6, "--ckpt_path", half)
    assert_equal(state(resumed), state(run("uninterrupted", 6)))
    weights = [state(path)["state_dict"]["method.decoder.conv1.weight"] for path in (half, resumed)]
    assert not torch.equal(*weights)


@pytest.mark.slow
@pytest.mark.parametrize("source", ["folders", "streams"])
def test_on_two_ranks(source, folders, tmp_path):
    sources, flags = folders, ["--trainer.devices", "2", "--trainer.strategy", "ddp", "--model.optimizer", "muon"]
    if source == "streams":
        sources = []
        for folder in folders:
            cells = [{"bytes": path.read_bytes(), "path": path.name} for path in listing.files(folder)]
            sources.append(tmp_path / f"{folder.name}.parquet")
            Dataset.from_dict({"image": cells}).cast_column("image", Image()).to_parquet(sources[-1])
        flags += ["--data.streaming", "true", "--data.shuffle_buffer", "0"]
    half = train(sources, tmp_path / "half", *flags, "--trainer.max_steps", "3")
    resumed = train(sources, tmp_path / "resumed", *flags, "--trainer.max_steps", "6", "--ckpt_path", str(half))
    uninterrupted = train(sources, tmp_path / "uninterrupted", *flags, "--trainer.max_steps", "6")
    assert_equal(state(resumed), state(uninterrupted))
