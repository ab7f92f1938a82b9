"""Training: the LightningModule, and the command line over it and `adain.data`."""

import logging
import math
import shutil
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI
from pytorch_lightning.loggers import TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor

from adain import images, weights
from adain.backbones import Backbone, read_file
from adain.data import Pictures, Sample
from adain.losses import PerceptualLoss, total_variation
from adain.methods import Trainable
from adain.optim import Muon
from adain.precision import Half, fast_half, warn_if_emulated
from adain.recipe import portable
from adain.watch import catch_interrupt

log = logging.getLogger(__name__)

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


class StyleTransfer(LightningModule):
    """Train a method against the content and style losses of a frozen network.

    Args:
        method: what is trained.
        loss: on the features of the network that the method encodes with, or else of the embedded VGG-19.
        optimizer: `adam` as in the paper, or `muon` (`adain.optim`): a hundred times the rate, a fraction of the steps.
        lr: the learning rate at the start.
        schedule: `inverse` divides it by 1 + `lr_decay` step (the paper's); `cosine` brings it to 0 at the last step.
        lr_decay: of the inverse schedule.
        warmup_steps: over which the rate rises from 0.
        start: a file of weights to start from, a run's checkpoint or converted ones: of the same method, or of
            one that has some of its parts (AdaIN's decoder serves AdaConv).
        style: the one picture whose style a method without styles (Johnson) learns.
        style_size: its shorter side in pixels.
        compile: compile the networks with `torch.compile`, which needs a C++ compiler, or Triton on a GPU. The first
            steps take minutes then, and 3x3 convolutions on a CPU are PyTorch's own, not `adain.winograd`.
    """

    style: Tensor | None

    def __init__(
        self,
        method: Trainable,
        loss: PerceptualLoss = PerceptualLoss(),  # noqa: B008 - frozen, and read by the command line
        optimizer: Literal["adam", "muon"] = "adam",
        lr: float = 1e-4,
        schedule: Literal["inverse", "cosine"] = "inverse",
        lr_decay: float = 5e-5,
        warmup_steps: int = 0,
        start: str | None = None,
        style: str | None = None,
        style_size: int = 256,
        compile: bool = False,
    ):
        super().__init__()
        if not (method.styled or style):
            raise ValueError(f"{type(method).__name__} learns one style; name its picture with --model.style")
        if style and (loss.relative or loss.reconstruction_weight):
            raise ValueError(
                "one style is learned with absolute losses; do without loss.relative and reconstruction_weight"
            )
        self.method, self.loss = method, loss
        self.optimizer, self.lr, self.schedule = optimizer, lr, schedule
        self.lr_decay, self.warmup_steps = lr_decay, warmup_steps
        self.backbone = Backbone(layers=[*loss.layers, *method.layers], **method.network)
        self.register_buffer("style", images.load_picture(style, style_size) if style else None, persistent=False)
        self.style_features: dict[str, Tensor] = {}  # of that picture, once seen
        if start:
            weights.fill(method, {**method.state_dict(), **weights.read(start)[0]}, start)
        self.to(memory_format=torch.channels_last)
        # Frozen weights are the same on every rank: DDP need not send them round at every step.
        kept = self.state_dict()
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers() if name not in kept]
        if compile:
            self.method.compile()
            self.backbone.compile()
        self.recipe = ""
        self.skipped = 0  # broken pictures so far
        self.has_trained = False  # whether this run has done a step

    def forward(self, batch: Sample) -> tuple[Tensor, dict[str, Tensor]]:
        """The stylised batch and its loss terms, unweighted."""
        content, style = batch["content"], batch["style"] if self.style is None else self.style
        content_features, style_features = self._features(content, style)
        contents, styles = crossed(len(content), batch.get("styles_per_content", 1), content.device)
        if len(contents) > len(content):
            content, style = content[contents], style[styles]
            content_features = {layer: features[contents] for layer, features in content_features.items()}
            style_features = {layer: features[styles] for layer, features in style_features.items()}
        stylized = self.method(content, style, content_features, style_features)
        terms = self.loss(self.backbone(stylized), content_features, style_features)
        if self.loss.tv_weight:
            terms["tv"] = total_variation(stylized).mean()
        if self.loss.reconstruction_weight:
            part = slice(math.ceil(len(content) / 4))  # of the batch, for a quarter of the price
            features = {layer: both[part] for layer, both in content_features.items()}
            again = self.method(content[part], content[part], features, features)
            terms["reconstruction"] = F.mse_loss(again.float(), content[part])
        return stylized, terms

    def _features(self, content: Tensor, style: Tensor) -> Sequence[dict[str, Tensor]]:
        with torch.no_grad():
            if self.style is not None:
                self.style_features = self.style_features or self.backbone(style)
                return self.backbone(content), self.style_features
            halves = {layer: both.chunk(2) for layer, both in self.backbone(torch.cat([content, style])).items()}
        return [{layer: pair[i] for layer, pair in halves.items()} for i in (0, 1)]

    def training_step(self, batch: Sample, batch_index: int) -> Tensor:
        """The weighted sum of the losses, each logged on its own, and the rate."""
        terms = self(batch)[1]
        loss = self.loss.total(terms)
        for name, term in {"loss": loss, **terms}.items():
            self.log(f"train/{name}", term.detach(), prog_bar=name in ("loss", "content", "style"))
        self.skipped += batch["skipped"]
        self.log("train/skipped", float(self.skipped))
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def setup(self, stage: str) -> None:
        """Refuse crops that the network would not give back at their size, and data without what is learned."""
        if self.style is None and len(self.trainer.datamodule.sources) < 2:  # type: ignore[attr-defined]
            raise ValueError("no style pictures; name their source with --data.style")
        crop = self.trainer.datamodule.training_crop.crop  # type: ignore[attr-defined]
        if crop % self.method.stride or crop < 2 * self.method.stride:
            raise ValueError(f"crop {crop} does not suit the method; choose {self.method.stride} times 2 or more")

    def on_train_start(self) -> None:
        """Start the clock behind `train/pictures_per_second`; let the given rate replace a checkpoint's."""
        self.lap = time.perf_counter(), self.global_step
        scheduler: Any = self.lr_schedulers()
        scheduler.base_lrs = [self.lr]
        scheduler.optimizer.param_groups[0]["lr"] = self.lr * self._rate(scheduler.last_epoch)

    def on_train_batch_end(self, outputs: Any, batch: Sample, batch_index: int) -> None:
        """Log the speed, and stop a run that diverged."""
        self.has_trained = True
        trainer: Any = self.trainer
        if self.global_step >= self.lap[1] + max(1, trainer.log_every_n_steps):
            if not torch.isfinite(outputs["loss"]):
                raise ValueError(f"the loss is not finite at step {self.global_step}: lower lr, or clip gradients")
            ranks, batches = trainer.world_size, trainer.accumulate_grad_batches
            pairs = len(batch["content"]) * batch.get("styles_per_content", 1)
            now, pictures = time.perf_counter(), pairs * ranks * batches
            speed = pictures * (self.global_step - self.lap[1]) / (now - self.lap[0])
            self.log("train/pictures_per_second", speed, prog_bar=True)
            self.lap = now, self.global_step

    def validation_step(self, batch: Sample, batch_index: int) -> None:
        """The losses on the held-out pairs, and their picture: content | style | stylised, a row a pair."""
        stylized, terms = self(batch)
        self.log_dict({f"val/{name}": term for name, term in terms.items()}, batch_size=len(stylized))
        if isinstance(self.logger, TensorBoardLogger):
            board = self.logger.experiment
            content, style = batch["content"], batch["style"] if self.style is None else self.style
            style = F.interpolate(style, content.shape[2:]).expand_as(content)
            columns = content, style, stylized.float().clamp(0, 1)
            grid = torch.cat([torch.cat(list(column), dim=1) for column in columns], dim=2)
            board.add_image("content | style | stylized", grid, self.global_step)
            board.flush()

    def configure_optimizers(self) -> Any:
        """An optimiser of the method's trained weights, its rate set at every step."""
        optimizer = {"adam": torch.optim.Adam, "muon": Muon}[self.optimizer](self.method.parameters(), lr=self.lr)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _rate(self, step: int) -> float:
        warm = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.schedule == "inverse":
            return warm / (1 + self.lr_decay * step)
        return warm * (1 + math.cos(math.pi * min(1.0, step / self.trainer.estimated_stepping_batches))) / 2

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what rebuilds the method, and how it was trained."""
        checkpoint["adain"] = weights.metadata(self.method, steps=str(self.global_step), recipe=self.recipe)


def crossed(pictures: int, styles_per_content: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The indices of content and style in each pair of a batch: every content meets as many styles, and the reverse."""
    order = torch.arange(pictures, device=device)
    styles = torch.cat([order.roll(-shift) for shift in range(styles_per_content)])
    return order.repeat(styles_per_content), styles


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


class AutoTrainer(Trainer):
    """Lightning's `Trainer`, whose precision is by default the fastest type of the hardware.

    Args:
        precision: `auto` is bf16-mixed where the hardware computes bf16, 16-mixed with loss scaling on older CUDA
            devices, and 32-true everywhere else (`adain.precision.fast_half`); or one of Lightning's.
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
