"""Large photos: stylized at a small size, and brought to full size by guided upsampling."""

import json

import pytest
import torch
import torch.nn.functional as F

import adain
from adain.batch.runner import stylize_folder
from adain.functional.statistics import luminance
from adain.imaging import reader, resampling, writer
from adain.imaging.photo import WHITE, Photo
from adain.imaging.resampling import Upsampler, downsample
from adain.inference import full_size, guided_upsampling, tiling
from adain.inference.regions import Region
from adain.methods import METHODS
from tests.conftest import QUICK, exit_code
from tests.inference.test_tiling import picture

FEED_FORWARD = [name for name, kind in METHODS.items() if not kind.iterative]


def enlarged(layer, guide, strip=17):
    """All rows of a layer, enlarged to the size of `guide`."""
    small, shape = downsample(guide, layer.image.shape[2:]), tuple(guide.shape[2:])
    upsampler = Upsampler(tuple(layer.image.shape[2:]), shape)
    parts = []
    for rows in resampling.strips(shape[0], strip):
        detail = guide[:, :, rows] - upsampler.rows(small, rows, "bicubic")
        parts.append(guided_upsampling.upsample(layer, detail, upsampler, rows))
    return torch.cat(parts, dim=2)


def sharp(height, width, seed=0):
    """Noise of every frequency, (1, 3, H, W) in [0, 1]."""
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(24, 40), (31, 7)])
def test_downsampling_in_strips_is_that_of_the_whole(shape):
    content = sharp(95, 130)
    expected = F.interpolate(content, shape, mode="bicubic", antialias=True).clamp(0, 1)
    torch.testing.assert_close(downsample(content, shape, 13), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_downsampling_takes_integers(dtype):
    pixels = torch.full((1, 3, 40, 50), WHITE[dtype]).to(dtype)
    torch.testing.assert_close(downsample(pixels, (9, 11)), torch.ones(1, 3, 9, 11))


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize(("source", "target"), [((12, 20), (95, 130)), ((1, 3), (7, 21)), ((40, 9), (40, 10))])
def test_enlarged_rows_are_those_of_the_whole(source, target, mode):
    maps = sharp(*source)
    expected = F.interpolate(maps, target, mode=mode, antialias=True)
    upsampler = Upsampler(source, target)
    found = torch.cat([upsampler.rows(maps, rows, mode) for rows in resampling.strips(target[0], 11)], dim=2)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=0)


def test_rows_of_a_tall_image_need_only_their_surroundings():
    first, weights = resampling._row_weights(50_000, 100_000, slice(60_000, 60_128), "bicubic")
    assert (first, weights.shape) == (29_998, (128, 68))


def test_a_linear_function_of_the_guide_is_exact_at_full_size():
    guide, matrix = sharp(80, 120), torch.tensor([[0.5, -0.2, 0.1], [0.0, 0.3, 0.4], [-0.6, 0.1, 0.7]])

    def linear(colors):
        return torch.einsum("ij,bjhw->bihw", matrix, colors) + 0.1

    layer = guided_upsampling.fit(linear(downsample(guide, (20, 30))), downsample(guide, (20, 30)), eps=1e-7)
    torch.testing.assert_close(enlarged(layer, guide), linear(guide), atol=2e-3, rtol=0)


def test_a_constant_stays_constant():
    guide = sharp(80, 120)
    layer = guided_upsampling.fit(torch.full((1, 3, 20, 30), 0.7), downsample(guide, (20, 30)))
    torch.testing.assert_close(enlarged(layer, guide), torch.full_like(guide, 0.7), atol=1e-5, rtol=0)


def test_over_a_constant_guide_the_small_image_is_enlarged():
    image = sharp(20, 30, 1)
    layer = guided_upsampling.fit(image, torch.full((1, 3, 20, 30), 0.4))
    expected = F.interpolate(image, (80, 120), mode="bicubic", antialias=True)
    torch.testing.assert_close(enlarged(layer, torch.full((1, 3, 80, 120), 0.4)), expected, atol=1e-4, rtol=0)


def test_edges_are_as_sharp_as_the_guides():
    guide = torch.zeros(1, 3, 64, 64)
    guide[..., 30:] = 0.8
    small = downsample(guide, (16, 16))
    layer = guided_upsampling.fit(1 - small, small)
    found = enlarged(layer, guide)
    assert (found[..., 29] - found[..., 30]).min() > 0.7, "a step of 0.8 in one pixel"


@pytest.mark.parametrize(
    ("work_size", "shape", "expected"),
    [
        (None, (1024, 1500), (1024, 1500)),
        (None, (1025, 2050), (512, 1024)),
        (None, (4096, 2048), (1024, 512)),
        ("content", (4096, 2048), (4096, 2048)),
        (256, (512, 1024), (256, 512)),
        (600, (512, 1024), (512, 1024)),
        (64, (100, 64), (100, 64)),
    ],
)
def test_the_size_at_which_the_network_works(work_size, shape, expected):
    assert full_size.work_shape(work_size, shape) == expected


def test_the_default_leaves_1024_pixels_and_shrinks_1025(monkeypatch):
    seen = []
    monkeypatch.setattr(tiling, "stylize_tiled", lambda *args, **options: seen.append(args[1].shape) or args[1])
    ready, style = adain.prepare("johnson", "cpu", "fp32"), None
    for width in (1024, 1025):
        assert adain.stylize(torch.zeros(1, 3, width, 1100), style, ready).shape == (1, 3, width, 1100)
    assert [shape[2] for shape in seen] == [1024, 512]


@pytest.mark.parametrize("name", FEED_FORWARD)
def test_every_method_of_one_pass(name):
    method, content = adain.prepare(name, "cpu", "fp32"), picture(96, 112)
    style = picture(40, 40, 1) if method.takes_style else None
    found = adain.stylize(content, style, method, work_size=64)
    assert found.shape == content.shape and found.dtype == torch.float32
    assert found.min() >= 0 and found.max() <= 1
    small = adain.stylize(downsample(content, (64, 75)), style, method)
    assert (downsample(found, (64, 75)) - small).abs().mean() < 0.02, "its small copy is the small result"
    assert torch.equal(
        adain.stylize(content, style, method, work_size="content"), adain.stylize(content, style, method)
    )


def test_strips_are_the_whole(lite):
    content, code = sharp(96, 80), adain.encode_style(lite, picture(40, 40, 1))
    brushes = [Region(code, 0.5, residual=0.5)]

    def network(small, brushes):
        return tiling.stylize_tiled(lite, small, brushes)

    whole, strips = (full_size.stylize(network, content, brushes, (72, 60), strip=rows) for rows in (96, 7))
    torch.testing.assert_close(strips, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["adain", "adain-lite", "adaconv", "style-swap", "wct"])
def test_alpha_zero_is_the_photo(name):
    method, style = adain.prepare(name, "cpu", "fp32"), picture(40, 40, 1)
    pixels = (sharp(96, 110) * 255).round().to(torch.uint8)
    for options in ({}, {"color": "keep-luminance"}, {"color": "coral"}, {"photorealistic": True}):
        found = adain.stylize(Photo(pixels), style, method, alpha=0, work_size=64, **options)
        assert torch.equal(found.pixels, pixels), options
    content = pixels.float() / 255
    assert torch.equal(adain.stylize(content, style, method, alpha=0, work_size=64), content)


def test_what_the_network_loses_is_added_back_in_proportion(lite):
    content, style = picture(120, 140), picture(40, 40, 1)

    def call(alpha, alpha_blend="features"):
        return adain.stylize(content, style, lite, alpha=alpha, alpha_blend=alpha_blend, work_size=64)

    stylized, rebuilt, found = call(0.6), call(0), call(0.6, "residual")
    expected = (stylized + 0.4 * (content - rebuilt)).clamp(0, 1)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - stylized).abs().mean() > 0.01


def test_masks_are_those_of_full_size(lite):
    content, styles = sharp(96, 160), [picture(40, 40, seed) for seed in (1, 2)]
    left = torch.zeros(1, 96, 160)
    left[..., :75] = 1
    call = {"method": lite, "work_size": 64}
    result = adain.stylize(content, styles, mask=[left, 1 - left], **call)
    for style, columns in zip(styles, (slice(0, 75), slice(75, 160)), strict=True):
        one = adain.stylize(content, style, **call)
        torch.testing.assert_close(result[..., columns], one[..., columns], atol=1e-5, rtol=0)
    alone = adain.stylize(content, styles[0], mask=left, alpha=0.5, **call)
    assert torch.equal(alone[..., 75:], content[..., 75:])
    assert (alone[..., :75] - content[..., :75]).abs().mean() > 0.01
    none = adain.stylize(content, styles, mask=[left, 1 - left], alpha=[0.9, 0], **call)
    assert torch.equal(none[..., 75:], content[..., 75:])


def test_tiles_are_the_whole_at_the_work_size(lite):
    content, style = picture(80, 110), picture(40, 40, 1)
    call = {"alpha": 0.7, "color": "keep-luminance", "work_size": 64}
    whole, tiled = (adain.stylize(content, style, lite, tile=tile, **call) for tile in (None, 64))
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)


def test_the_contents_colors_are_those_of_full_size(lite):
    content, style = 0.4 + 0.2 * sharp(96, 110), picture(40, 40, 1)
    found = adain.stylize(content, style, lite, color="keep-luminance", work_size=64)
    difference = found - content
    inside = ((found > 0) & (found < 1)).all(1)
    spread = (difference.amax(1) - difference.amin(1))[inside]
    assert inside.float().mean() > 0.5 and spread.max() < 1e-5, "only the luminance changes"


def test_the_contents_colors_are_kept_once(lite):
    """Keeping the colors before and after enlarging would darken saturated contents."""
    content = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1) * (0.9 + 0.1 * sharp(96, 96))
    style = picture(64, 64, 1)
    luminances = []
    for size in (64, "content"):
        result = adain.stylize(content, style, lite, color="keep-luminance", work_size=size)
        luminances.append(luminance(result).mean())
    plain = luminance(adain.stylize(content, style, lite, work_size=64)).mean()
    assert abs(luminances[0] - luminances[1]) < 0.01
    assert abs(plain - luminances[0]) > 0.02, "or nothing was clamped"


def test_styles_are_brought_to_the_work_size(lite):
    content, style = picture(120, 120), picture(200, 200, 1)
    found, expected = (adain.stylize(content, style, lite, style_size=size, work_size=64) for size in ("content", 64))
    assert torch.equal(found, expected)
    assert not torch.equal(found, adain.stylize(content, style, lite, work_size=64))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_photos_keep_their_depth(lite, dtype):
    white = WHITE[dtype]
    content, style = picture(96, 110), picture(40, 40, 1)
    pixels = (content * white).round().to(dtype)
    found = adain.stylize(Photo(pixels), style, lite, work_size=64).pixels
    expected = adain.stylize(pixels.float() / white, style, lite, work_size=64)
    assert found.dtype == dtype
    assert (found.float() / white - expected).abs().max() <= 0.51 / white


def test_several_contents_at_once(lite):
    contents, style = torch.cat([picture(96, 100), picture(96, 100, 1)]), picture(40, 40, 2)
    found = adain.stylize(contents, style, lite, alpha=0.5, work_size=64)
    for content, one in zip(contents, found, strict=True):
        expected = adain.stylize(content, style, lite, alpha=0.5, work_size=64)[0]
        torch.testing.assert_close(one, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("work_size", [63, 0, -5, "half", 100.5, True])
def test_wrong_sizes_are_refused(lite, work_size):
    with pytest.raises(ValueError, match="work_size must be content or at least 64 pixels, got"):
        adain.stylize(picture(32, 32), picture(32, 32, 1), lite, work_size=work_size)


def test_gatys_has_sizes_of_its_own():
    contents = picture(80, 80), picture(32, 32, 1)
    with pytest.raises(ValueError, match="Gatys works at several sizes of its own; leave out work_size"):
        adain.stylize(*contents, "gatys", device="cpu", work_size=64)
    found = [
        adain.stylize(*contents, "gatys", device="cpu", work_size=one, **QUICK["gatys"]) for one in (None, "content")
    ]
    assert torch.equal(*found)


def test_on_the_command_line(make_picture, tmp_path, capsys):
    photo, style = make_picture(size=(100, 90)), make_picture("s.png", seed=1)
    words = "stylize", "--content", photo, "--style", style, "--method", "adain-lite", "--quiet"
    results = {}
    for size in ("content", "64"):
        assert exit_code(*words, "--work-size", size, "--output", tmp_path / f"{size}.png") == 0
        results[size] = reader.load_image(tmp_path / f"{size}.png")
    assert exit_code(*words, "--output", tmp_path / "default.png") == 0
    assert torch.equal(results["content"], reader.load_image(tmp_path / "default.png"))
    assert results["64"].shape == results["content"].shape and not torch.equal(*results.values())
    capsys.readouterr()
    for wrong in ("63", "half", "1.5"):
        assert exit_code(*words, "--work-size", wrong, "--output", tmp_path / "none.png") == 2
        assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "none.png").exists()


def test_folders_paint_as_single_pictures_and_resume(lite, make_picture, tmp_path):
    photo, style = make_picture("in/a.png", (120, 100)), make_picture("styles/s.png", seed=1)
    call = {"method": "adain-lite", "device": "cpu", "quiet": True, "workers": 0, "style_size": "content"}
    folders = tmp_path / "in", tmp_path / "styles", tmp_path / "out"
    result = tmp_path / "out" / "a__s.png"

    def stylize_image(**options):
        assert not stylize_folder(*folders, **call, **options)
        return reader.load_image(result), result.stat().st_mtime_ns

    found, written = stylize_image(work_size=64)
    expected = adain.stylize(reader.load(photo), style, "adain-lite", device="cpu", style_size="content", work_size=64)
    assert torch.equal(found, expected.pixels / 255)
    assert stylize_image(work_size=64)[1] == written
    assert not torch.equal(stylize_image(work_size="content")[0], found)
    with pytest.raises(ValueError, match="work_size must be content or at least 64"):
        stylize_folder(*folders, **call, work_size=8)


def test_a_folder_of_an_earlier_version_is_resumed_where_nothing_changed(make_picture, tmp_path):
    make_picture("in/a.png", (48, 40)), make_picture("styles/s.png", seed=1)
    call = {"method": "adain-lite", "device": "cpu", "quiet": True, "workers": 0}
    folders = tmp_path / "in", tmp_path / "styles", tmp_path / "out"
    stylize_folder(*folders, size=40, **call)
    manifest, result = tmp_path / "out" / "manifest.jsonl", tmp_path / "out" / "a__s.png"
    line = json.loads(manifest.read_text())
    assert line.pop("work_size") == "content"
    manifest.write_text(json.dumps(line) + "\n")
    written = result.stat().st_mtime_ns
    for work_size in (None, "content"):
        stylize_folder(*folders, size=40, work_size=work_size, **call)
        assert result.stat().st_mtime_ns == written
    stylize_folder(*folders, size=40, work_size=64, **call)
    assert result.stat().st_mtime_ns > written


def test_earlier_results_of_small_contents_do_not_stand_for_large_results(tmp_path, monkeypatch):
    """Manifests of earlier versions: an enlarged content was shown to the network at the size of its result."""
    monkeypatch.setattr(full_size, "LARGEST_CONTENT", 80)
    for side, pixels in (("content", picture(32, 40)), ("style", picture(32, 32, 1))):
        writer.save(pixels, tmp_path / side / "a.png")
    output = tmp_path / "out"
    call = (tmp_path / "content", tmp_path / "style", output)
    settings = {"method": "adain-lite", "device": "cpu", "workers": 0}
    stylize_folder(*call, size=full_size.LARGEST_CONTENT + 1, work_size="content", **settings)
    manifest = output / "manifest.jsonl"
    (line,) = [json.loads(line) for line in manifest.read_text().splitlines()]
    del line["work_size"], line["detail"]
    manifest.write_text(json.dumps(line) + "\n")
    stylize_folder(*call, size=full_size.LARGEST_CONTENT + 1, **settings)
    assert len(manifest.read_text().splitlines()) == 2, "the result was made again"


def test_grids_take_it(make_picture, tmp_path):
    make_picture("in/a.png", (120, 100)), make_picture("styles/s.png", seed=1)
    folders = "--content", tmp_path / "in", "--style", tmp_path / "styles", "--output", tmp_path / "out"
    assert exit_code("grid", *folders, "--method", "adain-lite", "--work-size", "64") == 0
    found = reader.load_image(tmp_path / "out" / "a__s.png")
    call = {"method": "adain-lite", "device": "cpu"}
    paths = tmp_path / "in" / "a.png", tmp_path / "styles" / "s.png"
    for size, same in ((64, True), ("content", False)):
        distance = (adain.stylize(*paths, work_size=size, **call) - found).abs().max()
        assert (distance < 0.51 / 255) == same
    assert exit_code("sweep", *folders, "--method", "adain-lite", "--vary", "{work_size: [8]}") == 2
