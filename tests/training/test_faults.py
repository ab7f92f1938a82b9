"""A fault of one rank ends all ranks with its reason, and a killed run is resumed digit for digit."""

import signal

import pytest

from tests.conftest import picture_folders
from tests.training.forks import Forks
from tests.training.test_module import state

SMALL = {
    "--model.method": "AdaIN",
    "--model.method.layer": "relu1_1",
    "--model.loss.content_layer": "relu1_1",
    "--model.loss.style_layers": "[relu1_1]",
    "--data.size": "[16,20]",
    "--data.crop": 16,
    "--data.batch_size": 4,
    "--data.val_pairs": 0,
    "--data.workers": 0,
    "--trainer.accelerator": "cpu",
    "--trainer.precision": "32-true",
    "--trainer.log_every_n_steps": 1,
    "--trainer.enable_progress_bar": "false",
}


@pytest.fixture(scope="module")
def forks():
    with Forks() as forks:
        yield forks


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return picture_folders(tmp_path_factory.mktemp("images"), 7)


@pytest.fixture
def words(folders, tmp_path):
    """A function that returns the command line of a run in a folder."""

    def words(name, *flags, ranks=1, nodes=1, fault=None, content=folders[0]):
        root = tmp_path / name
        root.mkdir(exist_ok=True)
        words = ["--data.content", content, "--data.style", folders[1], "--trainer.default_root_dir", root]
        words += [word for pair in SMALL.items() for word in pair]
        if ranks > 1:
            words += ["--trainer.strategy", "ddp", "--trainer.devices", ranks // nodes, "--trainer.num_nodes", nodes]
        if fault:
            words += ["--trainer.callbacks+=tests.training.faults.Fault"]
            for key, value in fault.items():
                words += [f"--trainer.callbacks.{key}", value]
        return [*words, *flags]

    return words


def last(folder):
    return max(folder.rglob("last.ckpt"), key=lambda path: path.stat().st_mtime_ns)


REASONS = {
    "exception": "rank {rank}: the disk is gone",
    "nan": "rank {rank}: Expected a finite loss, got nan at step 3; lower --model.lr",
    "kill": "may have been killed",
}


@pytest.mark.parametrize(("ranks", "rank"), [(2, 1), (2, 0), (4, 2)])
@pytest.mark.parametrize("kind", REASONS)
def test_a_fault_of_one_rank_ends_all_with_its_reason(kind, ranks, rank, forks, words, tmp_path):
    command = words("run", "--last.every_n_steps", 1, ranks=ranks, fault={"kind": kind, "rank": rank})
    codes, output = forks.run(*[command] * ranks)
    expected = [2] * ranks
    if kind == "kill":
        expected[rank] = -signal.SIGKILL
    assert codes == expected, output
    errors = [line for line in output.splitlines() if line.startswith("adain: error: ")]
    assert len(errors) == 1, output
    reason = "rank 0: it was killed" if (kind, rank) == ("kill", 0) else REASONS[kind].format(rank=rank)
    assert reason in errors[0]
    assert "Traceback" not in output
    assert state(last(tmp_path))["global_step"] == 2
