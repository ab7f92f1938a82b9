"""Callbacks: the checkpoint of the last step."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Checkpoint

from adain.training.sources import Sample
from adain.utils.interrupts import catch_interrupt

log = logging.getLogger(__name__)


class LastCheckpoint(Checkpoint):
    """Keeps `last.ckpt` in the run's folder: every so many steps, and whenever the run ends or is interrupted.

    Weights whose loss on the last batch is not finite are not saved: they would replace the last good checkpoint.

    Ctrl-C lets the step at hand finish, so that the run can go on exactly; a second Ctrl-C does not wait. Several ranks
    agree on the last step when they next log.

    Args:
        every_n_steps: between checkpoints.
    """

    def __init__(self, every_n_steps: int = 500):
        self.every_n_steps, self.saved = every_n_steps, 0
        self.batch: Sample = {}  # the last one trained on
        self.refused = 0  # the last step whose weights were not saved, since their loss is not finite
        self.stopping = False
        self.release: Callable[[], object] | None = None  # of Ctrl-C, once it is caught

    def on_train_start(self, trainer: Trainer, *_: Any) -> None:  # noqa: D102
        self.release = catch_interrupt(self._stop)

    def _stop(self) -> None:
        log.warning("stopping after this step; Ctrl-C again stops at once")
        self.stopping = True

    def teardown(self, *_: Any, **__: Any) -> None:  # noqa: D102
        if self.release:
            self.release()

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Sample, index: int) -> None:  # noqa: D102
        trainer.datamodule.position = batch.get("position")
        self.batch, step = batch, trainer.global_step
        if trainer.world_size == 1 or step % max(1, trainer.log_every_n_steps) == 0:
            trainer.should_stop |= trainer.strategy.reduce_boolean_decision(self.stopping, all=False)
        # The end as well, here: at on_train_end averaged weights may have replaced the live ones.
        if step % self.every_n_steps == 0 or step == trainer.max_steps or trainer.should_stop:
            self._save(trainer)

    def on_validation_start(self, trainer: Trainer, *_: Any) -> None:  # noqa: D102
        self._save(trainer)  # validation may swap averaged weights in, so none is saved in its midst

    def on_train_end(self, trainer: Trainer, *_: Any) -> None:  # noqa: D102
        self._save(trainer)

    def on_exception(self, trainer: Trainer, *_: Any) -> None:  # noqa: D102
        if trainer.training and trainer.world_size == 1:
            self._save(trainer)

    def _save(self, trainer: Any) -> None:
        step = trainer.global_step
        fresh = trainer.state.fn == "fit" and not trainer.sanity_checking and step > max(self.saved, self.refused)
        if not fresh:
            return
        if not trainer.strategy.reduce_boolean_decision(self._has_finite_loss(trainer), all=True):
            self.refused = step
            log.warning("no checkpoint at step %d: the loss with these weights is not finite", step)
            return
        trainer.save_checkpoint(Path(trainer.log_dir or trainer.default_root_dir) / "last.ckpt")
        self.saved = step

    @torch.no_grad()
    def _has_finite_loss(self, trainer: Any) -> bool:
        """Whether the weights give a finite loss on the last batch.

        The loss of the last step belongs to the weights before it. A run that diverged would replace its last good
        checkpoint if that loss decided.
        """
        module = trainer.lightning_module
        if not all(parameter.isfinite().all() for parameter in module.parameters()):
            return False
        training = module.training
        module.eval()  # batch norm keeps its running statistics
        with trainer.precision_plugin.val_step_context():
            loss = module.loss.total(module(self.batch)[1])
        module.train(training)
        return bool(loss.isfinite())
