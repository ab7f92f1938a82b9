import csv
import math
import signal

import pytest
import torch
from PIL import Image

import adain
from adain import cli
from adain.grid import Case, variations
from adain.losses import content_loss, gram_loss, total_variation
from adain.methods.gatys import Gatys, Stop
from adain.watch import Watch
from tests.conftest import ROOT


def pictures(*sides):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4, generator=generator), (s, s)) for s in sides]


def run(steps=4, sides=(32, 48), **settings):
    """The result and the progress of every step."""
    seen = []
    method = Gatys(steps=steps, callback=seen.append, **settings)
    content, style = pictures(*sides)
    return method.stylize(content, method.encode_style(style)), seen


def test_gram_and_total_variation_by_hand():
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 1, 2)
    gram = torch.tensor([[5.0, 11.0], [11.0, 25.0]]) / 4
    assert gram_loss(features, gram[None] - 1).tolist() == [4]
    picture = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).expand(1, 3, 2, 2)
    assert total_variation(picture).tolist() == [4 + 1]


@pytest.mark.parametrize("form", ["normalized", "original"])
def test_the_losses_are_the_equations(form):
    method = Gatys(form=form, content_weight=2, style_weight=3, tv_weight=5).double()
    content, style, picture = (one.double() for one in pictures(32, 48, 32))
    code = method.encode_style(style)
    grams = {layer: code[f"{layer}/0"] for layer in method.style_layers}
    found = method.losses(picture, method.backbone(content), grams)
    f, p, s = (method.backbone(one) for one in (picture, content, style))
    content_term = (f["relu4_2"] - p["relu4_2"]).square()
    content_term = content_term.sum() / 2 if form == "original" else content_term.mean()
    style_term = 0.0
    for layer in method.style_layers:
        g, a = (torch.einsum("bchw,bdhw->cd", x[layer], x[layer]) / x[layer][0, 0].numel() for x in (f, s))
        channels = f[layer].shape[1]
        style_term += (g - a).square().sum() / ((4 if form == "original" else 1) * channels**2)
    expected = [2 * content_term, 3 * style_term, 5 * total_variation(picture)[0]]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-9, atol=0)


def test_the_gradient_against_finite_differences():
    method = Gatys(content_layers=["relu2_1"], style_layers=["relu1_1"], tv_weight=1.0).double()
    content, style = (one.double() for one in pictures(32, 32))
    grams = {"relu1_1": method.encode_style(style)["relu1_1/0"]}
    features = method.backbone(content)
    picture = torch.rand_like(content).requires_grad_()  # without the ties of flat parts
    (gradient,) = torch.autograd.grad(method.losses(picture, features, grams).sum(), picture)
    direction = torch.randn_like(picture)
    ahead, behind = (method.losses(picture.detach() + e * direction, features, grams).sum() for e in (1e-6, -1e-6))
    assert (ahead - behind) / 2e-6 == pytest.approx((gradient * direction).sum().item(), rel=1e-4)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam", "sgd"])
def test_every_optimizer_descends(optimizer, steps=12):
    _, seen = run(steps, optimizer=optimizer)
    assert [progress.step for progress in seen] == list(range(1, steps + 1))
    assert seen[-1].total < 0.8 * seen[0].total
    assert seen[0].content < 1e-6, "it starts from the content"


def test_a_seed_is_a_picture():
    a, b, other = (run(2, init="noise", seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, other)


@pytest.mark.parametrize("init", ["content", "style", "noise", "adain-lite"])
def test_every_start(init):
    result, seen = run(1, init=init)
    assert result.shape == (1, 3, 32, 32)
    assert (seen[0].content < 1e-6) == (init == "content")


def test_coarse_to_fine_visits_every_size():
    result, seen = run(2, sides=(160, 64), coarsest=64)
    assert [progress.size for progress in seen] == [40, 40, 80, 80, 160, 160]
    assert result.shape == (1, 3, 160, 160)
    assert len(run(2, sides=(160, 64), coarsest=0)[1]) == 2


def test_it_stops_at_its_tolerance_and_when_told():
    assert len(run(60, optimizer="adam", lr=1e-9, tolerance=1e-3)[1]) == 11

    def stop(progress):
        if progress.step == 3:
            raise Stop(progress.picture)

    method = Gatys(steps=50, callback=stop)
    content, style = pictures(32, 32)
    assert not torch.equal(method.stylize(content, method.encode_style(style)), content)


def test_alpha_blends_the_targets():
    content, style = pictures(32, 48)
    method = Gatys(steps=3)
    code = method.encode_style(style)
    torch.testing.assert_close(method.stylize(content, code, 0.0), content)


def test_other_backbones_layers_and_weights():
    settings = {"backbone": "resnet18", "weights": "random", "content_layers": ["layer2"], "pooling": "average"}
    _, seen = run(12, style_layers=["layer1", "layer2"], style_layer_weights=[0.5, 2], **settings)
    assert seen[-1].total < seen[0].total


def test_wrong_settings():
    with pytest.raises(ValueError, match="2 content layer weights for 1 layers"):
        Gatys(content_layer_weights=[1, 2])
    with pytest.raises(ValueError, match="unknown optimizer newton; choose from lbfgs, adam, sgd"):
        Gatys(optimizer="newton")
    with pytest.raises(ValueError, match="unknown init sky; choose from content, style, noise, adain"):
        Gatys(init="sky")
    with pytest.raises(ValueError, match="not finite at step"):
        run(20, optimizer="sgd", lr=1e30)


def test_through_the_one_call(make_picture, tmp_path):
    path = make_picture()
    with Watch(tmp_path / "log", snapshot_every=2, quiet=True) as watch:
        result = adain.stylize(path, [path, path], "gatys", style_weight=[1, 3], steps=4, callback=watch)
    assert result.shape == (1, 3, 40, 48)
    names = {entry.name for entry in (tmp_path / "log").iterdir()}
    assert names == {"losses.csv", "losses.png", "00002.png", "00004.png", "events"}
    assert len((tmp_path / "log" / "losses.csv").read_text().splitlines()) == 5


def test_ctrl_c_keeps_what_was_reached(make_picture, capsys):
    path = make_picture()
    with Watch(quiet=True) as watch:

        def interrupted(progress):
            if progress.step == 2:
                signal.raise_signal(signal.SIGINT)
            watch(progress)

        result = adain.stylize(path, path, "gatys", init="noise", callback=interrupted)
    assert result.isfinite().all()
    assert "stopped after 2 steps" in capsys.readouterr().err
    assert math.isfinite(content_loss(result, result).item())


def test_a_sweep_over_two_flags(make_picture, tmp_path, capsys):
    content, style = make_picture("c/a.png", seed=0), make_picture("s/x.png", seed=1)
    folders = ["--content", str(content.parent), "--style", str(style.parent), "--output", str(tmp_path / "out")]
    vary = "{init: [content, noise], style_weight: [1, 5, 25]}"
    assert cli.main(["sweep", *folders, "--vary", vary, "--size", "32", "--gatys.steps", "2"]) == 0
    assert "| init noise, style_weight 25 | 1 |" in capsys.readouterr().out
    losses = list(csv.DictReader((tmp_path / "out" / "losses.csv").read_text().splitlines()))
    assert len(losses) == 6 * 2
    figures = list(csv.DictReader((tmp_path / "out" / "figures.csv").read_text().splitlines()))
    assert [bool(row["loss"]) for row in figures] == [False] + 6 * [True]
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        width, height = sheet.size
    assert (width // 256, height // 256) == (2 + 3, 2), "the last flag runs across"
    assert cli.main(["sweep", *folders]) == 2
    assert "nothing to vary" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_names_real_settings(path):
    folders = ["--content", "c", "--style", "s", "--output", "o"]
    parsed = cli.Parser.of(cli.sweep, "sweep", cli.SETTINGS).parse_args(["--config", str(path), *folders])
    cases = variations(Case("", "gatys", parsed.as_dict()["gatys"]), parsed.vary or {}, parsed.cases or {})
    assert len(cases) > 1
    for case in cases:
        Gatys(**{**case.settings, "weights": "random"})
