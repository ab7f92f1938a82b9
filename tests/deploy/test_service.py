import math
import shlex
import shutil
import threading
from dataclasses import replace

import numpy as np
import pytest
import pyvips
import torch
from PIL import Image

from adain.cli import main
from adain.deploy.web.service import StylizeRequest, StylizeService, seconds_left
from adain.imaging.photo import to_float
from adain.imaging.reader import load
from adain.methods.progress import Progress

SIDE = 40


@pytest.fixture
def service(tmp_path):
    service = StylizeService(tmp_path / "results", "cpu", 10_000)
    yield service
    service.close()


@pytest.fixture
def make_request(service, make_picture):
    """A function that returns a request for images of the given names, with the given fields changed."""

    def make_request(names=("photo.png", "a.jpg"), **changes):
        uploads = [service.open_upload(str(make_picture(name, seed=i)), name)[0] for i, name in enumerate(names)]
        plain = {"method": "adain-lite", "alpha": 1.0, "mix": 0.5, "color": "style", "size": SIDE, "steps": 2}
        return StylizeRequest(uploads[0], tuple(uploads[1:]), **{**plain, "device": "cpu", **changes})

    return make_request


def on_the_command_line(request, folder, monkeypatch):
    """Run the command line of a request in the folder of its images; returns the path of the result."""
    monkeypatch.chdir(folder)
    words = shlex.split(request.command_line())
    assert words[:2] == ["adain", "stylize"]
    assert main.main([*words[1:], "--quiet"]) == 0
    return folder / request.file_name()


@pytest.mark.parametrize(
    ("names", "changes"),
    [
        (("photo.png", "a.jpg"), {"alpha": 0.35}),
        (("photo.png", "a.jpg"), {"alpha": 0.0, "method": "adain"}),
        (("photo.png", "a.jpg", "b.jpg"), {"mix": 0.9, "alpha": 0.7}),
        (("photo.png", "a.jpg", "b.jpg"), {"mix": 0.3, "color": "coral"}),
        (("photo.png", "a.jpg", "b.jpg"), {"mix": 0.6, "second_alpha": 0.4}),
        (("photo.png", "a.jpg"), {"color": "keep-luminance", "method": "adain"}),
        (("photo.png",), {"method": "johnson", "detail": 0.5}),
        (("photo.png", "a.jpg"), {"stroke_size": 24, "photorealistic": True}),
        (("photo.png", "a.jpg"), {"stroke_size": 24, "color": "coral"}),
        (("photo.png", "a.jpg"), {"stroke_size": 24, "method": "gatys"}),
        (("photo.png", "a.jpg"), {"method": "gatys", "alpha": 0.5}),
        (("it's ünlike $HOME & #1.png", "-a b;.jpg"), {}),
    ],
    ids=str,
)
def test_the_command_line_writes_the_same_file(service, make_request, tmp_path, monkeypatch, names, changes):
    wanted = make_request(names, **changes)
    result = service.stylize(wanted)
    assert result.path.name == wanted.file_name() == result.request.file_name()
    assert on_the_command_line(wanted, tmp_path, monkeypatch).read_bytes() == result.path.read_bytes()


@pytest.mark.parametrize(
    ("names", "start"),
    [
        (("my photo.png", "$a.jpg"), "adain stylize 'my photo.png' '$a.jpg' --method adain"),
        (("-p.png", "a.jpg", "b.jpg"), "adain stylize ./-p.png --style a.jpg b.jpg --style-weight 0.5 0.5 --method"),
        (("photo.png",), "adain stylize photo.png --method johnson"),
    ],
)
def test_the_command_line_is_that_of_the_installed_command(make_request, names, start):
    method = "adain" if len(names) > 1 else "johnson"
    assert make_request(names, method=method).command_line().startswith(start)


@pytest.mark.parametrize("changes", [{}, {"color": "coral"}, {"method": "gatys"}, {"stroke_size": 24}], ids=str)
def test_the_second_style_goes_where_the_mask_is_painted(service, make_request, tmp_path, monkeypatch, changes):
    painted = Image.new("L", (48, 40))  # as the photo
    painted.paste(255, (24, 0, 48, 40))
    mask = service.save_mask(painted)
    assert service.save_mask(painted) == mask, "the same request, which need not be stylized again"
    wanted = make_request(("photo.png", "a.jpg", "b.jpg"), mask=mask, alpha=1.0, second_alpha=0.0, **changes)
    result = service.stylize(wanted)
    shutil.copy(mask.path, tmp_path)
    assert on_the_command_line(wanted, tmp_path, monkeypatch).read_bytes() == result.path.read_bytes()
    before, after = (to_float(load(path).pixels) for path in (result.before, result.path))
    change = (after - before).abs().mean((0, 1, 2))
    if wanted.method != "gatys":  # which has hardly begun after two steps
        assert change[:16].mean() > 3 * change[-16:].mean(), "strength 0 on the right"


def test_a_result_comes_with_the_photo_of_its_size_as_a_jpeg_and_sets_the_expected_time(service, make_request):
    wanted = make_request()
    assert service.expected_seconds(wanted) is None
    result = service.stylize(wanted)
    formats, sizes = [], set()
    for path in (result.path, result.jpeg, result.before):
        with Image.open(path) as image:
            formats.append(image.format)
            sizes.add(image.size)
    assert formats == ["PNG", "JPEG", "JPEG"]
    assert len(sizes) == 1
    larger = replace(wanted, size=2 * SIDE)
    assert service.expected_seconds(larger) == pytest.approx(4 * service.expected_seconds(wanted))


def test_at_strength_zero_the_page_shows_the_photo(service, make_request):
    wanted = make_request(alpha=0.0)
    assert torch.equal(load(service.stylize(wanted).path).pixels, load(wanted.content.path, SIDE).pixels)


def test_bit_depth_and_transparency_are_preserved(service, make_request, tmp_path):
    values = np.random.default_rng(0).integers(0, 2**16, (50, 60, 4), dtype=np.uint16)
    pyvips.Image.new_from_array(values, interpretation="rgb16").write_to_file(str(tmp_path / "deep.png"))
    deep, _ = service.open_upload(str(tmp_path / "deep.png"), "deep.png")
    assert deep.size == (60, 50)
    request = StylizeRequest(deep, make_request().styles, "adain-lite", 1, 0.5, "style", 50, 2, "cpu")
    stylized = load(service.stylize(request).path)
    assert stylized.pixels.dtype == torch.uint16
    assert torch.equal(stylized.alpha, load(tmp_path / "deep.png").alpha)


def test_methods_are_prepared_and_styles_encoded_once(service, make_request):
    results = {service.stylize(make_request(alpha=alpha)).path.read_bytes() for alpha in (0.2, 0.6, 1.0)}
    assert len(results) == 3
    for cached in (service.load_method, service.encode_style):
        assert cached.cache_info().misses == 1, cached


def test_large_results_large_uploads_and_deleted_uploads_are_reported(service, make_request, tmp_path, make_picture):
    with pytest.raises(ValueError, match="over 10000 pixels; choose a smaller size"):
        service.stylize(make_request(size=100))
    with pytest.raises(OSError, match="over the limit of 10000 pixels"):
        service.open_upload(str(make_picture("large.png", (101, 100))), "large.png")
    wanted = make_request()
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"^a\.jpg was deleted after 2 hours; upload it again"):
        service.stylize(wanted)
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize("letter", ["p", "é", "写", "🌊"])
def test_names_of_results_are_not_too_long(make_request, letter):
    wanted = make_request()
    uploads = [replace(wanted.content, name=f"{start}{letter * 200}.png") for start in ("1", "22", "333")]
    name = replace(wanted, content=uploads[0], styles=tuple(uploads[1:])).file_name()
    assert 230 < len(name.encode()) < 255
    assert set(name) <= {*"123_+.png", letter}, "no part of a character"


def test_an_optimization_reports_progress_and_stops(service, make_request, tmp_path, monkeypatch):
    monkeypatch.setattr("adain.deploy.web.service.PREVIEW_INTERVAL", 0.01)
    wanted, run = make_request(method="gatys", steps=10_000), service.begin("me")
    states = service.optimize(wanted, run)
    progress, left = next(states)
    assert (progress.size, progress.steps) == (48, 10_000), "a multiple of the stride, 16 pixels"
    assert 0 < left < math.inf
    service.stop("me")
    *_, result = states
    assert 0 < result.request.steps < 10_000
    again = on_the_command_line(result.request, tmp_path, monkeypatch)
    assert again.read_bytes() == result.path.read_bytes(), "the same number of steps gives the same result"


def test_a_new_request_a_visitor_who_left_and_a_shutdown_stop_an_optimization(service, make_request, monkeypatch):
    monkeypatch.setattr("adain.deploy.web.service.PREVIEW_INTERVAL", 0.01)
    before = set(threading.enumerate())
    first = service.begin("me")
    second, other = service.begin("me"), service.begin("other")
    assert (first.is_set(), second.is_set(), other.is_set()) == (True, False, False)
    service.end("me")
    assert (second.is_set(), other.is_set(), [*service.runs]) == (True, False, ["other"])
    abandoned = threading.Event()
    states = service.optimize(make_request(method="gatys", steps=10_000), abandoned)
    next(states)
    states.close()
    assert abandoned.is_set()
    states = service.optimize(make_request(method="gatys", steps=10_000), other)
    next(states)
    service.close()
    assert set(threading.enumerate()) <= before


def test_the_time_left_counts_pixels():
    progress = Progress(50, 100, 64, 1.0, 1.0, 1.0, 0.0, torch.zeros(1))
    assert seconds_left(progress, 64, 10) == pytest.approx(10)
    assert seconds_left(progress, 256, 10) == pytest.approx(10 + 20 * 4 + 20 * 16)
