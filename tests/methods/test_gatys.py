import csv
import inspect
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from PIL import Image

import adain
from adain.cli import main, parser
from adain.evaluation.grid import Variant
from adain.evaluation.sweep import variations
from adain.functional import statistics
from adain.functional.losses import content_loss, gram_loss, total_variation
from adain.inference.recorder import OptimizationRecorder, unique_names
from adain.methods import pixel_descent
from adain.methods.gatys import Gatys
from adain.methods.pixel_descent import Descent, DescentOptions
from adain.methods.progress import Stop
from adain.utils.errors import OptimizationError
from tests.conftest import ROOT, exit_code, write_csv


def images(*sides):
    generator = torch.Generator().manual_seed(0)
    return [torch.nn.functional.interpolate(torch.rand(1, 3, 4, 4, generator=generator), (s, s)) for s in sides]


SMALL = {"content_layers": ["relu1_1"], "style_layers": ["relu1_1"]}
"""Layers that cost little to compute."""


def run(steps=4, sides=(32, 48), **settings):
    """The result and the progress of every step."""
    reports = []
    method = Gatys(steps=steps, callback=reports.append, **settings)
    content, style = images(*sides)
    return method.stylize(content, method.encode_style(style)), reports


def test_gram_and_total_variation_by_hand():
    features = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).view(1, 2, 1, 2)
    gram = torch.tensor([[5.0, 11.0], [11.0, 25.0]]) / 4
    assert gram_loss(features, gram[None] - 1).tolist() == [4]
    image = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).expand(1, 3, 2, 2)
    assert total_variation(image).tolist() == [4 + 1]


@pytest.mark.parametrize("form", ["normalized", "original"])
def test_the_losses_are_the_equations(form):
    weights = {"content_weight": 2, "style_weight": 3, "tv_weight": 5}
    layers = {"content_layers": ["relu4_2", "relu3_1"], "content_layer_weights": [0.5, 2]}
    method = Gatys(form=form, style_layer_weights=[1, 2, 4, 0.5, 0.25], **layers, **weights).double()
    content, style, image = (one.double() for one in images(32, 48, 32))
    code = method.encode_style(style)
    grams = {layer: code[f"{layer}/0"] for layer in method.objective.style_layers}
    found = method.losses(image, method.backbone(content), grams)
    f, p, s = (method.backbone(one) for one in (image, content, style))
    content_term = style_term = 0.0
    for layer, weight in {"relu4_2": 0.5, "relu3_1": 2}.items():
        error = (f[layer] - p[layer]).square()
        content_term += weight * (error.sum() / 2 if form == "original" else error.mean())
    for layer, weight in {"relu1_1": 1, "relu2_1": 2, "relu3_1": 4, "relu4_1": 0.5, "relu5_1": 0.25}.items():
        g, a = (torch.einsum("bchw,bdhw->cd", x[layer], x[layer]) / x[layer][0, 0].numel() for x in (f, s))
        channels = f[layer].shape[1]
        style_term += weight * (g - a).square().sum() / ((4 if form == "original" else 1) * channels**2)
    expected = [2 * content_term, 3 * style_term, 5 * total_variation(image)[0]]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-9, atol=0)


def test_the_gradients_are_those_of_the_paper():
    """Eq. 2 and 6: with respect to the activation before the ReLU, and zero where that is below zero."""
    generator = torch.Generator().manual_seed(0)
    before, content, style = torch.randn(3, 1, 5, 4, 6, generator=generator).double().unbind()
    before.requires_grad_()
    f, p, style = before.relu(), content.relu(), style.relu()
    active = (before > 0).double()
    (found,) = torch.autograd.grad(content_loss(f, p).sum() * p.numel() / 2, before)
    torch.testing.assert_close(found, (f - p).detach() * active)

    before.requires_grad_()
    f = before.relu()
    (found,) = torch.autograd.grad(gram_loss(f, statistics.gram(style)).sum() / 4, before)
    matrix, other = f.detach().flatten(2)[0], style.flatten(2)[0]
    difference = matrix @ matrix.T - other @ other.T
    expected = (matrix.T @ difference).T / (5**2 * (4 * 6) ** 2)
    torch.testing.assert_close(found.flatten(2)[0], expected * active.flatten(2)[0])


def test_the_norm_is_the_root_of_each_layers_squared_distance():
    layers = {"content_layers": ["relu1_1"], "style_layers": ["relu1_1", "relu2_1"]}
    content, style = images(32, 32)

    def style_terms(distance):
        terms = []
        for weights in ([1, 0], [0, 1], [2, 3]):
            method = Gatys(**layers, style_layer_weights=weights, style_weight=1, style_distance=distance)
            grams = {layer: method.encode_style(style)[f"{layer}/0"] for layer in method.objective.style_layers}
            terms.append(method.losses(content, method.backbone(content), grams)[1].item())
        return terms

    first, second, _ = style_terms("squared")
    assert style_terms("norm") == pytest.approx([first**0.5, second**0.5, 2 * first**0.5 + 3 * second**0.5], rel=1e-4)
    same = Gatys(**layers, style_distance="norm", steps=1, precondition=0)
    assert same.stylize(content, same.encode_style(content)).isfinite().all()


def test_the_gradient_against_finite_differences():
    method = Gatys(content_layers=["relu2_1"], style_layers=["relu1_1"], tv_weight=1.0).double()
    content, style = (one.double() for one in images(32, 32))
    grams = {"relu1_1": method.encode_style(style)["relu1_1/0"]}
    features = method.backbone(content)
    image = torch.rand_like(content).requires_grad_()  # without the ties of flat parts
    (gradient,) = torch.autograd.grad(method.losses(image, features, grams).sum(), image)
    direction = torch.randn_like(image)
    ahead, behind = (method.losses(image.detach() + e * direction, features, grams).sum() for e in (1e-6, -1e-6))
    assert (ahead - behind) / 2e-6 == pytest.approx((gradient * direction).sum().item(), rel=1e-4)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam", "sgd"])
def test_every_optimizer_descends(optimizer, steps=8):
    _, reports = run(steps, optimizer=optimizer)
    assert [progress.step for progress in reports] == list(range(1, steps + 1))
    assert reports[-1].total < 0.8 * reports[0].total
    assert reports[0].content < 1e-6, "it starts from the content"


def test_a_step_has_the_spectrum_that_the_exponent_says():
    weights = pixel_descent.frequency_weights(torch.zeros(1, 3, 32, 64), 0.5)
    assert weights.square().mean().item() == pytest.approx(1)
    assert (weights[0, 2] / weights[0, 8]).item() == pytest.approx(2)
    assert (weights[4, 0] / weights[0, 8]).item() == pytest.approx(1), "4 / 32 and 8 / 64 are the same frequency"
    assert pixel_descent.frequency_weights(torch.zeros(1, 3, 5, 7), 0.0).tolist() == [[1.0] * 4] * 5


def test_the_bf16_warmup_ends_when_it_stalls_and_float32_continues(monkeypatch):
    monkeypatch.setattr(pixel_descent, "WARMUP_TOLERANCE", 1.0)
    content, style = images(32, 48)
    reports = []
    method = Gatys(steps=14, callback=reports.append, **SMALL)
    method.bf16_warmup = True
    code = method.encode_style(style)
    method.stylize(content, code)
    assert [progress.step for progress in reports] == list(range(1, 15))
    features, grams = method.backbone(content), {layer: code[f"{layer}/0"] for layer in method.objective.style_layers}
    off = [
        abs(1 - method.losses(one.picture, features, grams).sum().item() / one.total)
        for one in (reports[9], reports[-1])
    ]
    assert off[0] > 1e-5 > off[1], "bfloat16 is only approximate"


def test_a_seed_determines_the_image():
    a, b, other = (run(2, init="noise", seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, other)


def test_small_coarsest_and_deep_layers_use_possible_sizes_only():
    assert {progress.size for progress in run(1, sides=(80, 64), coarsest=8)[1]} == {40, 80}
    settings = {"backbone": "resnet18", "weights": "random", "content_layers": ["layer2"], "style_layers": ["layer4"]}
    assert {progress.size for progress in run(1, sides=(128, 256), coarsest=8, **settings)[1]} == {64, 128}


def test_a_feed_forward_start_at_half_precision_moves_in_float32():
    method = Gatys(steps=1, init="adain-lite").to(torch.bfloat16)
    content, style = (image.bfloat16() for image in images(32, 32))
    assert method.stylize(content, method.encode_style(style)).dtype == torch.float32


@pytest.mark.parametrize("init", ["content", "style", "noise", "adain-lite"])
def test_every_start(init):
    result, reports = run(1, init=init)
    assert result.shape == (1, 3, 32, 32)
    assert (reports[0].content < 1e-6) == (init == "content")


def test_coarse_to_fine_visits_every_size():
    result, reports = run(2, sides=(160, 64), coarsest=64, **SMALL)
    assert [progress.size for progress in reports] == [40, 40, 80, 80, 160, 160]
    assert result.shape == (1, 3, 160, 160)
    assert len(run(2, sides=(160, 64), coarsest=0, **SMALL)[1]) == 2


def test_it_stops_at_its_tolerance_and_on_stop():
    assert len(run(60, optimizer="adam", lr=1e-9, tolerance=1e-3, **SMALL)[1]) == 11

    def stop(progress):
        if progress.step == 3:
            raise Stop(progress.picture)

    calls = []
    method = Gatys(steps=50, callback=lambda progress: (calls.append(progress), stop(progress)))
    content, style = images(32, 32)
    result = method.stylize(content, method.encode_style(style))
    assert len(calls) == 3
    assert torch.equal(result, calls[-1].picture)


def test_each_content_of_a_batch_has_its_own_alpha():
    method, content = Gatys(steps=2, style_layers=["relu1_1"], content_layers=["relu1_1"]), torch.rand(2, 3, 32, 32)
    code = method.encode_style(torch.rand(1, 3, 32, 32))
    batch = method.stylize(content, code, torch.tensor([0.0, 1.0]))
    for i, alpha in enumerate((0.0, 1.0)):
        assert torch.equal(batch[i : i + 1], method.stylize(content[i : i + 1], code, alpha))


def test_alpha_blends_the_targets():
    content, style = images(32, 48)
    method = Gatys(steps=8, style_layers=["relu1_1", "relu2_1"])
    code = method.encode_style(style)
    torch.testing.assert_close(method.stylize(content, code, 0.0), content)
    features = [method.backbone(method.stylize(content, code, alpha)) for alpha in (0.0, 0.5, 1.0)]
    grams = {layer: code[f"{layer}/0"] for layer in method.objective.style_layers}
    losses = [sum(gram_loss(f[layer], gram).item() for layer, gram in grams.items()) for f in features]
    assert losses[0] > losses[1] > losses[2]


def test_other_backbones_layers_and_weights():
    settings = {"backbone": "resnet18", "weights": "random", "content_layers": ["layer2"], "pooling": "average"}
    _, reports = run(12, style_layers=["layer1", "layer2"], style_layer_weights=[0.5, 2], **settings)
    assert reports[-1].total < reports[0].total


def test_an_optimization_that_diverges_returns_its_best(caplog):
    image, reports = run(8, optimizer="sgd", lr=1e30)  # too few steps to be refused because nothing improved
    assert image.isfinite().all()
    assert len(reports) < 8
    assert "the best image before it is returned" in caplog.text


def test_wrong_settings():
    with pytest.raises(ValueError, match=r"Expected 1 content layer weights \(one per layer\), got 2"):
        Gatys(content_layer_weights=[1, 2])
    with pytest.raises(ValueError, match="unknown optimizer newton; choose from lbfgs, adam, sgd"):
        Gatys(optimizer="newton")
    with pytest.raises(ValueError, match="unknown init sky; choose from content, style, noise, gaussian, adain"):
        Gatys(init="sky")
    with pytest.raises(ValueError, match="not finite at step 1"):
        run(20, style_weight=float("inf"))
    for wrong in ({"steps": 0}, {"history": 0}, {"coarsest": -1}, {"style_weight": -1}, {"tv_weight": float("nan")}):
        with pytest.raises(ValueError, match="must be at least"):
            Gatys(**wrong)
    with pytest.raises(ValueError, match="at least one content layer"):
        Gatys(style_layers=[])


def test_through_adain_stylize(make_picture, tmp_path):
    path = make_picture()
    with OptimizationRecorder(tmp_path / "log", snapshot_every=2, quiet=True) as recorder:
        result = adain.stylize(path, [path, path], "gatys", style_weight=[1, 3], steps=4, callback=recorder)
    assert result.shape == (1, 3, 40, 48)
    names = {entry.name for entry in (tmp_path / "log").iterdir()}
    assert names == {"losses.csv", "losses.png", "image_00002.png", "image_00004.png", "events"}
    rows = list(csv.DictReader((tmp_path / "log" / "losses.csv").read_text().splitlines()))
    assert [(row["step"], row["size"]) for row in rows] == [(str(step), "48") for step in range(1, 5)]
    assert all("." in row["total"] for row in rows)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_returns_the_best_image(number, make_picture, capsys):
    path = make_picture()
    with OptimizationRecorder(quiet=True) as recorder:

        def interrupted(progress):
            if progress.step == 2:
                signal.raise_signal(number)
            recorder(progress)

        result = adain.stylize(path, path, "gatys", init="noise", callback=interrupted)
    assert result.isfinite().all()
    assert "the best result so far is kept" in capsys.readouterr().err


def test_the_command_line_records_each_image_and_lists_those_left(make_picture, tmp_path, capsys, monkeypatch):
    a, b, style = (make_picture(name, (24, 20), i) for i, name in enumerate(("a.png", "b.png", "s.png")))
    flags = ["stylize", "--content", str(a), str(b), "--style", str(style), "--output", str(tmp_path / "out")]
    flags += ["--method", "gatys", "--gatys.steps", "2"]
    assert main.main([*flags, "--log", str(tmp_path / "log"), "--snapshot-every", "2"]) == 0
    assert {path.name for path in (tmp_path / "log").glob("*.png")} == {"losses.png", "a_00002.png", "b_00002.png"}
    runs = [row["run"] for row in csv.DictReader((tmp_path / "log" / "losses.csv").read_text().splitlines())]
    assert runs == ["a", "a", "b", "b"]

    def stop(recorder, progress):
        recorder.stopped = True
        raise Stop(progress.picture)

    monkeypatch.setattr(OptimizationRecorder, "__call__", stop)
    assert main.main(flags) == 1
    assert "b.png was not stylized" in capsys.readouterr().err


def test_contents_of_one_stem_have_a_log_each(make_picture, tmp_path):
    contents = [make_picture("1/a.png", (24, 20)), make_picture("2/a.png", (24, 20), seed=1)]
    style, log = make_picture("s.png", (24, 20), seed=2), tmp_path / "log"
    flags = ["--method", "gatys", "--gatys.steps", "2", "--quiet", "--log", log, "--snapshot-every", "2"]
    assert exit_code("stylize", "--content", *contents, "--style", style, *flags) == 0
    assert {path.name for path in log.glob("a*.png")} == {"a_00002.png", "a-2_00002.png"}
    rows = [(row["run"], float(row["step"])) for row in csv.DictReader((log / "losses.csv").read_text().splitlines())]
    assert rows == [("a", 1), ("a", 2), ("a-2", 1), ("a-2", 2)]


def test_sgd_lowers_the_loss_of_the_original_form_at_any_size():
    for sides in ((32, 48), (64, 48)):
        _, reports = run(5, sides, optimizer="sgd", form="original")
        totals = [progress.total for progress in reports]
        assert totals == sorted(totals, reverse=True)
        assert totals[-1] < totals[0]


def test_an_optimization_that_improves_nothing_is_reported(make_picture, tmp_path, capsys):
    content, style = make_picture("c.png", (24, 20)), make_picture("s.png", (24, 20), seed=1)
    output = tmp_path / "out.png"
    flags = ["--method", "gatys", "--gatys.optimizer", "sgd", "--gatys.steps", "10", "--quiet", "--output", output]
    assert exit_code("stylize", "--content", content, "--style", style, *flags, "--gatys.lr", "1e6") == 1
    reason = "no step lowered the loss; use another --gatys.optimizer"
    assert f"adain: error: {content}: {reason}" in capsys.readouterr().err
    assert not output.exists()
    assert exit_code("stylize", "--content", content, "--style", style, *flags, "--alpha", "0") == 0
    assert exit_code("stylize", "--content", content, "--style", content, *flags) == 0


def test_names_of_logs_are_unique():
    paths = [Path(name) for name in ("1/a.png", "a-2.png", "2/a.png", "b.png")]
    assert list(unique_names(paths).values()) == ["a", "a-2", "a-3", "b"]


def test_recording_from_another_thread_leaves_ctrl_c_alone():
    before = signal.getsignal(signal.SIGINT)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(OptimizationRecorder(quiet=True).__enter__).result()
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--method adain --gatys.steps 5", "gatys.steps"),
        ("--method adain --log x", "leave them out with adain"),
        ("--method gatys --checkpoint x", "gatys has no weights, got --checkpoint x"),
        ("--method gatys --snapshot-every 5", "Expected a folder for snapshots"),
    ],
)
def test_settings_that_would_be_ignored_are_refused(make_picture, capsys, flags, message):
    path = make_picture()
    assert exit_code("stylize", "--content", path, "--style", path, *flags.split()) == 2
    assert message in capsys.readouterr().err


def test_a_configuration_holds_any_flag(make_picture, tmp_path):
    path, config = make_picture(), tmp_path / "c.yaml"
    config.write_text("method: gatys\ngatys:\n  steps: 1\n")
    assert main.main(["stylize", "--config", str(config), "--content", str(path), "--style", str(path)]) == 0


@pytest.mark.usefixtures("small_metrics")
def test_a_sweep_over_two_flags(make_picture, tmp_path, capsys):
    content, style = make_picture("c/a.png", seed=0), make_picture("s/x.png", seed=1)
    folders = ["--content", str(content.parent), "--style", str(style.parent), "--output", str(tmp_path / "out")]
    vary = "{init: [content, noise], style_weight: [1, 25]}"
    assert main.main(["sweep", *folders, "--vary", vary, "--size", "32", "--gatys.steps", "2"]) == 0
    assert "| init noise, style_weight 25 | 1 |" in capsys.readouterr().out
    losses = list(csv.DictReader((tmp_path / "out" / "losses.csv").read_text().splitlines()))
    assert len(losses) == 4 * 2
    metrics_rows = list(csv.DictReader((tmp_path / "out" / "figures.csv").read_text().splitlines()))
    assert [bool(row["loss"]) for row in metrics_rows] == [False] + 4 * [True]
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        width, height = sheet.size
    assert (width // 256, height // 192) == (2 + 2, 2), "the last flag runs across"
    assert main.main(["sweep", *folders]) == 2
    assert "Expected values to vary" in capsys.readouterr().err
    wrong = {
        "{stepz: [1]}": "stepz",
        "{steps: [many]}": "many",
        "{method: [adain], steps: [2]}": "takes no steps",
    }
    for vary, message in wrong.items():
        assert main.main(["sweep", *folders, "--vary", vary]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.usefixtures("small_metrics")
def test_a_sweep_over_methods(make_picture, tmp_path, capsys):
    content, style = make_picture("c/a.png", seed=0), make_picture("s/x.png", seed=1)
    folders = ["--content", str(content.parent), "--style", str(style.parent), "--output", str(tmp_path / "out")]
    flags = ["--gatys.steps", "1", "--size", "32", "--style-size", "32"]
    assert main.main(["sweep", *folders, *flags, "--vary", "{method: [adain-lite, gatys]}"]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "figures.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["content", "method adain-lite", "method gatys"]
    assert main.main(["sweep", *folders, *flags, "--cases", "{content: {steps: 1}}"]) == 2
    assert "Expected a different label for each variant" in capsys.readouterr().err


@pytest.mark.usefixtures("small_metrics")
def test_a_sweep_over_listed_pairs(make_picture, tmp_path, capsys):
    for i, name in enumerate(("c/a.png", "c/b.png", "s/x.png", "s/y.png")):
        make_picture(name, seed=i)
    table = tmp_path / "pairs.csv"
    flags = ["--content", str(tmp_path / "c"), "--style", str(tmp_path / "s"), "--output", str(tmp_path / "out")]
    flags += ["--pairs", str(table), "--method", "adain-lite", "--vary", "{alpha: [0.5, 1]}", "--size", "32"]
    write_csv(table, "content,style", "b.png,x.png", "a.png,y.png")
    assert main.main(["sweep", *flags]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "figures.csv").read_text().splitlines()))
    assert [(row["content"], row["style"]) for row in rows] == 3 * [("b.png", "x.png"), ("a.png", "y.png")]
    with Image.open(tmp_path / "out" / "sheet.png") as sheet:
        assert (sheet.width // 256, sheet.height // 192) == (2 + 2, 2), "one row for each pair"
    for row, message in (("b.png,x.png,0.5", "Expected no column alpha"), ("c.png,x.png", "c.png: no such file")):
        write_csv(table, "content,style,alpha", row)
        assert main.main(["sweep", *flags]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "experiments").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_names_real_settings(path):
    folders = ["--content", "c", "--style", "s", "--output", "o"]
    parsed = parser.Parser.of(main.COMMANDS["sweep"], "sweep", main.SETTINGS).parse_args(
        ["--config", str(path), *folders]
    )
    settings = {"gatys": parsed.as_dict()["gatys"]}
    cases = variations(Variant("", "gatys"), parsed.vary or {}, parsed.cases or {}, settings)
    assert len(cases) > 1
    for case in cases:
        method = Gatys(**{**case.settings, "weights": "random", "steps": 1})
        content, style = images(64, 64)
        assert method.stylize(content, method.encode_style(style)).shape == content.shape


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "presets").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_preset_stylizes(path, make_picture, tmp_path):
    content, style = make_picture("content.png"), make_picture("style.png", seed=1)
    output = tmp_path / "result.png"
    words = ["stylize", "--content", content, "--style", style, "--output", output, "--config", path]
    words += ["--size", 32, "--gatys.weights", "random", "--gatys.steps", 2, "--device", "cpu", "--quiet"]
    assert main.main([str(word) for word in words]) == 0
    with Image.open(output) as image:
        assert min(image.size) == 32


def options(**changes):
    defaults = {"optimizer": "lbfgs", "lr": None, "history": 7, "momentum": 0.5, "steps": 20, "tolerance": 0.0}
    return DescentOptions(**{**defaults, "precondition": 0.0, **changes})


@pytest.mark.parametrize(
    ("optimizer", "rate", "setting"), [("lbfgs", 1.0, "history_size"), ("adam", 0.02, ""), ("sgd", 1e-3, "momentum")]
)
def test_the_optimizers_and_their_default_rates(optimizer, rate, setting):
    offset = torch.zeros(3, requires_grad=True)
    for lr, expected in ((None, rate), (0.3, 0.3)):
        (group,) = pixel_descent.OPTIMIZERS[optimizer](offset, options(lr=lr)).param_groups
        assert group["lr"] == expected
        assert not setting or group[setting] == {"history_size": 7, "momentum": 0.5}[setting]


def descend(target, final_size=True, callback=None, start=None, loss_scale=(1.0, 2.0, 3.0), **changes):
    """Minimize the squared distance to `target`, in three terms."""

    def loss_fn(image):
        return (image - target).square().mean() * image.new_tensor(loss_scale)

    start = torch.zeros_like(target) if start is None else start
    return Descent(start, loss_fn, options(**changes), False, final_size, callback).run()


@pytest.mark.parametrize("precondition", [0.0, 0.5])
def test_a_quadratic_loss_is_minimized_and_reported(precondition):
    target, reports = torch.rand(1, 3, 6, 8), []
    image, improved = descend(target, callback=reports.append, precondition=precondition)
    torch.testing.assert_close(image, target, atol=1e-3, rtol=0)
    assert improved
    first = reports[0]
    assert (first.step, first.steps, first.size) == (1, 20, 6)
    assert first.content == pytest.approx(target.square().mean().item())
    assert [first.style, first.tv, first.total] == pytest.approx([one * first.content for one in (2, 3, 6)])


def test_the_first_step_of_lbfgs_changes_pixels_by_a_hundredth():
    images = []
    target = torch.rand(1, 3, 6, 8)
    descend(target, steps=2, callback=lambda progress: images.append(progress.picture))
    assert torch.equal(images[0], torch.zeros_like(target)), "the start is evaluated first"
    assert images[1].abs().mean().item() == pytest.approx(0.01, rel=1e-4)


def test_a_descent_that_never_improves_says_so():
    target = torch.rand(1, 3, 6, 8)
    image, improved = descend(target, optimizer="sgd", lr=1e3, steps=4)
    assert not improved
    assert torch.equal(image, torch.zeros_like(target)), "the best is the start"
    assert descend(target, start=target, steps=4)[1], "a start without loss need not improve"


def test_a_descent_ends_when_it_stalls():
    def steps_taken(**changes):
        reports = []
        descend(torch.ones(1, 3, 4, 4), callback=reports.append, optimizer="sgd", momentum=0.0, steps=40, **changes)
        return len(reports)

    # In each step the distance decreases by the factor 1 - 12 lr / 48: 0.25% at a rate of 0.01, so the loss by 4.9% in
    # ten steps.
    slow = {"lr": 0.01}
    assert steps_taken(**slow) == 40, "no tolerance at the full size"
    assert steps_taken(**slow, tolerance=0.04) == 40
    assert steps_taken(**slow, tolerance=0.06) == 11
    assert steps_taken(**slow, final_size=False) == 11, "5% at coarse sizes"
    assert steps_taken(lr=0.02, final_size=False) == 40


@pytest.mark.parametrize(
    ("coarsest", "side", "size"), [(16, 16, 16), (16, 17, 8), (16, 32, 16), (16, 33, 8), (16, 10, 10), (0, 40, 40)]
)
def test_the_coarsest_size_is_at_most_the_given_one(coarsest, side, size):
    sizes = []

    def stop(progress):
        sizes.append(progress.size)
        raise Stop(progress.picture)

    method = Gatys(**SMALL, coarsest=coarsest, callback=stop)
    content, style = images(side, 16)
    assert method.stylize(content, method.encode_style(style)).shape == content.shape
    assert sizes == [size]


def test_a_style_code_has_the_halvings_of_the_style():
    method = Gatys(**SMALL)
    style = images(32)[0]
    code = method.encode_style(style)
    assert set(code) == {f"relu1_1/{n}" for n in range(6)}
    scaled = style
    for n in range(5):  # 32, 16, 8, 4, and 2 pixels, which are not halved again
        expected = statistics.gram(method.backbone(scaled)["relu1_1"])
        torch.testing.assert_close(code[f"relu1_1/{n}"], expected)
        if n < 4:
            scaled = torch.nn.functional.interpolate(scaled, scale_factor=0.5, mode="bilinear", antialias=True)
    assert torch.equal(code["relu1_1/5"], code["relu1_1/4"])
    assert set(Gatys(**SMALL, coarsest=0).encode_style(style)) == {"relu1_1/0"}


def test_a_method_is_rebuilt_from_its_arguments():
    settings = {"form": "original", "steps": 3, "init": "style", "style_layers": ("relu2_1", "relu1_1"), "seed": 5}
    method = Gatys(**settings, callback=print)
    assert method.arguments["style_layers"] == ["relu2_1", "relu1_1"], "plain values"
    assert "callback" not in method.arguments
    assert Gatys(**method.arguments).arguments == method.arguments
    assert {name: method.arguments[name] for name in ("form", "steps", "init", "seed")} == {
        name: settings[name] for name in ("form", "steps", "init", "seed")
    }


def test_every_argument_is_recorded():
    parameters = inspect.signature(Gatys).parameters
    assert [*Gatys(weights="random").arguments] == [name for name in parameters if name != "callback"]


def test_starts_are_the_images_they_name():
    content, style = images(32, 48)

    def start(init):
        found = []
        method = Gatys(**SMALL, steps=1, init=init, seed=4, callback=lambda progress: found.append(progress.picture))
        method.stylize(content, method.encode_style(style))
        return found[0]

    assert torch.equal(start("content"), content)
    large = torch.nn.functional.interpolate(style, (512, 512), mode="bicubic", antialias=True)
    expected = torch.nn.functional.interpolate(large, (32, 32), mode="bicubic", antialias=True)
    torch.testing.assert_close(start("style"), expected)
    assert torch.equal(start("noise"), torch.rand(content.shape, generator=torch.Generator().manual_seed(4)))
    gaussian = start("gaussian")
    assert gaussian.mean().item() == pytest.approx(0.5, abs=0.03)
    assert gaussian.std().item() == pytest.approx(0.25, abs=0.02)
    ready = adain.prepare("adain-lite", "cpu", "fp32")
    expected = adain.stylize(content, style, ready, alpha_blend="features")
    torch.testing.assert_close(start("adain-lite"), expected, atol=1e-4, rtol=0)


def test_each_content_of_a_batch_has_its_own_style():
    contents, styles = torch.cat(images(32) * 2), torch.rand(2, 3, 32, 32)
    method = Gatys(**SMALL, steps=2)
    together = method.stylize(contents, method.encode_style(styles))
    for content, style, found in zip(contents, styles, together, strict=True):
        torch.testing.assert_close(found[None], method.stylize(content[None], method.encode_style(style[None])))


def test_regions_weight_features_by_the_area_of_their_masks():
    method = Gatys(content_layers=["relu1_1"], style_layers=["relu1_1", "relu2_1"])
    mask = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    mask[..., :3] = 255
    features = method.backbone(torch.rand(1, 3, 8, 8))
    regions = method.objective.region_factors(features, mask)
    torch.testing.assert_close(regions["relu1_1"][0, 0, 0, :4].square(), torch.tensor([8 / 3, 8 / 3, 8 / 3, 0]))
    torch.testing.assert_close(regions["relu2_1"][0, 0, 0].square(), torch.tensor([8 / 3, 4 / 3, 0, 0]))
    assert method.objective.region_factors(features, None) == {}


def test_the_rate_of_sgd_follows_the_size_in_the_original_form_only():
    content = images(32)[0]
    for changes, expected in (
        ({"form": "original"}, 1e-2 / (64 * 32 * 32 / 2)),
        ({"form": "original", "lr": 0.5}, 0.5),
        ({"form": "normalized"}, 1e-3),
    ):
        rates = []
        method = Gatys(**SMALL, steps=1, optimizer="sgd", **changes)
        step = torch.optim.SGD.step

        def record(self, *args, step=step, rates=rates):
            rates.append(self.param_groups[0]["lr"])
            return step(self, *args)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.optim.SGD, "step", record)
            method.stylize(content, method.encode_style(content))
        assert rates == [pytest.approx(expected)]


def test_a_start_that_cannot_be_improved_is_reported_unless_alpha_is_zero():
    content, style = images(32, 48)
    method = Gatys(**SMALL, steps=10, optimizer="sgd", lr=1e6)
    code = method.encode_style(style)
    with pytest.raises(OptimizationError, match="no step lowered the loss"):
        method.stylize(content, code)
    assert torch.equal(method.stylize(content, code, alpha=0.0), content)
    few = Gatys(**SMALL, steps=9, optimizer="sgd", lr=1e6)
    assert torch.equal(few.stylize(content, code), content), "nine steps need not improve"


def test_the_frequencies_below_one_wave_per_image_count_as_one():
    weights = pixel_descent.frequency_weights(torch.zeros(1, 3, 8, 8), 1.0)
    assert weights[0, 0] == weights[0, 1] == weights[1, 0]
    assert (weights[0, 1] / weights[0, 2]).item() == pytest.approx(2)
