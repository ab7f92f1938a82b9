"""The command line of training, and the trainer's defaults."""

import shutil
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
from pytorch_lightning import Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException

from adain.models.checkpoint_io import read_file
from adain.training.callbacks import LastCheckpoint
from adain.training.datamodule import Pictures
from adain.training.module import StyleTransfer
from adain.training.recipe import portable
from adain.utils.precision import Half, fast_half, warn_if_emulated

TRAINER = {
    "default_root_dir": "runs",
    "max_epochs": -1,  # the data are endless; max_steps ends a run
    "use_distributed_sampler": False,  # ours knows the ranks
    "check_val_every_n_epoch": None,
    "val_check_interval": 1000,
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
}
"""Where Lightning's defaults do not suit."""

MIXED: dict[Half | None, Any] = {"bf16": "bf16-mixed", "fp16": "16-mixed", None: "32-true"}
"""Lightning's names for training in the fastest type."""

TrainerPrecision = Literal[
    "32-true", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true", "64", "32", "16", "bf16", 64, 32, 16
]

HALVES: dict[Any, Half] = {"bf16-mixed": "bf16", "bf16-true": "bf16", "bf16": "bf16"}
HALVES |= {"16-mixed": "fp16", "16-true": "fp16", "16": "fp16", 16: "fp16"}

EXPECTED_WARNINGS = (
    "LightningCLI's args parameter",  # `adain train` hands over the rest of its line
    r"Found \d+ module\(s\) in eval mode",  # the frozen networks
    ".*isinstance.treespec, LeafSpec. is deprecated",  # between Lightning and torch
)


class AutoTrainer(Trainer):
    """Lightning's `Trainer`, whose precision is by default the fastest type of the hardware.

    Args:
        precision: `auto` is bf16-mixed where the hardware computes bf16, 16-mixed with loss scaling on older CUDA
            devices, and 32-true everywhere else (`adain.utils.precision.fast_half`); or one of Lightning's.
        accelerator: as Lightning takes it.
        kwargs: everything else that Lightning takes.
    """

    def __init__(
        self,
        *,
        precision: Literal["auto"] | TrainerPrecision | None = "auto",
        accelerator: str = "auto",
        **kwargs: Any,
    ):
        on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        device = torch.device("cuda" if on_gpu else "mps" if accelerator == "mps" else "cpu")
        if precision == "auto":
            precision = MIXED[fast_half(device)]
        elif half := HALVES.get(precision):
            warn_if_emulated(half, device)
        super().__init__(precision=precision, accelerator=accelerator, **kwargs)  # type: ignore[arg-type]


class TrainingCLI(LightningCLI):
    """LightningCLI whose checkpoints carry the run's configuration, and whose flags win over a checkpoint's."""

    new_folders: Sequence[Path] = ()  # what rank 0 creates: the run's folder, and those it lies in

    def _parse_ckpt_path(self) -> None:
        """A resumed run takes its settings from the command line, not from the checkpoint."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:  # noqa: D102
        parser.add_lightning_class_args(LastCheckpoint, "last")

    def before_instantiate_classes(self) -> None:
        """Loading a checkpoint never runs code from it; one that cannot be read is refused before any work."""
        settings = self.config[self.subcommand]
        settings.weights_only = True
        if settings.ckpt_path and "pytorch-lightning_version" not in read_file(settings.ckpt_path)[0]:
            raise ValueError(f"{settings.ckpt_path} is no run's checkpoint; start from weights with --model.start")

    def before_fit(self) -> None:  # noqa: D102
        self.model.recipe = portable(self.parser.dump(self.config, skip_none=True))
        logger = self.trainer.logger
        if isinstance(logger, TensorBoardLogger) and self.trainer.global_rank == 0:
            folder = Path(logger.log_dir)
            self.new_folders = [path for path in (folder, *folder.parents) if not path.exists()]

    def _run_subcommand(self, subcommand: str) -> None:
        """A run that fails before its first step leaves no folder."""
        try:
            super()._run_subcommand(subcommand)
        except BaseException:
            if subcommand == "fit" and not self.model.has_trained:
                for folder in self.new_folders[:1]:  # of the run itself
                    shutil.rmtree(folder, ignore_errors=True)
                for parent in self.new_folders[1:]:
                    with suppress(OSError):  # something else lies in it
                        parent.rmdir()
            raise


def main(args: list[str] | None = None) -> None:
    """The command line of training: `fit`, `validate` and their flags."""
    torch.set_float32_matmul_precision("high")
    for expected in EXPECTED_WARNINGS:
        warnings.filterwarnings("ignore", expected)
    options: dict[str, Any] = {"seed_everything_default": 0, "save_config_kwargs": {"overwrite": True}}
    try:
        TrainingCLI(StyleTransfer, Pictures, args=args, trainer_class=AutoTrainer, trainer_defaults=TRAINER, **options)
    except MisconfigurationException as error:
        raise ValueError(str(error)) from error
