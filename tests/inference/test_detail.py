"""Keeping the content's luminance detail."""

import builtins

import pytest
import torch
import torch.nn.functional as F

import adain
from adain.batch.runner import stylize_folder
from adain.functional import statistics
from adain.functional.statistics import box_mean
from adain.imaging import reader
from adain.imaging.photo import Photo
from adain.inference.detail import keep_detail
from adain.methods import METHODS
from benchmarks import faces
from tests.conftest import QUICK, exit_code
from tests.inference.test_tiling import picture
from tests.inference.test_work_size import sharp


def calm(height, width, seed=0):
    """Noise far from black and white, so that nothing is clamped."""
    return 0.4 + 0.2 * sharp(height, width, seed)


def local_mean(values, radius):
    """The mean over windows of 2 `radius` + 1 pixels, cut at the border."""
    window = torch.ones(1, 1, 2 * radius + 1, 2 * radius + 1)
    counts = F.conv2d(torch.ones_like(values), window, padding=radius)
    return F.conv2d(values, window, padding=radius) / counts


def detail_of(image, radius=5, eps=0.1):
    """The luminance minus its self-guided filter (He et al. 2013, eqs. 5, 6, and 8 with I = p)."""
    luminance = statistics.luminance(image)
    mean = local_mean(luminance, radius)
    variance = local_mean((luminance - mean[..., :1, :1]).square(), radius) - (mean - mean[..., :1, :1]).square()
    slope = variance / (variance + eps)
    offset = (1 - slope) * mean
    return luminance - (local_mean(slope, radius) * luminance + local_mean(offset, radius))


def test_at_one_the_result_is_the_contents_detail_over_the_stylized_base():
    stylized, content = calm(40, 56), calm(40, 56, 1)
    found = statistics.luminance(keep_detail(stylized, content, 1.0))
    expected = statistics.luminance(stylized) - detail_of(stylized) + detail_of(content)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    half = statistics.luminance(keep_detail(stylized, content, 0.5))
    torch.testing.assert_close(half, (statistics.luminance(stylized) + expected) / 2, atol=1e-5, rtol=0)


def test_colors_stay():
    stylized = calm(40, 56)
    difference = keep_detail(stylized, calm(40, 56, 1), 1.0) - stylized
    torch.testing.assert_close(difference, difference[:, :1].expand(-1, 3, -1, -1), atol=1e-6, rtol=0)
    assert difference.abs().mean() > 0.01


def base_of(image, eps):
    """The luminance that stays when the detail of a constant image replaces the image's own."""
    base = keep_detail(image, torch.full_like(image, 0.3), 1.0, share=1 / 4, eps=eps)
    return statistics.luminance(base)


def test_the_base_keeps_what_is_constant_and_strong_edges():
    constant = torch.full((1, 3, 20, 20), 0.7)
    torch.testing.assert_close(base_of(constant, 0.1), statistics.luminance(constant))
    edge = torch.full((1, 3, 20, 20), 0.2)
    edge[..., 10:] = 0.8
    torch.testing.assert_close(base_of(edge, 1e-5), statistics.luminance(edge), atol=0.01, rtol=0)
    weak = 0.5 + edge / 100
    blurred = local_mean(local_mean(statistics.luminance(weak), 5), 5)
    torch.testing.assert_close(base_of(weak, 0.1), blurred, atol=1e-4, rtol=0)
    assert (blurred - statistics.luminance(weak)).abs().max() > 2e-3, "or the tolerance would hide the edge"


def test_where_nothing_is_stylized_the_content_stays_to_the_last_bit():
    content = sharp(40, 56)
    assert torch.equal(keep_detail(content, content, 1.0), content)
    pixels = (content * 255).to(torch.uint8)
    assert torch.equal(keep_detail(pixels, pixels, 1.0), pixels)


def test_strips_are_the_whole_and_large_images_keep_detail():
    stylized, content = calm(560, 600), calm(560, 600, 1)
    whole, strips = (keep_detail(stylized, content, 1.0, strip=rows) for rows in (560, 33))
    torch.testing.assert_close(strips, whole, atol=1e-6, rtol=0)

    def fine(image):
        luminance = statistics.luminance(image)
        return (luminance - box_mean(luminance, 2)).flatten()

    pairs = {
        name: torch.corrcoef(torch.stack([fine(whole), fine(one)]))[0, 1]
        for name, one in (("c", content), ("s", stylized))
    }
    assert pairs["c"] > 0.95 and abs(pairs["s"]) < 0.2


@pytest.mark.parametrize("name", METHODS)
def test_zero_is_the_default_for_every_method(name):
    settings = QUICK.get(name, {})
    method, content = adain.prepare(name, "cpu", "fp32", **settings), picture(48, 56)
    style = picture(40, 40, 1) if method.takes_style else None
    torch.manual_seed(0)
    plain = adain.stylize(content, style, method)
    torch.manual_seed(0)
    assert torch.equal(adain.stylize(content, style, method, detail=0), plain)
    torch.manual_seed(0)
    found = adain.stylize(content, style, method, detail=0.7)
    assert torch.equal(found, keep_detail(plain, content, 0.7)) and not torch.equal(found, plain)


def test_with_work_size_tiles_alpha_and_depth(lite):
    content, style = sharp(96, 110), picture(40, 40, 1)
    pixels = (content * 65535).round().to(torch.uint16)
    found = adain.stylize(Photo(pixels), style, lite, alpha=0, work_size=64, detail=1)
    assert torch.equal(found.pixels.int(), pixels.int())
    call = {"work_size": 64, "detail": 0.5, "alpha": 0.8}
    tiled, whole = (adain.stylize(content, style, lite, tile=tile, **call) for tile in (64, None))
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)


def test_masks_leave_the_rest_as_it_is(lite):
    content, styles = sharp(48, 96), [picture(40, 40, seed) for seed in (1, 2)]
    left = torch.zeros(1, 48, 96)
    left[..., :50] = 1
    alone = adain.stylize(content, styles[0], lite, mask=left, detail=1)
    assert torch.equal(alone[..., 50:], content[..., 50:])
    assert (alone[..., :50] - adain.stylize(content, styles[0], lite, mask=left)[..., :50]).abs().mean() > 0.01
    both = adain.stylize(content, styles, lite, mask=[left, 1 - left], alpha=[1, 0], detail=1)
    assert torch.equal(both[..., 50:], content[..., 50:])


@pytest.mark.parametrize("detail", [-0.1, 1.5, float("nan")])
def test_wrong_values_are_refused(lite, detail, make_picture, tmp_path, capsys):
    with pytest.raises(ValueError, match="detail must be between 0 and 1, got"):
        adain.stylize(picture(32, 32), picture(32, 32, 1), lite, detail=detail)
    words = "--content", make_picture(), "--style", make_picture("s.png"), "--output", tmp_path / "out.png"
    assert exit_code("stylize", *words, "--method", "adain-lite", f"--detail={detail}") == 2
    assert capsys.readouterr().err.count("\n") == 1 and not (tmp_path / "out.png").exists()


def test_on_the_command_line_and_in_folders(make_picture, tmp_path):
    photo, style = make_picture("in/a.png"), make_picture("styles/s.png", seed=1)
    expected = adain.stylize(reader.load(photo), style, "adain-lite", device="cpu", detail=0.6).pixels / 255
    words = "--method", "adain-lite", "--detail", "0.6"
    assert exit_code("stylize", "--content", photo, "--style", style, *words, "--output", tmp_path / "o.png") == 0
    assert torch.equal(reader.load_image(tmp_path / "o.png"), expected)
    folders = tmp_path / "in", tmp_path / "styles", tmp_path / "out"
    call = {"method": "adain-lite", "device": "cpu", "quiet": True, "workers": 0}
    for detail, same in ((0, False), (0.6, True)):
        assert not stylize_folder(*folders, detail=detail, **call)
        assert torch.equal(reader.load_image(tmp_path / "out" / "a__s.png"), expected) == same


def test_faces_are_matched_by_their_overlap():
    box = 10, 10, 50, 50
    assert faces.overlap(box, box) == 1
    assert faces.overlap(box, (70, 10, 50, 50)) == 0
    assert faces.overlap(box, (10, 35, 50, 50)) == pytest.approx(1 / 3)
    assert faces.kept([box, (100, 100, 60, 60)], [(12, 12, 50, 50)]) == 1


def test_faces_need_opencv(monkeypatch, tmp_path, capsys):
    load = builtins.__import__

    def missing(name, *args, **options):
        if name == "cv2":
            raise ModuleNotFoundError("No module named 'cv2'", name="cv2")
        return load(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", missing)
    monkeypatch.setattr("sys.argv", ["faces", "--content", str(tmp_path), "--style", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"error: .* needs cv2: pip install '\.\[faces\]' in the repository"):
        faces.main()
