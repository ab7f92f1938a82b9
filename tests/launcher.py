"""Runs of `train.py` in processes of their own that need not import torch and Lightning again.

Imports take most of the time of a short run. A server process imports everything once and is forked for each run
(`multiprocessing`'s forkserver). It has computed nothing before, so that a fork is like a new process.
"""

import multiprocessing
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"  # as on Windows
CONTEXT = multiprocessing.get_context(METHOD)
if METHOD == "forkserver":
    # This module is not among them: the server, whose current folder is that of the first test, may not find it.
    CONTEXT.set_forkserver_preload(["adain.training.cli", "adain.training.datamodule"])

DEADLINE = 300
"""Seconds until ranks are killed. They are many because machines that test are busy; no run should ever need them."""


class Run:
    """A run of `train.py`, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, words: list[str], environment: dict[str, str], folder: Path = ROOT):
        self.logs = tempfile.TemporaryDirectory()
        self.files = [Path(self.logs.name, name) for name in ("output", "errors")]
        self.process = CONTEXT.Process(target=_main, args=(words, environment, folder, self.files))
        self.process.start()

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode

    def poll(self) -> int | None:
        return self.process.exitcode

    def send_signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> None:
        self.process.kill()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        self.process.join(timeout)
        late = self.process.is_alive()
        if late:
            self.kill()
            self.process.join()
        output, errors = (file.read_text() if file.exists() else "" for file in self.files)
        self.logs.cleanup()
        if late:
            raise subprocess.TimeoutExpired("train.py", timeout, output, errors)
        return output, errors


def run_ranks(*commands: list, nodes: int = 1) -> tuple[list[int], str]:
    """Run a command line of training on each rank, as `torchrun` starts them.

    Returns:
        The exit codes, and what all ranks print.
    """
    port = free_port()
    local_ranks = len(commands) // nodes
    runs = []
    for rank, words in enumerate(commands):
        variables = {
            "RANK": rank,
            "LOCAL_RANK": rank % local_ranks,
            "GROUP_RANK": rank // local_ranks,
            "WORLD_SIZE": len(commands),
            "LOCAL_WORLD_SIZE": local_ranks,
            "MASTER_ADDR": "localhost",
            "MASTER_PORT": port,
            "TORCHELASTIC_RUN_ID": "test",
        }
        if len(commands) == 1:
            variables = {}  # an ordinary run
        runs.append(Run(["fit", *map(str, words)], {name: str(value) for name, value in variables.items()}))
    try:
        printed = [text for run in runs for text in run.communicate(DEADLINE)]
    finally:
        for run in runs:
            run.kill()  # those that wait for one that did not end
    return [run.returncode for run in runs], "".join(printed)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def _main(words: list[str], environment: dict[str, str], folder: Path, files: list[Path]) -> None:
    """Run `train.py` with some arguments, as the child of the server."""
    import torch

    from adain.cli.main import guarded
    from adain.training.cli import main

    for number, file in zip((1, 2), files, strict=True):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.environ.update(environment)
    os.chdir(folder)
    torch.set_num_threads(1)  # as OMP_NUM_THREADS does, which torch has read already
    sys.argv = [str(ROOT / "train.py"), *words]
    sys.exit(guarded(main))
