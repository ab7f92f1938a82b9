"""A fault of one rank ends all ranks with its reason, and a killed run is resumed digit for digit."""

import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.conftest import ROOT, picture_folders, wait_for
from tests.launcher import free_port, run_ranks
from tests.training.test_module import state
from tests.training.test_resume import assert_equal

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


def errors(output):
    return [line for line in output.splitlines() if line.startswith("adain: error: ")]


REASONS = {
    "exception": "rank {rank}: the disk is gone",
    "nan": "rank {rank}: Expected a finite loss, got nan at step 3; lower --model.lr",
    "kill": "may have been killed",
    "memory": "rank {rank}: out of memory; lower --data.batch_size",
}


CASES = [
    ("exception", 2, 1),
    ("nan", 2, 1),
    ("kill", 2, 1),
    pytest.param("memory", 2, 1, marks=pytest.mark.slow),
    pytest.param("exception", 2, 0, marks=pytest.mark.slow),
    pytest.param("kill", 2, 0, marks=pytest.mark.slow),
    pytest.param("exception", 4, 2, marks=pytest.mark.slow),
    pytest.param("nan", 4, 0, marks=pytest.mark.slow),
    pytest.param("kill", 4, 3, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("kind", "ranks", "rank"), CASES)
def test_a_fault_of_one_rank_ends_all_with_its_reason(kind, ranks, rank, words, tmp_path):
    command = words("run", "--last.every_n_steps", 1, ranks=ranks, fault={"kind": kind, "rank": rank})
    codes, output = run_ranks(*[command] * ranks)
    expected = [2] * ranks
    if kind == "kill":
        expected[rank] = -signal.SIGKILL
    assert codes == expected, output
    (error,) = errors(output)
    reason = "rank 0: it was killed" if (kind, rank) == ("kill", 0) else REASONS[kind].format(rank=rank)
    assert reason in error
    assert "Traceback" not in output
    assert state(last(tmp_path))["global_step"] == 2


@pytest.mark.slow
def test_a_rank_that_gives_no_sign_of_life_ends_the_run(words):
    command = words("run", ranks=2, fault={"kind": "silence", "rank": 1})
    codes, output = run_ranks(command, command)
    assert codes == [2, -signal.SIGKILL], output
    assert errors(output) == [
        "adain: error: rank 0: rank 1 has not answered for 3 seconds; resume with --ckpt_path last"
    ]


def test_a_source_that_one_node_cannot_read_ends_all(words, folders, tmp_path):
    commands = [words("run", ranks=2, nodes=2, content=content) for content in (folders[0], tmp_path / "nothing")]
    codes, output = run_ranks(*commands, nodes=2)
    assert codes == [2, 2], output
    assert len(errors(output)) == 2, "each node says it"
    assert all("rank 1: Expected a folder of images" in error for error in errors(output))
    assert not list((tmp_path / "run").iterdir()), "there is nothing to resume"


@pytest.mark.parametrize(
    ("kind", "ranks"),
    [
        ("terminate-all", 2),
        pytest.param("terminate", 2, marks=pytest.mark.slow),
        pytest.param("terminate-all", 4, marks=pytest.mark.slow),
    ],
)
def test_sigterm_stops_all_ranks_which_resume_exactly(kind, ranks, words, tmp_path):
    command = words("run", ranks=ranks, fault={"kind": kind, "rank": ranks - 1})
    codes, output = run_ranks(*[command] * ranks)
    assert codes == [0] * ranks, output
    assert not errors(output)
    assert state(last(tmp_path))["global_step"] == 3, "the step during which the signal came is the last one"
    resumed = words("run", "--ckpt_path", "last", "--trainer.max_steps", 5, ranks=ranks)
    uninterrupted = words("other", "--trainer.max_steps", 5, ranks=ranks)
    for command in (resumed, uninterrupted):
        codes, output = run_ranks(*[command] * ranks)
        assert codes == [0] * ranks, output
    assert_equal(state(last(tmp_path / "run")), state(last(tmp_path / "other")))


@pytest.mark.slow
def test_two_nodes_are_one_node_of_as_many_ranks_also_after_one_was_killed(words, tmp_path):
    """Four ranks in both cases."""
    steps = "--trainer.max_steps", 6
    codes, output = run_ranks(*[words("one", *steps, ranks=4)] * 4)
    assert codes == [0] * 4, output
    node = words(
        "two", *steps, "--last.every_n_steps", 2, ranks=4, nodes=2, fault={"kind": "kill", "rank": 2, "step": 5}
    )
    codes, output = run_ranks(*[node] * 4, nodes=2)
    assert codes == [2, 2, -signal.SIGKILL, 2], output
    assert state(last(tmp_path / "two"))["global_step"] == 4
    node = words("two", *steps, "--ckpt_path", "last", ranks=4, nodes=2)
    codes, output = run_ranks(*[node] * 4, nodes=2)
    assert codes == [0] * 4, output
    assert_equal(state(last(tmp_path / "two")), state(last(tmp_path / "one")))


def test_ranks_that_resume_from_different_steps_are_refused(words, tmp_path):
    codes, output = run_ranks(words("run", "--trainer.max_steps", 2))
    assert codes == [0], output
    nodes = [words("run", ranks=2, nodes=2), words("run", "--ckpt_path", last(tmp_path), ranks=2, nodes=2)]
    codes, output = run_ranks(*nodes, nodes=2)
    assert codes == [2, 2], output
    assert "Expected all ranks to resume from the same step, got steps 0, 2" in errors(output)[0]


@pytest.mark.slow
@pytest.mark.timeout(1800)  # not to fail on a busy machine
def test_twenty_kills_at_random_moments(words, tmp_path):
    steps = 40
    flags = "--trainer.max_steps", steps, "--ckpt_path", "last", "--last.every_n_steps", 2
    for seed in range(20):
        killer = ["--trainer.callbacks+=tests.training.faults.KilledAnywhere", "--trainer.callbacks.seed", seed]
        codes, output = run_ranks(words("killed", *flags, *killer))
        assert codes == [-signal.SIGKILL], output
    reached = state(last(tmp_path / "killed"))["global_step"]
    assert 0 < reached < steps
    for name in ("killed", "uninterrupted"):
        codes, output = run_ranks(words(name, *flags))
        assert codes == [0], output
    assert_equal(state(last(tmp_path / "killed")), state(last(tmp_path / "uninterrupted")))


def is_running(pid):
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("survivor_is_host", [True, False])
def test_two_launchers_one_of_which_is_killed(survivor_is_host, words, tmp_path):
    def launch(*flags):
        port = free_port()
        launcher = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
        launcher += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"localhost:{port}", "--rdzv-id", "test"]
        node = words("two", *flags, "--last.every_n_steps", 2, ranks=2, nodes=2, fault={"kind": "none", "rank": 0})
        training = ["train.py", "fit", *map(str, node)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (tmp_path / "log").open("a") as log:
            return [
                subprocess.Popen(
                    [*launcher, "--rdzv-conf", f"is_host={is_host}", *training],
                    cwd=ROOT,
                    env=environment,
                    stdout=log,
                    stderr=log,
                )
                for is_host in (survivor_is_host, not survivor_is_host)
            ]

    launchers = launch("--trainer.max_steps", 100000)
    wait_for(lambda: list(tmp_path.rglob("last.ckpt")), launchers[0], 600)
    launchers[1].kill()
    launchers[1].wait(60)
    log = tmp_path / "log"
    assert launchers[0].wait(120) != 0, log.read_text()
    pids = [int(path.read_text()) for path in (tmp_path / "two").glob("*.pid")]
    assert len(pids) == 2
    deadline = time.monotonic() + 60
    while any(map(is_running, pids)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(is_running, pids))
    if survivor_is_host:
        assert "the process that started it was killed; resume with --ckpt_path last" in log.read_text()
    else:  # the surviving launcher loses its rendezvous, and may end its rank before that has noticed anything
        assert re.search("was killed; |lost the connection|connection to the C10d store has failed", log.read_text())

    steps = state(last(tmp_path))["global_step"] + 3
    codes = [launcher.wait(600) for launcher in launch("--ckpt_path", "last", "--trainer.max_steps", steps)]
    assert codes == [0, 0], log.read_text()
    codes, output = run_ranks(*[words("one", "--trainer.max_steps", steps, ranks=2)] * 2)
    assert codes == [0, 0], output
    assert_equal(state(last(tmp_path / "two")), state(last(tmp_path / "one")))
