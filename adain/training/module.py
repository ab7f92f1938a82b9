"""The LightningModule: a method, the losses it is trained with, and what is logged."""

import math
import time
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torchvision.utils import make_grid

from adain.functional.losses import PerceptualLoss, total_variation
from adain.imaging import reader
from adain.methods import Trainable, weights
from adain.models.backbones import Backbone
from adain.training.adversarial import MIN_SIDE, PatchDiscriminator, adversarial_terms
from adain.training.batches import Batch
from adain.training.muon import Muon
from adain.utils.rounding import ceil_div

OPTIMIZERS = {"adam": torch.optim.Adam, "muon": Muon}

FeatureMaps = dict[str, Tensor]


class StyleTransfer(LightningModule):
    """Trains a method with the content and style losses of a frozen network.

    Args:
        method: Method to train.
        loss: Losses on the features of the network that the method encodes with, or else of the embedded VGG-19.
        optimizer: Optimizer: `adam`, as in the paper, or `muon` (`adain.training.muon`), which needs a fraction of the
            steps and a learning rate about a hundred times as high.
        lr: Initial learning rate.
        schedule: Learning rate schedule: `inverse` divides the rate by 1 + `lr_decay` step, as in the paper; `cosine`
            anneals it to 0 at the last step.
        lr_decay: Decay of the inverse schedule.
        warmup_steps: Number of steps over which the learning rate rises from 0.
        start: Weights to start from: the checkpoint of a run, or a converted one. They belong to the same method, or to
            one that shares some of its parts, as AdaConv shares the decoder of AdaIN.
        style: Style image for methods that learn a single style (Johnson).
        style_size: Shorter side of that style image in pixels.
        compile: Compile the networks with `torch.compile`, which needs a C++ compiler, or Triton on a GPU. The first
            steps then take minutes, and 3x3 convolutions on a CPU are those of PyTorch instead of
            `adain.functional.winograd`.

    Raises:
        ValueError: The method needs a style image and there is none, the losses do not suit a single style, or the
            weights do not fit the method.
        OSError: A file cannot be read.
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
        _check_style(method, loss, style)
        self.method = method
        self.loss = loss
        self.optimizer = optimizer
        self.lr = lr
        self.schedule = schedule
        self.lr_decay = lr_decay
        self.warmup_steps = warmup_steps
        self.discriminator = PatchDiscriminator() if loss.adversarial_weight else None
        self.backbone = Backbone(layers=[*loss.layers, *method.layers], **method.network)
        self.register_buffer("style", reader.load_image(style, style_size) if style else None, persistent=False)
        self.style_features: FeatureMaps = {}  # of the single style, cached at the first step
        if start:
            weights.fill(method, {**method.state_dict(), **weights.read(start)[0]}, start)
        self.to(memory_format=torch.channels_last)
        # Frozen weights are the same on every rank, so DDP does not need to broadcast them at every step.
        saved = self.state_dict()
        self._ddp_params_and_buffers_to_ignore = [name for name, _ in self.named_buffers() if name not in saved]
        if compile:
            self.method.compile()
            self.backbone.compile()
        self.recipe = ""  # the configuration of the run, stored in checkpoints
        self.skipped = 0  # unreadable images so far
        self.has_trained = False  # whether this run has finished a step

    def setup(self, stage: str) -> None:
        """Check that the data suit the method.

        Raises:
            ValueError: There are no style images, or the network would change the size of the crops.
        """
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.style is None and len(data.sources) < 2:
            raise ValueError("Expected style images to train on, got none; name their source with --data.style")
        crop = data.training_crop.crop
        stride = self.method.stride
        if crop % stride or crop < 2 * stride:
            raise ValueError(f"Expected a crop that is a multiple of {stride} and at least {2 * stride}, got {crop}")
        if self.discriminator is not None and crop < MIN_SIDE:
            raise ValueError(f"Expected a crop of {MIN_SIDE} or more for an adversarial loss, got {crop}")

    def forward(self, batch: Batch, rank: int = 0, world_size: int = 1) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the stylized batch, (B, 3, H, W), and its unweighted loss terms.

        Args:
            batch: A rank's part of a batch.
            rank: The rank.
            world_size: The number of ranks that share the batch. The mean of each term over the ranks is its mean over
                the whole batch.
        """
        content = batch["content"]
        style = self.style_images(batch)
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
            terms["reconstruction"] = self._reconstruction_loss(content, content_features, rank, world_size)
        if self.discriminator is not None:
            terms |= adversarial_terms(self.discriminator, stylized, content)
        return stylized, terms

    def style_images(self, batch: Batch) -> Tensor:
        """Return the style images of a batch: (B, 3, H, W), or the single style, (1, 3, H, W)."""
        return batch["style"] if self.style is None else self.style

    @torch.no_grad()
    def _features(self, content: Tensor, style: Tensor) -> tuple[FeatureMaps, FeatureMaps]:
        """Return the features of the content and style images. Those of a single style are cached."""
        if self.style is not None:
            if not self.style_features:
                self.style_features = self.backbone(style)
            return self.backbone(content), self.style_features
        content_features, style_features = {}, {}
        for layer, features in self.backbone(torch.cat([content, style])).items():
            content_features[layer], style_features[layer] = features.chunk(2)
        return content_features, style_features

    def _reconstruction_loss(
        self, content: Tensor, content_features: FeatureMaps, rank: int, world_size: int
    ) -> Tensor:
        """Return the mean squared error of images stylized as themselves, for a quarter of the batch to save time.

        The quarter is shared among the ranks. If their shares differ, so do the weights of their losses, so that the
        mean over the ranks is that over the quarter.
        """
        count, weight = reconstruction_share(len(content), rank, world_size)
        if not count:
            return content.new_zeros(())
        content = content[:count]
        features = {layer: values[:count] for layer, values in content_features.items()}
        reconstructed = self.method(content, content, features, features)
        return weight * F.mse_loss(reconstructed.float(), content)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return the weighted sum of the loss terms. Logs their means over the ranks, and the learning rate."""
        trainer: Any = self.trainer
        _, terms = self(batch, trainer.global_rank, trainer.world_size)
        loss = self.loss.total(terms)
        logged = {"loss": loss, **terms}
        means = trainer.strategy.reduce(torch.stack(list(logged.values())).detach(), reduce_op="mean")
        for name, mean in zip(logged, means, strict=True):
            self.log(f"train/{name}", mean, prog_bar=name in ("loss", "content", "style"))
        self.skipped += batch["skipped"]
        self.log("train/skipped", float(self.skipped))
        self.log("lr", self.trainer.optimizers[0].param_groups[0]["lr"])
        return loss

    def on_train_start(self) -> None:
        """Start the clock of `train/images_per_second`. The given learning rate replaces that of a checkpoint."""
        self._restart_clock()
        scheduler: Any = self.lr_schedulers()
        scheduler.base_lrs = [self.lr]
        scheduler.optimizer.param_groups[0]["lr"] = self.lr * self._lr_factor(scheduler.last_epoch)

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_index: int) -> None:
        """Log the speed at every `log_every_n_steps` steps.

        Raises:
            ValueError: The loss is not finite at one of these steps.
        """
        self.has_trained = True
        trainer: Any = self.trainer
        steps = self.global_step - self._clock_step
        if steps < max(1, trainer.log_every_n_steps):
            return
        if not torch.isfinite(outputs["loss"]):
            raise ValueError(
                f"Expected a finite loss, got {outputs['loss'].item()} at step {self.global_step}; "
                "lower --model.lr, or clip gradients with --trainer.gradient_clip_val"
            )
        pairs = len(batch["content"]) * batch.get("styles_per_content", 1)
        images_per_step = pairs * trainer.world_size * trainer.accumulate_grad_batches
        images_per_second = images_per_step * steps / (time.perf_counter() - self._clock_start)
        self._restart_clock()
        self.log("train/images_per_second", images_per_second, prog_bar=True)

    def _restart_clock(self) -> None:
        self._clock_start = time.perf_counter()
        self._clock_step = self.global_step

    def validation_step(self, batch: Batch, batch_index: int) -> None:
        """Log the losses of the held-out pairs, and an image with a row for each: content | style | stylized."""
        stylized, terms = self(batch)
        logged = {"loss": self.loss.total(terms), **terms}
        self.log_dict({f"val/{name}": term for name, term in logged.items()}, batch_size=len(stylized))
        if isinstance(self.logger, TensorBoardLogger):
            content = batch["content"]
            style = F.interpolate(self.style_images(batch), content.shape[2:]).expand_as(content)
            columns = torch.stack([content, style, stylized.float().clamp(0, 1)], dim=1)
            grid = make_grid(columns.flatten(0, 1), nrow=3, padding=0)
            board = self.logger.experiment
            board.add_image("content | style | stylized", grid, self.global_step)
            board.flush()

    def configure_optimizers(self) -> Any:
        """Return an optimizer of the trained weights, whose learning rate is set at every step."""
        trained = [*self.method.parameters()]
        if self.discriminator is not None:
            trained += self.discriminator.parameters()
        optimizer = OPTIMIZERS[self.optimizer](trained, lr=self.lr)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _lr_factor(self, step: int) -> float:
        """Return the learning rate at a step over the initial one."""
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        if self.schedule == "inverse":
            return warmup / (1 + self.lr_decay * step)
        progress = min(1.0, step / self.trainer.estimated_stepping_batches)
        return warmup * (1 + math.cos(math.pi * progress)) / 2

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Store what rebuilds the method, and how it was trained."""
        checkpoint["adain"] = weights.metadata(self.method, steps=str(self.global_step), recipe=self.recipe)


def _check_style(method: Trainable, loss: PerceptualLoss, style: str | None) -> None:
    """Raise ValueError unless the method has a style to learn, and a loss that suits it."""
    if not (method.takes_style or style):
        raise ValueError(
            f"Expected a style image for {type(method).__name__}, which learns a single style, got none; "
            "name it with --model.style"
        )
    if style and (loss.relative or loss.reconstruction_weight):
        raise ValueError(
            "Expected neither loss.relative nor loss.reconstruction_weight for a single style, got one of them; "
            "leave them out"
        )


def reconstruction_share(pairs: int, rank: int, world_size: int) -> tuple[int, float]:
    """Return how many pairs of a rank are reconstructed, and the weight of their mean.

    A quarter of the batch is reconstructed, rounded up. Pair j of a rank is pair j world_size + rank of the batch.

    Args:
        pairs: Number of pairs on each rank.
        rank: The rank.
        world_size: The number of ranks.
    """
    quarter = ceil_div(pairs * world_size, 4)
    count = max(0, ceil_div(quarter - rank, world_size))
    return count, count * world_size / quarter


def crossed(count: int, styles_per_content: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return the content and style indices of all pairs of a batch, (count x styles_per_content,) each.

    Each content is paired with `styles_per_content` styles, and each style with as many contents.

    Args:
        count: Number of contents and of styles.
        styles_per_content: Number of pairs for each.
        device: Device of the indices.
    """
    order = torch.arange(count, device=device)
    styles = torch.cat([order.roll(-shift) for shift in range(styles_per_content)])
    return order.repeat(styles_per_content), styles
