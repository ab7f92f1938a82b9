import pytest
import torch

from adain import ops
from adain.backbones import Backbone
from adain.losses import PerceptualLoss, content_loss, style_loss


def test_content_loss_by_hand():
    assert content_loss(torch.tensor([1.0, 2.0]), torch.tensor([3.0, 2.0])) == 2


def test_style_loss_by_hand():
    # Means 1 and 4, standard deviations 0 and 3 in each of two channels.
    flat, wide = torch.ones(1, 2, 1, 2), torch.tensor([1.0, 7.0]).expand(1, 2, 1, 2)
    assert style_loss(flat, wide) == pytest.approx(9 + 9, abs=0.05)
    assert style_loss(flat, wide, "sum") == pytest.approx(2 * (9 + 9), abs=0.1)


def test_style_loss_ignores_where_things_are():
    features = torch.randn(1, 4, 8, 8)
    shuffled = features.flatten(2)[..., torch.randperm(64)].view_as(features)
    assert style_loss(features, shuffled) < 1e-10


@pytest.fixture(scope="module")
def features():
    backbone = Backbone("vgg19", PerceptualLoss().layers)
    generator = torch.Generator().manual_seed(0)
    return [backbone(torch.rand(2, 3, 32, 32, generator=generator)) for _ in range(3)]


def test_the_terms_are_those_of_the_paper(features):
    stylized, content, style = features
    terms = PerceptualLoss()(stylized, content, style)
    t = ops.adain(content["relu4_1"], *ops.mean_std(style["relu4_1"]))
    assert terms["content"] == pytest.approx((stylized["relu4_1"] - t).square().mean().item(), rel=1e-5)
    assert terms["style"] == pytest.approx(sum(terms[f"style/relu{i}_1"] for i in range(1, 5)).item(), rel=1e-5)


def test_the_picture_of_the_style_has_no_style_loss(features):
    assert PerceptualLoss()(features[0], features[1], features[0])["style"] == 0


def test_the_two_public_weightings_weigh_layers_differently(features):
    mean, total = (PerceptualLoss(style_reduction=reduction)(*features) for reduction in ("mean", "sum"))
    channels = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512}
    for layer, width in channels.items():
        assert total[f"style/{layer}"] == pytest.approx((width * mean[f"style/{layer}"]).item(), rel=1e-5)


def test_the_total_is_the_weighted_sum():
    loss = PerceptualLoss(content_weight=2, style_weight=3, reconstruction_weight=5)
    terms = {"content": torch.tensor(1.0), "style": torch.tensor(10.0), "style/relu1_1": torch.tensor(999.0)}
    assert loss.total(terms) == 32
    assert loss.total({**terms, "reconstruction": torch.tensor(100.0)}) == 532


def test_layers_are_asked_for_once():
    assert PerceptualLoss(content_layer="relu4_2").layers == ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2")
    assert PerceptualLoss().layers == ("relu1_1", "relu2_1", "relu3_1", "relu4_1")
