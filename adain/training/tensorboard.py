"""What TensorBoard gets besides losses: hyper-parameters, the configuration, and a strip of strengths."""

from typing import Any

import torch
import yaml
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor
from torch.utils.tensorboard.summary import hparams
from torchvision.utils import make_grid

from adain.functional import normalization
from adain.methods import EncoderDecoder
from adain.training.batches import Batch

ALPHAS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""The strengths in the strip."""

PARTS = ("model", "data", "trainer")
"""The parts of a configuration that are hyper-parameters."""


class TensorBoardRecords(Callback):
    """Writes the hyper-parameters and the configuration at the start, and a strip of strengths at each validation.

    The strip shows the first held-out pair stylized at alpha 0 to 1, unless the method has one strength only.
    """

    def on_train_start(self, trainer: Trainer, module: Any) -> None:  # noqa: D102
        board = _board(trainer)
        if board is None:
            return
        board.add_text("configuration", f"```yaml\n{module.recipe}\n```", trainer.global_step)
        parameters = hyper_parameters(yaml.safe_load(module.recipe) or {})
        # `add_hparams` would start another run, and `TensorBoardLogger` a metric with an invented first value.
        for summary in hparams(parameters, {"val/loss": 0.0}):
            board._get_file_writer().add_summary(summary)
        board.flush()

    def on_validation_batch_end(  # noqa: D102
        self, trainer: Trainer, module: Any, outputs: Any, batch: Batch, index: int, *_: Any
    ) -> None:
        board = _board(trainer)
        if board is None or index or not isinstance(module.method, EncoderDecoder):
            return
        with trainer.precision_plugin.val_step_context(), torch.no_grad():
            strip = strengths(module.method, batch["content"][:1], module.style_images(batch)[:1])
        board.add_image("alpha 0 to 1", make_grid(strip, nrow=len(ALPHAS), padding=0), trainer.global_step)
        board.flush()


def _board(trainer: Trainer) -> Any:
    """Return the writer of TensorBoard's events; None if there is none, as on all ranks but the first."""
    if isinstance(trainer.logger, TensorBoardLogger) and trainer.is_global_zero:
        return trainer.logger.experiment
    return None


def hyper_parameters(configuration: dict[str, Any]) -> dict[str, bool | int | float | str]:
    """Return the settings of a run by their flags, such as `model.lr`, as TensorBoard compares them."""
    settings = configuration.get("fit", configuration)
    return _flat({part: settings[part] for part in PARTS if part in settings})


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, bool | int | float | str]:
    flat: dict[str, bool | int | float | str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{name}.")
        elif value is not None:
            flat[prefix + name] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat


def strengths(method: EncoderDecoder, content: Tensor, style: Tensor) -> Tensor:
    """Return a content (1, 3, H, W) in a style at each of `ALPHAS`, clamped, (N, 3, H, W).

    As in `adain.stylize`, the part of the content that the network loses is added below alpha 1. Under autocast, the
    network's results have another type than the content.
    """
    encoded = method.encode_content(content)
    code = method.encode_style(style)
    rebuilt = method.rebuild(encoded).to(content.dtype)
    images = []
    for alpha in ALPHAS:
        stylized = method.decode(encoded, code, alpha).to(content.dtype)
        images.append(normalization.add_residual(stylized, rebuilt, content, 1 - alpha))
    return torch.cat(images).float().clamp(0, 1)
