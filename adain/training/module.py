"""The LightningModule: what is trained against which losses."""

import math
import time
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from adain.functional.losses import PerceptualLoss, total_variation
from adain.imaging import reader
from adain.methods import Trainable, weights
from adain.models.backbones import Backbone
from adain.training.muon import Muon
from adain.training.sources import Sample


class StyleTransfer(LightningModule):
    """Train a method against the content and style losses of a frozen network.

    Args:
        method: what is trained.
        loss: on the features of the network that the method encodes with, or else of the embedded VGG-19.
        optimizer: `adam` as in the paper, or `muon` (`adain.training.muon`), which takes a learning rate a hundred
            times as high and needs a fraction of the steps.
        lr: the learning rate at the start.
        schedule: `inverse` divides it by 1 + `lr_decay` step (the paper's); `cosine` brings it to 0 at the last step.
        lr_decay: of the inverse schedule.
        warmup_steps: over which the rate rises from 0.
        start: a file of weights to start from, a run's checkpoint or converted ones: of the same method, or of
            one that has some of its parts (AdaIN's decoder serves AdaConv).
        style: the one picture whose style a method without styles (Johnson) learns.
        style_size: its shorter side in pixels.
        compile: compile the networks with `torch.compile`, which needs a C++ compiler, or Triton on a GPU. The first
            steps take minutes then, and 3x3 convolutions on a CPU are PyTorch's own, not `adain.functional.winograd`.
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
        if not (method.takes_style or style):
            raise ValueError(f"{type(method).__name__} learns one style; name its picture with --model.style")
        if style and (loss.relative or loss.reconstruction_weight):
            raise ValueError(
                "one style is learned with absolute losses; do without loss.relative and reconstruction_weight"
            )
        self.method, self.loss = method, loss
        self.optimizer, self.lr, self.schedule = optimizer, lr, schedule
        self.lr_decay, self.warmup_steps = lr_decay, warmup_steps
        self.backbone = Backbone(layers=[*loss.layers, *method.layers], **method.network)
        self.register_buffer("style", reader.load_picture(style, style_size) if style else None, persistent=False)
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
        """The stylized batch and its loss terms, unweighted."""
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
        """The losses on the held-out pairs, and their picture: content | style | stylized, a row a pair."""
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
        """An optimizer of the method's trained weights, its rate set at every step."""
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
