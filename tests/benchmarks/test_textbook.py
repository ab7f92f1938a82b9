"""The benchmark's plain implementation is also an independent check of ours: same weights, same numbers."""

import pytest
import torch

import adain
from adain.functional.losses import PerceptualLoss
from adain.methods import AdaIN
from adain.training.module import StyleTransfer
from benchmarks.textbook import Textbook, convolutions


@pytest.fixture(scope="module")
def both():
    method = adain.prepare("adain", "cpu", "fp32")
    return method, Textbook().fill(method.encoder, method.decoder)


@pytest.mark.parametrize("alpha", [1.0, 0.3])
def test_stylizing_is_the_textbooks(both, alpha):
    method, textbook = both
    content, style = torch.rand(1, 3, 64, 48), torch.rand(1, 3, 32, 80)
    expected = textbook.stylize(content, style, alpha)
    found = adain.stylize(content, style, method, alpha=alpha, alpha_blend="features")
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=0)


def test_loss_and_gradients_are_the_textbooks():
    task = StyleTransfer(AdaIN(), PerceptualLoss())
    textbook = Textbook().fill(task.backbone, task.method.decoder)
    batch = {"content": torch.rand(2, 3, 32, 32), "style": torch.rand(2, 3, 32, 32)}
    ours = task.loss.total(task(batch)[1])
    expected = textbook(batch["content"], batch["style"])
    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=0)
    ours.backward()
    expected.backward()
    pairs = zip(convolutions(task.method.decoder), convolutions(textbook.decoder), strict=True)
    for one, other in pairs:
        for a, b in ((one.weight.grad, other.weight.grad), (one.bias.grad, other.bias.grad)):
            assert (a - b).norm() < 0.01 * b.norm(), "rounding moves the odd maximum of a pooling"
