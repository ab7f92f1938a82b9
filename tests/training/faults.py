"""Faults for tests, as callbacks that a training run loads."""

import os
import random
import signal
import subprocess
from pathlib import Path

import torch
from pytorch_lightning import Callback

from adain.training import ranks


def terminate_all(folder):
    """Send SIGTERM to all ranks, and again, as a scheduler and a launcher do."""
    for _ in range(2):
        for path in folder.glob("*.pid"):
            os.kill(int(path.read_text()), signal.SIGTERM)


def stop_without_a_word():
    """Stop this process as if its machine had lost power. After some seconds, kill it, so that the test ends."""
    subprocess.Popen(["sh", "-c", f"sleep 20; kill -KILL {os.getpid()}"])
    os.kill(os.getpid(), signal.SIGSTOP)


class Fault(Callback):
    """Makes one rank fail before a step, and writes the process ids of all ranks into the folder of the runs.

    Args:
        kind: `exception`, `memory` (a device that is out of memory), `nan` (a loss that is not finite), `kill`
            (SIGKILL), `silence` (SIGSTOP), `terminate` (SIGTERM), `terminate-all` (SIGTERM to all ranks), or `none`.
        rank: The rank that fails.
        step: The number of steps before.
    """

    def __init__(self, kind: str, rank: int, step: int = 2):
        self.kind = kind
        self.rank = rank
        self.step = step
        if kind == "silence":
            ranks.SILENT_SECONDS = 3

    def setup(self, trainer, module, stage):
        (Path(trainer.default_root_dir) / f"{trainer.global_rank}.pid").write_text(str(os.getpid()))

    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.global_rank != self.rank or trainer.global_step != self.step:
            return
        if self.kind == "exception":
            raise OSError("the disk is gone")
        if self.kind == "memory":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        if self.kind == "nan":
            batch["content"].fill_(float("nan"))
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.kind == "silence":
            stop_without_a_word()
        if self.kind == "terminate":
            os.kill(os.getpid(), signal.SIGTERM)
        if self.kind == "terminate-all":
            terminate_all(Path(trainer.default_root_dir))


class SmallFiles(Callback):
    """Limits the size of files, as a full disk does.

    Args:
        size: The limit in bytes.
    """

    def __init__(self, size: int):
        import resource  # which Windows lacks

        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


class InterruptedEarly(Callback):
    """Ctrl-C before the first step."""

    def on_fit_start(self, trainer, module):
        raise KeyboardInterrupt  # not a signal, which a process in the background ignores


class KilledAnywhere(Callback):
    """SIGKILL at a random moment of the first steps of a run.

    Args:
        seed: Seed of the moment.
    """

    MOMENTS = (
        "on_train_batch_start",
        "on_before_zero_grad",
        "on_after_backward",
        "on_before_optimizer_step",
        "on_train_batch_end",
        "on_save_checkpoint",
    )

    def __init__(self, seed: int):
        self.remaining = random.Random(seed).randrange(6, 18)
        for name in self.MOMENTS:
            setattr(self, name, self.count)

    def count(self, *_):
        self.remaining -= 1
        if not self.remaining:
            os.kill(os.getpid(), signal.SIGKILL)
