"""Runs of `train.py` in processes of their own that need not import torch and Lightning again.

Imports take most of the time of a short run. A server process imports everything once and is forked for each run
(`multiprocessing`'s forkserver). It has computed nothing before, so that a fork is like a new process.
"""

import multiprocessing
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.launcher", "adain.training.cli", "adain.training.datamodule"])


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
        if self.process.is_alive():
            self.kill()
            raise subprocess.TimeoutExpired("train.py", timeout)
        output, errors = (file.read_text() if file.exists() else "" for file in self.files)
        self.logs.cleanup()
        return output, errors


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
