"""The command line of training, and the default settings of the trainer."""

import logging
import shutil
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import Callback, ProgressBar
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.strategies import StrategyRegistry
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from adain.models.checkpoint_io import read_file
from adain.training.callbacks import LAST, LastCheckpoint
from adain.training.console import Console, quiet_lightning
from adain.training.datamodule import Pictures
from adain.training.module import StyleTransfer
from adain.training.parser import COMMANDS, TrainingParser
from adain.training.ranks import MEMORY_ADVICE, MonitoredDDP
from adain.training.recipe import portable
from adain.training.tensorboard import TensorBoardRecords
from adain.utils.errors import one_line
from adain.utils.flags import check_not_empty
from adain.utils.precision import Half, fast_half, warn_if_emulated

log = logging.getLogger(__name__)

TRAINER_DEFAULTS = {
    "default_root_dir": "runs",
    "max_epochs": -1,  # the data are endless; max_steps ends a run
    "use_distributed_sampler": False,  # the data module distributes the samples itself
    "check_val_every_n_epoch": None,
    "val_check_interval": 1000,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}
"""Settings of the trainer that differ from those of Lightning."""

MIXED_PRECISION: dict[Half | None, Any] = {"bf16": "bf16-mixed", "fp16": "16-mixed", None: "32-true"}
"""Lightning's precision by the fastest 16-bit type of the device."""

TrainerPrecision = Literal[
    "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", "64", "32", "16", "bf16", 64, 32, 16
]

HALF_TYPES: dict[Any, Half] = {
    "bf16-mixed": "bf16",
    "bf16-true": "bf16",
    "bf16": "bf16",
    "16-mixed": "fp16",
    "16-true": "fp16",
    "16": "fp16",
    16: "fp16",
}
"""The 16-bit type of each precision of Lightning that has one."""

EXPECTED_WARNINGS = (
    "LightningCLI's args parameter",  # `adain train` passes the rest of its command line
    r"Found \d+ module\(s\) in eval mode",  # the frozen networks
    "It is recommended to use .self.log.*sync_dist=True",  # all ranks validate on the same pairs
    ".*isinstance.treespec, LeafSpec.. is deprecated",  # between Lightning and torch
)


OWN_FLAGS = ("data.", "model.", "ckpt_path", "trainer.default_root_dir")
"""How the flags begin that must not be empty. Lightning has others, which may be."""


class AutoTrainer(Trainer):
    """Lightning's `Trainer`, which uses the fastest precision of the hardware by default.

    Args:
        precision: Precision of training: `auto`, or one of Lightning's. `auto` is bf16-mixed where bf16 is fast,
            16-mixed with loss scaling on older CUDA devices, and 32-true elsewhere
            (`adain.utils.precision.fast_half`).
        accelerator: Accelerator, as in Lightning: `auto`, `cpu`, `gpu`, `mps`, and others.
        kwargs: All other arguments of Lightning's `Trainer`.
    """

    def __init__(
        self,
        *,
        precision: Literal["auto"] | TrainerPrecision | None = "auto",
        accelerator: str = "auto",
        **kwargs: Any,
    ):
        device = _device_of(accelerator)
        if precision == "auto":
            precision = MIXED_PRECISION[fast_half(device)]
        elif precision in HALF_TYPES:
            warn_if_emulated(HALF_TYPES[precision], device)
        if kwargs.get("benchmark") is None and not kwargs.get("deterministic"):
            kwargs["benchmark"] = True  # cuDNN's fastest convolutions for the size of the crops, which is fixed
        super().__init__(precision=precision, accelerator=accelerator, **kwargs)  # type: ignore[arg-type]


def _device_of(accelerator: str) -> torch.device:
    """Return the device on which Lightning trains with this accelerator; the CPU if it is not a known GPU."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if accelerator == "mps" else "cpu")


class TrainingCLI(LightningCLI):
    """The LightningCLI of training.

    Checkpoints contain the configuration of the run. When a run is resumed, flags take precedence over the
    configuration in the checkpoint.
    """

    new_folders: Sequence[Path] = ()  # what rank 0 creates: the folder of the run, then its new parents

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Return the subcommands, and the parameters that are no flags. There is nothing to `test` or `predict`."""
        return {name: skipped for name, skipped in LightningCLI.subcommands().items() if name in COMMANDS}

    def _parse_ckpt_path(self) -> None:
        """Do nothing: a resumed run takes its settings from the command line, not from the checkpoint."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:  # noqa: D102
        parser.add_lightning_class_args(LastCheckpoint, "last")

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Callback]) -> Trainer:
        """Return the trainer with the console of this package, unless there is another progress bar or none."""
        given = config["callbacks"] if isinstance(config["callbacks"], list) else [config["callbacks"]]
        has_bar = any(isinstance(callback, ProgressBar) for callback in given)
        console = [] if has_bar or config["enable_progress_bar"] is False else [Console()]
        return super()._instantiate_trainer(config, [*callbacks, *console, TensorBoardRecords()])

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the command line. Raise ValueError for a flag of this package with an empty value."""
        super().parse_arguments(parser, args)
        for name, value in self.config[self.config.subcommand].items():
            if name.startswith(OWN_FLAGS):
                check_not_empty(f"--{name}", value)

    def before_instantiate_classes(self) -> None:
        """Make sure that a checkpoint is read without running code from it, and can be resumed.

        `last` as the checkpoint is the newest one below the root folder of the runs, or none if there is none.

        Raises:
            ValueError: The checkpoint was not written by a training run, or cannot be read.
        """
        settings = self.config[self.subcommand]
        settings.weights_only = True
        if settings.ckpt_path == "last":
            settings.ckpt_path = newest_checkpoint(Path(settings.trainer.default_root_dir))
        if settings.ckpt_path and "pytorch-lightning_version" not in read_file(settings.ckpt_path)[0]:
            raise ValueError(
                f"Expected the checkpoint of a training run, got {settings.ckpt_path}; "
                "to start from weights, use --model.start"
            )

    def before_fit(self) -> None:  # noqa: D102
        self.model.recipe = portable(self.parser.dump(self.config, skip_none=True))
        logger = self.trainer.logger
        if isinstance(logger, TensorBoardLogger) and self.trainer.global_rank == 0:
            folder = Path(logger.log_dir)
            self.new_folders = [path for path in (folder, *folder.parents) if not path.exists()]
        if isinstance(self.trainer.strategy, MonitoredDDP):
            self.trainer.strategy.clean_up = self._end_run

    def _end_run(self) -> None:
        """Write what is logged so far. A run that fails before its first step leaves no folder."""
        for logger in self.trainer.loggers:
            logger.finalize("failed")
        if not self.model.has_trained:
            self._remove_new_folders()

    def _run_subcommand(self, subcommand: str) -> None:
        """Run a subcommand. A run that fails before its first step leaves no folder.

        Raises:
            KeyboardInterrupt: Ctrl-C at a time when there is no step to finish. Lightning alone exits with code 1 then,
                without a message.
        """
        try:
            super()._run_subcommand(subcommand)
        except BaseException as error:
            if subcommand == "fit" and not self.model.has_trained:
                self._remove_new_folders()
            if isinstance(error, SystemExit) and isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise

    def _remove_new_folders(self) -> None:
        if not self.new_folders:
            return
        run, *parents = self.new_folders
        shutil.rmtree(run, ignore_errors=True)
        for parent in parents:
            with suppress(OSError):  # it has other contents
                parent.rmdir()


def newest_checkpoint(folder: Path) -> str | None:
    """Return the checkpoint that was written last in a folder and its subfolders; None if there is none."""
    newest = max(folder.rglob(LAST), key=lambda path: path.stat().st_mtime_ns, default=None)
    if newest is None:
        log.warning("There is no %s below %s: training starts from the beginning", LAST, folder)
        return None
    log.warning("Resuming from %s", newest)
    return str(newest)


def check_command(words: Sequence[str], prog: str) -> None:
    """Raise ValueError if a flag stands where the command should, whose value would be taken for the command."""
    before_commands = ("-h", "--help", "--help-all", "-c", "--config", "--print_config")
    name = words[0].partition("=")[0] if words else ""
    if name.startswith("-") and name not in before_commands:
        raise ValueError(f"Expected a command first ({' or '.join(COMMANDS)}), got {name}; see {prog} --help")


def main(args: list[str] | None = None, prog: str = "train.py") -> None:
    """Run the command line of training, `prog` in help texts: `fit`, `validate`, and their flags."""
    words = sys.argv[1:] if args is None else args
    check_command(words, prog)
    TrainingParser.show_all, TrainingParser.program = "--help-all" in words, prog
    quiet_lightning()
    torch.set_float32_matmul_precision("high")
    for expected in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", expected)
    StrategyRegistry.register("ddp", MonitoredDDP, "DDP that ends all ranks when one fails", override=True)
    try:
        TrainingCLI(
            StyleTransfer,
            Pictures,
            args=["--help" if word == "--help-all" else word for word in words],
            parser_class=TrainingParser,
            parser_kwargs={"description": "Train a style transfer network on your own images."},
            trainer_class=AutoTrainer,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            save_config_kwargs={"overwrite": True},
        )
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error
    except torch.OutOfMemoryError as error:
        raise ValueError(one_line(error, MEMORY_ADVICE)) from error
