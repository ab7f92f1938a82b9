import pytest
import torch

from adain.evaluation import metrics
from adain.functional import normalization, patch_swap, statistics
from adain.functional.losses import PerceptualLoss, content_loss, style_loss, total_variation
from adain.models.backbones import Backbone


def test_content_loss_by_hand():
    found = content_loss(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[3.0, 2.0], [0.0, 1.0]]))
    assert found.tolist() == [2, 0.5], "one for each image"


def test_style_loss_by_hand():
    # Means 1 and 4, standard deviations 0 and 3 in each of two channels.
    flat, wide = torch.ones(1, 2, 1, 2), torch.tensor([1.0, 7.0]).expand(1, 2, 1, 2)
    assert style_loss(flat, wide) == pytest.approx(9 + 9, abs=0.05)
    assert style_loss(flat, wide, "sum") == pytest.approx(2 * (9 + 9), abs=0.1)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_style_loss_has_one_value_for_each_image(reduction):
    assert style_loss(torch.rand(3, 2, 4, 4), torch.rand(3, 2, 5, 5), reduction).shape == (3,)


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
    t = normalization.adain(content["relu4_1"], *statistics.mean_std(style["relu4_1"]))
    assert terms["content"] == pytest.approx((stylized["relu4_1"] - t).square().mean().item(), rel=1e-5)
    assert terms["style"] == pytest.approx(sum(terms[f"style/relu{i}_1"] for i in range(1, 5)).item(), rel=1e-5)


def test_the_image_of_the_style_has_no_style_loss(features):
    assert PerceptualLoss()(features[0], features[1], features[0])["style"] == 0


def test_the_content_itself_as_the_target(features):
    loss = PerceptualLoss(content_target="content")
    assert loss(features[1], features[1], features[2])["content"] == 0
    assert PerceptualLoss()(features[1], features[1], features[2])["content"] > 0


def test_swapped_patches_with_the_statistics_of_the_style_as_the_target(features):
    stylized, content, style = ({"relu3_1": image["relu3_1"]} for image in features)
    swapped = patch_swap.swap(content["relu3_1"], style["relu3_1"])
    target = normalization.adain(swapped, *statistics.mean_std(style["relu3_1"]))
    terms = PerceptualLoss("relu3_1", ("relu3_1",), content_target="swap")(stylized, content, style)
    assert terms["content"] == pytest.approx((stylized["relu3_1"] - target).square().mean().item(), rel=1e-5)


def test_relative_terms_are_the_scores_of_the_evaluation(features):
    loss = PerceptualLoss(content_target="content", relative=True)
    terms = loss(*features)
    pairs = [[{layer: value[i : i + 1] for layer, value in side.items()} for side in features] for i in range(2)]
    styles = [metrics.style_distance(out, s) / metrics.style_distance(c, s) for out, c, s in pairs]
    contents = [metrics.content_distance(out, c) / metrics.content_distance(s, c) for out, c, s in pairs]
    assert terms["style"] == pytest.approx(sum(styles).item() / 2, rel=1e-4)
    assert terms["content"] == pytest.approx(sum(contents).item() / 2, rel=1e-4)
    assert terms["style"] == pytest.approx(sum(terms[f"style/relu{i}_1"] for i in range(1, 5)).item(), rel=1e-5)


def test_a_pair_of_equal_images_keeps_the_relative_loss_finite(features):
    terms = PerceptualLoss(relative=True)(features[0], features[1], features[1])
    assert all(term.isfinite() and term >= 0 for term in terms.values())


def test_the_two_public_weightings_weigh_layers_differently(features):
    mean, total = (PerceptualLoss(style_reduction=reduction)(*features) for reduction in ("mean", "sum"))
    channels = {"relu1_1": 64, "relu2_1": 128, "relu3_1": 256, "relu4_1": 512}
    for layer, width in channels.items():
        assert total[f"style/{layer}"] == pytest.approx((width * mean[f"style/{layer}"]).item(), rel=1e-5)


@pytest.mark.parametrize("statistics", ["moments", "gram"])
def test_style_layers_count_by_their_weights(features, statistics):
    equal = PerceptualLoss(style_statistics=statistics)(*features)
    weighted = PerceptualLoss(style_statistics=statistics, style_layer_weights=(0.5, 1, 2, 0))(*features)
    for number, weight in enumerate((0.5, 1, 2, 0), start=1):
        assert weighted[f"style/relu{number}_1"] == pytest.approx(weight * equal[f"style/relu{number}_1"].item())
    assert weighted["style"] == pytest.approx(sum(weighted[f"style/relu{i}_1"].item() for i in range(1, 5)), rel=1e-5)


def test_one_weight_for_each_style_layer():
    with pytest.raises(ValueError, match=r"Expected 4 style_layer_weights \(one per style layer\), got 2"):
        PerceptualLoss(style_layer_weights=(1.0, 2.0))


def test_the_total_is_the_weighted_sum():
    loss = PerceptualLoss(content_weight=2, style_weight=3, reconstruction_weight=5)
    terms = {"content": torch.tensor(1.0), "style": torch.tensor(10.0), "style/relu1_1": torch.tensor(999.0)}
    assert loss.total(terms) == 32
    assert loss.total({**terms, "reconstruction": torch.tensor(100.0)}) == 532


def test_layers_are_asked_for_once():
    assert PerceptualLoss(content_layer="relu4_2").layers == ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu4_2")
    assert PerceptualLoss().layers == ("relu1_1", "relu2_1", "relu3_1", "relu4_1")


def test_the_total_counts_every_term_with_its_own_weight():
    loss = PerceptualLoss(content_weight=2, style_weight=3, reconstruction_weight=5, tv_weight=7, adversarial_weight=11)
    names = ("content", "style", "reconstruction", "tv", "adversarial", "discriminator")
    terms = {name: torch.tensor(1.0) for name in names}
    assert loss.total(terms) == 2 + 3 + 5 + 7 + 11 + 1
    for name, weight in zip(names, (2, 3, 5, 7, 11, 1), strict=True):
        assert loss.total({**terms, name: torch.tensor(11.0)}) == 29 + 10 * weight, name


def test_gram_terms_are_distances_from_the_styles_gram_matrices(features):
    loss = PerceptualLoss(style_statistics="gram")
    assert loss(features[0], features[1], features[0])["style"] == 0
    terms = loss(*features)
    for layer in loss.style_layers:
        stylized, style = statistics.gram(features[0][layer]), statistics.gram(features[2][layer])
        expected = (stylized - style).square().sum((1, 2)).mean()
        assert terms[f"style/{layer}"] == pytest.approx(expected.item(), rel=1e-4)


def test_the_default_weights_are_the_documented_ones():
    assert PerceptualLoss().total({"content": torch.tensor(1.0), "style": torch.tensor(100.0)}) == 1001
    assert set(PerceptualLoss().total({"content": torch.tensor(2.0)}).shape) == set()


def test_losses_of_half_precision_are_float32():
    features, style = torch.rand(2, 1, 4, 4, 4).bfloat16()
    for loss in (content_loss(features, style), style_loss(features, style), total_variation(features)):
        assert loss.dtype == torch.float32


def test_total_variation_adds_the_means_of_both_directions():
    image = torch.zeros(2, 1, 2, 3)
    image[1, 0, 1] = torch.tensor([1.0, 1.0, 4.0])  # differences 1, 1, 4 down and 0, 0, 0, 3 across
    assert total_variation(image).tolist() == [0, pytest.approx(18 / 3 + 9 / 4)]
    assert total_variation(torch.tensor([1.0, 3.0]).view(1, 1, 1, 2)).tolist() == [4], "a line"


def test_style_layers_are_required():
    with pytest.raises(ValueError, match="Expected at least one of style_layers, got none"):
        PerceptualLoss(style_layers=())
