"""Faults for test_faults.py, as callbacks that a training run loads."""

import os
import signal
from pathlib import Path

from pytorch_lightning import Callback


class Fault(Callback):
    """Makes one rank fail after a step, and writes the process ids of all ranks into the folder of the runs.

    Args:
        kind: `exception`, `nan` (a loss that is not finite), or `kill` (SIGKILL).
        rank: The rank that fails.
        step: The step after which it fails.
    """

    def __init__(self, kind: str, rank: int, step: int = 2):
        self.kind = kind
        self.rank = rank
        self.step = step

    def setup(self, trainer, module, stage):
        (Path(trainer.default_root_dir) / f"{trainer.global_rank}.pid").write_text(str(os.getpid()))

    def on_train_batch_start(self, trainer, module, batch, index):
        if trainer.global_rank != self.rank or trainer.global_step != self.step:
            return
        if self.kind == "exception":
            raise OSError("the disk is gone")
        if self.kind == "nan":
            batch["content"].fill_(float("nan"))
        if self.kind == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
