"""Callbacks: the checkpoint of the last step."""

import logging
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Checkpoint

from adain.training.batches import Batch
from adain.utils.files import atomic_path
from adain.utils.interrupts import catch_interrupt

log = logging.getLogger(__name__)

LAST = "last.ckpt"
"""The name of the checkpoint in the folder of a run."""

REPEAT_SECONDS = 2
"""For how long after a signal further ones have no effect."""

AGREE_STEPS = 10
"""Number of steps after which ranks on GPUs tell each other about signals."""


class LastCheckpoint(Checkpoint):
    """Saves `last.ckpt` in the folder of the run, at regular steps and whenever the run ends or is interrupted.

    Weights whose loss on the last batch is not finite are not saved, so that they cannot replace the last good
    checkpoint.

    After Ctrl-C or SIGTERM, the current step is finished, so that the run can be resumed exactly. A signal to one rank
    stops all of them after the same step; on several GPUs, within `AGREE_STEPS` steps. A second signal, some seconds
    later, stops at once.

    A checkpoint replaces the one before only when it is complete, so that a full disk does not destroy a run.

    Args:
        every_n_steps: Number of steps between checkpoints.
    """

    def __init__(self, every_n_steps: int = 500):
        self.every_n_steps = every_n_steps
        self.saved_step = 0
        self.rejected_step = 0  # the last step whose weights were not saved because their loss is not finite
        self.batch: Batch = {}  # the last one trained on
        self.stopping = False
        self.release_interrupt: Callable[[], object] | None = None  # set while signals are caught

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:
        """Catch signals.

        Raises:
            ValueError: The ranks have resumed from different checkpoints.
        """
        _check_same_step(trainer)
        self.saved_step = trainer.global_step  # where the run resumes: nothing new to save before the next step
        if threading.current_thread() is threading.main_thread():
            # Lightning's handler waits for the other ranks in the middle of whatever this one was doing.
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self.release_interrupt = catch_interrupt(self._stop, (signal.SIGINT, signal.SIGTERM), REPEAT_SECONDS)

    def _stop(self) -> None:
        log.warning("Stopping after this step; press Ctrl-C or send the signal again to stop at once")
        self.stopping = True

    def _release_interrupt(self) -> None:
        if self.release_interrupt:
            self.release_interrupt()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Batch, index: int) -> None:  # noqa: D102
        trainer.datamodule.position = batch.get("position")
        self.batch = batch
        step = trainer.global_step
        if not _waits_for_gpu(trainer) or step % AGREE_STEPS == 0:
            trainer.should_stop |= trainer.strategy.reduce_boolean_decision(self.stopping, all=False)
        # The last step is saved here too: at on_train_end, averaged weights may have replaced the trained ones.
        if step % self.every_n_steps == 0 or step == trainer.max_steps or trainer.should_stop:
            self._save(trainer)

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:  # noqa: D102
        self._save(trainer)  # before validation, which may swap averaged weights in

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:  # noqa: D102
        self._save(trainer)
        self._release_interrupt()

    def on_exception(self, trainer: Trainer, *_: Any) -> None:  # noqa: D102
        if trainer.training and trainer.world_size == 1:
            self._save(trainer)
        self._release_interrupt()

    def _save(self, trainer: Any) -> None:
        """Save a checkpoint unless this step is already saved or rejected."""
        step = trainer.global_step
        is_training = trainer.state.fn == "fit" and not trainer.sanity_checking
        if not is_training or step <= max(self.saved_step, self.rejected_step):
            return
        if not trainer.strategy.reduce_boolean_decision(self._has_finite_loss(trainer), all=True):
            self.rejected_step = step
            log.warning("No checkpoint is saved at step %d: the loss with these weights is not finite", step)
            return
        path = Path(trainer.log_dir or trainer.default_root_dir) / LAST
        if trainer.global_rank == 0:
            with atomic_path(path) as temporary:
                trainer.save_checkpoint(temporary, weights_only=False)
        else:
            trainer.save_checkpoint(path, weights_only=False)  # takes part, but writes no file
        self.saved_step = step

    @torch.no_grad()
    def _has_finite_loss(self, trainer: Any) -> bool:
        """Return whether the loss of the current weights on the last batch is finite.

        The loss of the last training step is not enough: it was computed before the update, so that a run that diverges
        in this step would replace its last good checkpoint.
        """
        module = trainer.lightning_module
        if not all(parameter.isfinite().all() for parameter in module.parameters()):
            return False
        training = module.training
        module.eval()  # so that batch norm does not update its running statistics
        with trainer.precision_plugin.val_step_context():
            loss = module.loss.total(module(self.batch)[1])
        module.train(training)
        return bool(loss.isfinite())


def _waits_for_gpu(trainer: Trainer) -> bool:
    """Return whether a decision of all ranks makes the processor wait until the GPUs have finished all their work."""
    return trainer.world_size > 1 and trainer.strategy.root_device.type != "cpu"


def _check_same_step(trainer: Any) -> None:
    """Raise ValueError unless all ranks are at the same step."""
    step = torch.tensor(trainer.global_step, device=trainer.strategy.root_device)
    steps = trainer.strategy.all_gather(step).unique().tolist()
    if len(steps) > 1:
        raise ValueError(
            f"Expected all ranks to resume from the same step, got steps {', '.join(map(str, steps))}; "
            "put the folder of the run on a file system that all nodes share"
        )
