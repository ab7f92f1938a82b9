import csv
import json
import os
import signal
import sys

import pytest
import torch
from torchvision import models

from adain.evaluation import metrics, peak_memory
from adain.evaluation.evaluate import evaluate
from adain.evaluation.grid import Variant, all_pairs
from adain.evaluation.report import markdown
from adain.imaging import reader
from adain.inference.options import StyleOptions


@pytest.fixture(scope="module")
def features():
    network = metrics.evaluation_backbone()
    generator = torch.Generator().manual_seed(0)
    sides = ((32, 32), (32, 48), (32, 32))
    return [network(torch.rand(1, 3, *side, generator=generator)) for side in sides]


def test_the_unchanged_content_scores_one_one_zero(features):
    content, style, _ = features
    assert metrics.scores(content, content, style) == {"S": 1, "C": 0, "G": 1}


def test_the_style_itself_scores_zero_and_one(features):
    content, style, _ = features
    found = metrics.scores(style, content, style)
    assert found["S"] == found["G"] == 0
    assert found["C"] == pytest.approx(1)


def test_metrics_by_their_definition(features):
    _, style, other = features
    grams = [torch.einsum("bchw,bdhw->bcd", f, f) / f[0].numel() for f in (x["relu5_1"] for x in (other, style))]
    expected = (grams[0] - grams[1]).square().sum() / grams[1].square().sum()
    all_layers = metrics.gram_distance(other, style)
    without_relu5 = metrics.gram_distance({**other, "relu5_1": style["relu5_1"]}, style)
    torch.testing.assert_close(all_layers - without_relu5, expected)
    mean = (other["relu1_1"].mean((2, 3)) - style["relu1_1"].mean((2, 3))).square().mean()
    assert metrics.style_distance(other, style) > mean
    same_mean = {layer: value - value.mean((2, 3), True) for layer, value in other.items()}
    assert metrics.style_distance(other, same_mean) == pytest.approx(
        sum(other[layer].mean((2, 3)).square().mean().item() for layer in metrics.STYLE_LAYERS), rel=1e-4
    )


def test_ssim_of_an_image_with_itself():
    image = torch.rand(1, 3, 32, 32)
    assert metrics.ssim(image, image) == pytest.approx(1)
    assert metrics.ssim(image, image.flip(3)) < 0.5


def end_this_process(*_):
    """Replaces the function that runs in the process whose memory is measured."""
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))


def test_if_the_process_that_measures_memory_is_killed_all_else_counts(make_picture, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(peak_memory, "_stylize_one", end_this_process)
    for i, name in enumerate(("c/a.png", "s/x.png")):
        make_picture(name, seed=i)
    case = Variant("adain-lite", "adain-lite", size=64, options=StyleOptions(style_size=64))
    _, row = evaluate([case], all_pairs(tmp_path / "c", tmp_path / "s"), tmp_path / "out", "cpu", size=64)
    assert row["MiB"] is None
    assert row["seconds"] > 0
    assert "The memory of adain-lite was not measured" in caplog.text
    written = {path.name for path in (tmp_path / "out").iterdir()}
    assert written == {"figures.csv", "figures.json", "table.md", "sheet.png"}


def test_evaluate_writes_what_it_returns(make_picture, tmp_path):
    for i, name in enumerate(("c/a.png", "c/b.png", "s/x.png")):
        make_picture(name, seed=i)
    table = evaluate(
        [Variant("adain", "adain", size=64, options=StyleOptions(style_size=64))],
        all_pairs(tmp_path / "c", tmp_path / "s"),
        tmp_path / "out",
        size=64,
    )
    unchanged, adain = table
    assert (unchanged["S"], unchanged["C"], unchanged["G"], unchanged["pairs"]) == (1, 0, 1, 2)
    assert unchanged["SSIM"] == pytest.approx(1, abs=1e-5)
    assert adain["seconds"] > 0
    assert 100 < adain["MiB"] < 4096, "a process with torch in it"
    assert unchanged["seconds"] is unchanged["MiB"] is None
    figures = list(csv.DictReader((tmp_path / "out" / "figures.csv").read_text().splitlines()))
    assert [row["method"] for row in figures] == ["content", "content", "adain", "adain"]
    product = float(figures[2]["S"]) * float(figures[3]["S"])
    assert adain["S"] == pytest.approx(product**0.5), "the mean is geometric"
    assert json.loads((tmp_path / "out" / "figures.json").read_text())["means"] == table
    assert (tmp_path / "out" / "table.md").read_text() == markdown(table)
    assert reader.read(tmp_path / "out" / "sheet.png").size[0] > 3 * 256


def test_evaluate_takes_results_made_before(make_picture, tmp_path):
    content, style = make_picture("c/a.png", seed=0), make_picture("s/x.png", seed=1)
    folder = tmp_path / "gatys"
    with pytest.raises(FileNotFoundError, match=r"a__x\.png: no such file"):
        folder.mkdir()
        evaluate([Variant("gatys", str(folder))], [(content, style)], tmp_path / "out", size=64)
    assert not (tmp_path / "out").exists()
    (folder / "a__x.png").write_bytes(style.read_bytes())
    _, gatys = evaluate(
        [Variant("gatys", str(folder))], [(content, style)], tmp_path / "out", tensorboard=True, size=64
    )
    assert (gatys["S"], gatys["G"], gatys["seconds"]) == (0, 0, None)
    assert gatys["C"] == pytest.approx(1)
    assert list((tmp_path / "out").glob("events.out.tfevents.*"))


@pytest.fixture
def random_networks(monkeypatch):
    """Inception without its download."""
    from torch_fidelity import feature_extractor_inceptionv3 as fidelity

    monkeypatch.setenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "1")
    monkeypatch.setattr(fidelity, "load_state_dict_from_url", lambda *_, **__: {})
    monkeypatch.setattr(fidelity.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)


@pytest.mark.slow
@pytest.mark.usefixtures("no_memory_probe")
@pytest.mark.filterwarnings("ignore::UserWarning:torchmetrics")
def test_perceptual_figures_of_perfect_results_are_zero(make_picture, tmp_path, random_networks):
    for i, name in enumerate(("c/a.png", "c/b.png", "s/x.png", "s/y.png")):
        make_picture(name, size=(64, 64), seed=i)
    (tmp_path / "styles").mkdir()
    for pair in (f"{c}__{s}.png" for c in "ab" for s in "xy"):
        (tmp_path / "styles" / pair).write_bytes((tmp_path / "s" / f"{pair[3]}.png").read_bytes())
    found = evaluate(
        [Variant("styles", str(tmp_path / "styles"))],
        all_pairs(tmp_path / "c", tmp_path / "s"),
        tmp_path / "out",
        perceptual=True,
        size=64,
    )
    unchanged, styles = found
    assert unchanged["LPIPS"] == 0 < styles["LPIPS"]
    assert styles["FID"] == pytest.approx(0, abs=1e-3)
    assert unchanged["ArtFID"] == 1 + unchanged["FID"] > 1 + styles["FID"]
    assert styles["ArtFID"] == (1 + styles["LPIPS"]) * (1 + styles["FID"])


def test_equal_images_cannot_be_evaluated(features):
    with pytest.raises(ValueError, match="got the same image"):
        metrics.scores(features[0], features[1], features[1])


def test_a_network_that_cannot_be_downloaded_is_reported(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_, **__: (_ for _ in ()).throw(OSError("no route")))
    with pytest.raises(OSError, match=r"Inception network of FID \(no route\); put its file into .*checkpoints"):
        metrics.InceptionDistance()


def test_a_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(ValueError, match=r"FID needs torch_fidelity: pip install '\.\[metrics\]' in the repository"):
        metrics.InceptionDistance()


def test_lpips_weights_layers_as_torchmetrics_does(monkeypatch):
    """The embedded weights in another implementation of the same distance."""
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity

    ours = metrics.LPIPS()
    alexnet = models.alexnet(weights=None)
    convolutions = [part for part in alexnet.features if isinstance(part, torch.nn.Conv2d)]
    own = [part for part in ours.modules() if isinstance(part, torch.nn.Conv2d)]
    for theirs, embedded in zip(convolutions, own, strict=True):
        theirs.load_state_dict(embedded.state_dict())
    a, b = torch.rand(2, 3, 64, 96), torch.rand(2, 3, 64, 96)
    monkeypatch.setattr("torchvision.models._api.WeightsEnum.get_state_dict", lambda *_, **__: alexnet.state_dict())
    expected = learned_perceptual_image_patch_similarity(a, b, net_type="alex", normalize=True, reduction="mean")
    torch.testing.assert_close(ours(a, b).mean(), expected, atol=1e-4, rtol=1e-4)
    assert torch.equal(ours(a, a), torch.zeros(2))


def test_lattice_energy_finds_a_grid_and_nothing_else():
    noise = torch.rand(1, 3, 256, 200)
    plain = metrics.lattice_energy(noise)
    rows = torch.arange(256).view(1, 1, -1, 1)
    for period in (2, 4, 8):
        grid = noise + 0.2 * torch.cos(2 * torch.pi * rows / period)
        assert metrics.lattice_energy(grid) > 1.1 * plain, period
    assert metrics.lattice_energy(noise + 0.2 * torch.cos(2 * torch.pi * rows / 5.3)) < 1.05 * plain
    assert metrics.lattice_energy(noise[..., :100]) is None
