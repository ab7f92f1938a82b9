"""Callbacks of a run, without a run."""

from contextlib import nullcontext
from types import SimpleNamespace

import torch

from adain.functional.losses import PerceptualLoss
from adain.methods import AdaINLite
from adain.training import tensorboard
from adain.training.callbacks import LastCheckpoint
from adain.training.module import StyleTransfer


class Strategy:
    root_device = torch.device("cpu")

    @staticmethod
    def all_gather(step):
        return step[None]

    @staticmethod
    def reduce_boolean_decision(decision, all):
        return decision


def test_a_resumed_run_that_fails_in_its_first_batch_saves_nothing(tmp_path):
    saved = []
    trainer = SimpleNamespace(
        global_step=1000,
        world_size=1,
        training=True,
        sanity_checking=False,
        state=SimpleNamespace(fn="fit"),
        strategy=Strategy,
        log_dir=str(tmp_path),
        save_checkpoint=lambda path, weights_only: saved.append(path),
    )
    callback = LastCheckpoint()
    callback.on_train_start(trainer)
    callback.on_exception(trainer, None, OSError("no images"))
    assert saved == []


def test_the_strip_of_strengths_with_a_single_style(make_picture, monkeypatch):
    """A method for any style may be trained on one style, so that batches have none."""
    images = {}
    board = SimpleNamespace(add_image=lambda name, image, step: images.update({name: image}), flush=lambda: None)
    monkeypatch.setattr(tensorboard, "_board", lambda trainer: board)
    trainer = SimpleNamespace(precision_plugin=SimpleNamespace(val_step_context=nullcontext), global_step=2)
    loss = PerceptualLoss(content_layer="relu2_1", style_layers=("relu1_1", "relu2_1"))
    module = StyleTransfer(AdaINLite((4, 4, 8), 1, (4, 8), 8), loss, style=str(make_picture("s.png"))).eval()
    batch = {"content": torch.rand(2, 3, 32, 32)}
    tensorboard.TensorBoardRecords().on_validation_batch_end(trainer, module, None, batch, 0)
    assert images["alpha 0 to 1"].shape == (3, 32, 32 * len(tensorboard.ALPHAS))
