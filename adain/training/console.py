"""The console of training: where the run is, one line of progress, and nothing else."""

import logging
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ProgressBar

LOSSES = ("loss", "content", "style")
"""The losses in the line of progress, by their names after `train/`."""

REFRESH_SECONDS = 0.5
"""Time between updates of the line in a terminal."""

LOG_SECONDS = 60.0
"""Time between lines in a file or a pipe."""


def quiet_lightning() -> None:
    """Hide the messages of Lightning about seeds, missing hardware, and other products. Warnings are still shown."""
    for name in ("pytorch_lightning", "lightning_fabric", "lightning.fabric", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.WARNING)


class Console(ProgressBar):
    """Prints the device and the folder of a run at its start, its progress, and the folder again at its end.

    A terminal gets one line of progress, which is updated in place. A file or a pipe gets a line each minute and at
    each validation.

    Args:
        clock: Returns the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        super().__init__()
        self.clock = clock
        self.enabled = True
        self.folder = ""
        self.first_step = 0  # the one that this run started from
        self.start = 0.0  # when its second step began: the first one also prepares memory and kernels
        self.printed = 0.0  # when progress was printed last
        self.printed_step = 0  # and at which step
        self.width = 0  # of the line that is updated in place

    def disable(self) -> None:  # noqa: D102
        self.enabled = False

    def enable(self) -> None:  # noqa: D102
        self.enabled = True

    def on_train_start(self, trainer: Trainer, module: Any) -> None:  # noqa: D102
        # Not asked for again: `log_dir` waits for all ranks, some of which may have failed by then.
        self.folder = trainer.log_dir or "not recorded"
        self.first_step = self.printed_step = trainer.global_step
        self.start = self.printed = self.clock()
        steps = f"{trainer.max_steps} steps" if trainer.max_steps > 0 else "no limit of steps"
        resumed = f" from step {self.first_step}" if self.first_step else ""
        what = f"Training {type(module.method).__name__} on {describe_devices(trainer)}, {trainer.precision}"
        self._print_line(f"{what}, {steps}{resumed}; run: {self.folder}")

    def on_train_batch_end(self, trainer: Trainer, module: Any, *_: Any) -> None:  # noqa: D102
        now = self.clock()
        if trainer.global_step == self.first_step + 1:
            self.start = now
        if now - self.printed >= (REFRESH_SECONDS if sys.stderr.isatty() else LOG_SECONDS):
            self._print_progress(trainer)

    def on_validation_end(self, trainer: Trainer, module: Any) -> None:  # noqa: D102
        if trainer.state.fn == "fit" and not trainer.sanity_checking and not sys.stderr.isatty():
            self._print_progress(trainer)

    def on_train_end(self, trainer: Trainer, module: Any) -> None:  # noqa: D102
        if trainer.global_step > self.printed_step:
            self._print_progress(trainer)
        if trainer.global_step > self.first_step:
            self._print_line(f"Finished step {trainer.global_step}; run: {self.folder}")

    def on_exception(self, trainer: Trainer, module: Any, exception: BaseException) -> None:  # noqa: D102
        if trainer.global_step > self.first_step:
            self._print_line(f"Stopped at step {trainer.global_step}; run: {self.folder}")

    def _print_progress(self, trainer: Trainer) -> None:
        """Print the line of progress; in a terminal, in the place of the one before."""
        self.printed, self.printed_step = self.clock(), trainer.global_step
        if not self.enabled:
            return
        line = self.progress(trainer)
        if sys.stderr.isatty():
            print("\r" + line.ljust(self.width), end="", file=sys.stderr, flush=True)
            self.width = len(line)
        else:
            print(line, file=sys.stderr, flush=True)

    def _print_line(self, line: str) -> None:
        """Print a line of its own on standard output."""
        if not self.enabled:
            return
        if self.width:
            print(file=sys.stderr, flush=True)
            self.width = 0
        print(line, flush=True)

    def progress(self, trainer: Trainer) -> str:
        """Return the line of progress: step, losses, pairs per second, and time left."""
        step = trainer.global_step
        has_end = trainer.max_steps > 0
        parts = [f"step {step} of {trainer.max_steps}" if has_end else f"step {step}"]
        metrics = trainer.callback_metrics
        parts += [f"{name} {metrics[f'train/{name}'].item():.4g}" for name in LOSSES if f"train/{name}" in metrics]
        if "val/loss" in metrics:
            parts.append(f"validation {metrics['val/loss'].item():.4g}")
        if "train/images_per_second" in metrics:
            parts.append(f"{metrics['train/images_per_second'].item():.3g} pairs/s")
        timed = step - self.first_step - 1
        if has_end and timed > 0 and step < trainer.max_steps:
            seconds_per_step = (self.clock() - self.start) / timed
            parts.append(f"{duration(seconds_per_step * (trainer.max_steps - step))} left")
        return ", ".join(parts)


def describe_devices(trainer: Trainer) -> str:
    """Return the devices of all ranks, such as `CPU` or `4 x NVIDIA H100`."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
    return name if trainer.world_size == 1 else f"{trainer.world_size} x {name}"


def duration(seconds: float) -> str:
    """Return a time as hours:minutes:seconds."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"
