import math
import shlex
import threading

import numpy as np
import pytest
import pyvips
import torch

from adain.cli import main
from adain.deploy.web.service import StylizeRequest, StylizeService, seconds_left
from adain.imaging.reader import load
from adain.methods.progress import Progress

SIDE = 40


@pytest.fixture
def studio(tmp_path):
    studio = StylizeService(tmp_path / "results", "cpu", 10_000)
    yield studio
    studio.close()


@pytest.fixture
def order(studio, make_picture):
    """An order with changes; its pictures are `photo.png` and styles `a.jpg` and `b.jpg`, unless named otherwise."""

    def order(names=("photo.png", "a.jpg"), **changes):
        uploads = [studio.look(str(make_picture(name, seed=i)), name)[0] for i, name in enumerate(names)]
        plain = {"method": "adain-lite", "alpha": 1.0, "mix": 0.5, "color": "style", "size": SIDE, "steps": 2}
        return StylizeRequest(uploads[0], tuple(uploads[1:]), **{**plain, "device": "cpu", **changes})

    return order


def on_the_command_line(order, folder, monkeypatch):
    """Paint by the order's command line, in the pictures' folder; the file."""
    monkeypatch.chdir(folder)
    words = shlex.split(order.command())
    assert words[:2] == ["python", "infer.py"]
    assert main.main(["stylize", *words[2:], "--quiet"]) == 0
    return folder / order.name()


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        (("photo.png", "a.jpg"), {"alpha": 0.35}),
        (("photo.png", "a.jpg"), {"alpha": 0.0, "method": "adain"}),
        (("photo.png", "a.jpg", "b.jpg"), {"mix": 0.9, "alpha": 0.7}),
        (("photo.png", "a.jpg", "b.jpg"), {"mix": 0.3, "color": "coral"}),
        (("photo.png", "a.jpg"), {"color": "keep-luminance", "method": "adain"}),
        (("photo.png",), {"method": "johnson"}),
        (("photo.png", "a.jpg"), {"method": "gatys", "alpha": 0.5}),
        (("it's ünlike $HOME & #1.png", "-a b;.jpg"), {}),
    ],
    ids=str,
)
def test_the_command_line_paints_the_same_file(studio, order, tmp_path, monkeypatch, names, changes):
    wanted = order(names, **changes)
    painted = studio.paint(wanted)
    assert painted.path.name == wanted.name() == painted.order.name()
    assert on_the_command_line(wanted, tmp_path, monkeypatch).read_bytes() == painted.path.read_bytes()


def test_at_strength_zero_the_page_shows_the_photo(studio, order):
    wanted = order(alpha=0.0)
    assert torch.equal(load(studio.paint(wanted).path).pixels, load(wanted.content.path, SIDE).pixels)


def test_deep_pictures_and_their_transparency_are_kept(studio, order, tmp_path):
    values = np.random.default_rng(0).integers(0, 2**16, (50, 60, 4), dtype=np.uint16)
    pyvips.Image.new_from_array(values, interpretation="rgb16").write_to_file(str(tmp_path / "deep.png"))
    deep, _ = studio.look(str(tmp_path / "deep.png"), "deep.png")
    assert deep.sides == (60, 50)
    painted = load(studio.paint(StylizeRequest(deep, order().styles, "adain-lite", 1, 0.5, "style", 50, 2, "cpu")).path)
    assert painted.pixels.dtype == torch.uint16
    assert torch.equal(painted.alpha, load(tmp_path / "deep.png").alpha)


def test_methods_are_prepared_and_styles_encoded_once(studio, order):
    results = {studio.paint(order(alpha=alpha)).path.read_bytes() for alpha in (0.2, 0.6, 1.0)}
    assert len(results) == 3
    for kept in (studio.method, studio.code):
        assert kept.cache_info().misses == 1, kept


def test_limits_and_what_is_gone(studio, order, tmp_path, make_picture):
    with pytest.raises(ValueError, match="over 10000 pixels; choose a smaller size"):
        studio.paint(order(size=100))
    with pytest.raises(OSError, match="over the limit of 10000 pixels"):
        studio.look(str(make_picture("large.png", (101, 100))), "large.png")
    wanted = order()
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"^a\.jpg was deleted after 2 hours; upload it again"):
        studio.paint(wanted)
    assert not (tmp_path / "results").exists()


def test_names_of_results_are_not_too_long(order):
    assert len(order(("p" * 200 + ".png", "a" * 200 + ".jpg", "b" * 200 + ".jpg")).name().encode()) < 255


def test_an_optimization_tells_how_far_it_is_and_stops(studio, order, tmp_path, monkeypatch):
    monkeypatch.setattr("adain.deploy.web.service.PREVIEW", 0.01)
    wanted, run = order(method="gatys", steps=10_000), studio.begin("me")
    states = studio.optimize(wanted, run)
    progress, left = next(states)
    assert (progress.size, progress.steps) == (48, 10_000), "whole strides of 16 pixels"
    assert 0 < left < math.inf
    studio.stop("me")
    *_, painted = states
    assert 0 < painted.order.steps < 10_000
    again = on_the_command_line(painted.order, tmp_path, monkeypatch)
    assert again.read_bytes() == painted.path.read_bytes(), "as many steps paint the same"


def test_another_painting_a_visitor_who_left_and_the_end_stop_an_optimization(studio, order, monkeypatch):
    monkeypatch.setattr("adain.deploy.web.service.PREVIEW", 0.01)
    before = set(threading.enumerate())
    first = studio.begin("me")
    second, other = studio.begin("me"), studio.begin("other")
    assert (first.is_set(), second.is_set(), other.is_set()) == (True, False, False)
    studio.end("me")
    assert (second.is_set(), other.is_set(), [*studio.runs]) == (True, False, ["other"])
    abandoned = threading.Event()
    states = studio.optimize(order(method="gatys", steps=10_000), abandoned)
    next(states)
    states.close()
    assert abandoned.is_set()
    states = studio.optimize(order(method="gatys", steps=10_000), other)
    next(states)
    studio.close()
    assert set(threading.enumerate()) <= before


def test_the_time_left_counts_pixels():
    progress = Progress(50, 100, 64, 1.0, 1.0, 1.0, 0.0, torch.zeros(1))
    assert seconds_left(progress, 64, 10) == pytest.approx(10)
    assert seconds_left(progress, 256, 10) == pytest.approx(10 + 20 * 4 + 20 * 16)
