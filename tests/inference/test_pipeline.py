import numpy as np
import pytest
import torch
from PIL import Image

import adain
from adain.evaluation import metrics
from adain.functional import colors, normalization
from adain.functional.losses import PerceptualLoss
from adain.imaging import listing, reader
from adain.imaging.options import DEFAULT_READ_OPTIONS, ReadOptions
from adain.inference import pipeline, preparation, style_encoding
from adain.methods import METHODS, AdaIN, Gatys, style_codes, weights
from adain.models.backbones import Backbone
from tests.conftest import QUICK
from tests.methods.test_methods import MIXING, STYLED, TRAINED


@pytest.fixture(params=METHODS, scope="module")
def ready(request):
    return adain.prepare(request.param, "cpu", "fp32", **QUICK.get(request.param, {}))


def stylize_image(content, style, ready, **settings):
    """As `adain.stylize`, but no style for a method that takes none."""
    return adain.stylize(content, style if ready.takes_style else None, ready, **settings)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 9), (33, 47)])
def test_the_result_has_exactly_the_contents_size(ready, size):
    content = torch.rand(1, 3, *size)
    result = stylize_image(content, torch.rand(3, 20, 30), ready)
    assert result.shape == content.shape
    assert result.min() >= 0
    assert result.max() <= 1
    assert result.isfinite().all()


@pytest.mark.parametrize("ready", STYLED, indirect=True)
@pytest.mark.parametrize("size", [(1, 1), (3, 50), (15, 17)])
def test_tiny_styles(ready, size):
    assert adain.stylize(torch.rand(1, 3, 24, 24), torch.rand(1, 3, *size), ready).isfinite().all()


def test_sides_are_padded_by_reflection_to_the_stride_and_cut_again(ready):
    content, style = torch.rand(1, 3, 37, 42), torch.rand(3, 32, 32)
    down, right = (-side % ready.stride for side in content.shape[2:])
    padded = torch.nn.functional.pad(content, (0, right, 0, down), mode="reflect")
    expected = stylize_image(padded, style, ready)[..., :37, :42]
    torch.testing.assert_close(stylize_image(content, style, ready), expected, atol=1e-5, rtol=0)


def test_size_sets_the_shorter_side(ready, make_picture):
    path = make_picture(size=(60, 40))
    assert stylize_image(path, path, ready, size=32).shape == (1, 3, 32, 48)
    assert stylize_image(reader.load_image(path), path, ready, size=32).shape == (1, 3, 32, 48)


@pytest.mark.parametrize("ready", STYLED, indirect=True)
def test_style_size_changes_the_strokes(ready, examples):
    style = examples / "style" / "starry_night.jpg"
    small, large = (adain.encode_style(ready, style, size) for size in (64, 256))
    assert any(
        small[name].shape != large[name].shape or (small[name] - large[name]).norm() > 0.05 * large[name].norm()
        for name in small
    )


def test_a_large_style_is_reduced_to_the_largest_size(monkeypatch):
    monkeypatch.setattr(style_encoding, "LARGEST_STYLE", 32)
    ready, large = adain.prepare("adain-lite", "cpu", "fp32"), torch.rand(1, 3, 96, 64)
    capped, whole = adain.encode_style(ready, large), adain.encode_style(ready, large, 64)
    for name, expected in adain.encode_style(ready, large, 32).items():
        torch.testing.assert_close(capped[name], expected)
        assert (capped[name] - whole[name]).norm() > 0.01 * whole[name].norm(), "a size that is asked for is not capped"
    small = torch.rand(1, 3, 20, 30)
    for name, expected in adain.encode_style(ready, small, 20).items():
        torch.testing.assert_close(adain.encode_style(ready, small)[name], expected)


@pytest.mark.parametrize("size", [None, 16])
def test_a_long_style_is_reduced_to_the_pixels_of_four_to_one(size, monkeypatch):
    monkeypatch.setattr(style_encoding, "LARGEST_STYLE", 16)
    long = torch.rand(1, 3, 16, 400)
    image = style_encoding.style_image(long, size, None, DEFAULT_READ_OPTIONS)
    assert image.shape == (1, 3, 6, 150)
    at_the_limit = style_encoding.style_image(long[..., :64], size, None, DEFAULT_READ_OPTIONS)
    assert torch.equal(at_the_limit, long[..., :64])


@pytest.mark.parametrize("kind", ["tensor", "file"])
def test_the_size_of_a_long_style_is_limited_before_it_is_resized(kind, tmp_path):
    style = torch.rand(1, 3, 1, 5000)
    if kind == "file":
        adain.to_image(style).save(tmp_path / "long.png")
        style = tmp_path / "long.png"
    image = style_encoding.style_image(style, 1024, None, ReadOptions(max_pixels=4 * 1024**2))
    assert image.shape == (1, 3, 28, 140_000)


@pytest.mark.parametrize("style_size", ["big", "64"])
def test_a_style_size_of_another_word_is_refused(style_size):
    with pytest.raises(ValueError, match=f"style_size must be content or at least 1 pixel, got {style_size}"):
        adain.stylize(torch.rand(3, 8, 8), torch.rand(3, 8, 8), "adain-lite", style_size=style_size)


def test_batches_of_other_lengths_do_not_exchange_their_colors(lite):
    contents, styles = torch.rand(2, 3, 16, 16), torch.rand(3, 3, 16, 16)
    with pytest.raises(ValueError, match=r"Expected 1 image or 2 .*, got a batch of 3"):
        adain.stylize(contents, styles, lite, color="coral")
    assert adain.stylize(contents, styles[:2], lite, color="coral").shape == (2, 3, 16, 16)
    assert adain.stylize(contents, styles[0], lite, color="coral").shape == (2, 3, 16, 16)


@pytest.mark.parametrize("shape", [(1, 3, 0, 5), (0, 3, 5, 5)])
def test_empty_tensors_are_refused(shape):
    ready = adain.prepare("adain-lite", "cpu", "fp32")
    with pytest.raises(ValueError, match=r"Expected a floating-point image .* with pixels, got \("):
        adain.stylize(torch.zeros(shape), torch.rand(1, 3, 8, 8), ready)


@pytest.mark.parametrize("factor", [255, float("nan")])
def test_tensors_outside_of_zero_to_one_are_refused(factor):
    ready, image = adain.prepare("adain-lite", "cpu", "fp32"), torch.rand(1, 3, 32, 32)
    for content, style in ((image * factor, image), (image, image * factor)):
        with pytest.raises(ValueError, match=r"Expected floating-point images in \[0, 1\], got values from"):
            adain.stylize(content, style, ready)


def test_codes_can_be_used_in_training_and_changed():
    ready = adain.prepare("adain", "cpu", "fp32")
    code = adain.encode_style(ready, torch.rand(1, 3, 32, 32))
    content = torch.rand(1, 3, 32, 32, requires_grad=True)
    ready.stylize(content, code).sum().backward()
    assert content.grad.abs().sum() > 0
    for tensor in code.values():
        tensor.mul_(0.5).requires_grad_()


def test_codes_of_other_methods_or_shapes_are_refused():
    content = torch.rand(1, 3, 32, 32)
    adain_code = adain.encode_style(adain.prepare("adain", "cpu", "fp32"), content)
    lite = adain.prepare("adain-lite", "cpu", "fp32")
    with pytest.raises(
        ValueError, match="Expected code in the style code, got mean, std; encode the style with adain-li"
    ):
        adain.stylize(content, adain_code, lite)
    narrow = {name: tensor[:, :5] for name, tensor in adain.encode_style(lite, content).items()}
    with pytest.raises(ValueError, match=r"Expected code of shape \(B, \d+\), got \(1, 5\)"):
        adain.stylize(content, narrow, lite)


def test_batches_of_styles_fit_to_the_contents_or_are_refused():
    ready, contents, styles = (
        adain.prepare("adain-lite", "cpu", "fp32"),
        torch.rand(2, 3, 32, 32),
        torch.rand(3, 3, 32, 32),
    )
    batch = adain.stylize(contents, styles[:2], ready)
    torch.testing.assert_close(batch[1:], adain.stylize(contents[1:], styles[1:2], ready), atol=1e-4, rtol=0)
    mixed = adain.encode_style(ready, [styles[:2], styles[2:]])
    alone = adain.encode_style(ready, [styles[1:2], styles[2:]])
    torch.testing.assert_close(mixed["code"][1:], alone["code"], atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="Expected 1 style or 2, one for each content, got a batch of 3"):
        adain.stylize(contents, styles, ready)
    with pytest.raises(
        ValueError, match=r"Expected batches of styles of one size, or single styles, to mix, got \[2, 3\]"
    ):
        adain.encode_style(ready, [styles[:2], styles])


def test_numbers_of_numpy_and_torch():
    ready, image = adain.prepare("adain-lite", "cpu", "fp32"), torch.rand(2, 3, 64, 64)
    styles = [image[:1], image[1:]]
    expected = adain.stylize(image[:1], styles, ready, alpha=[0.5, 1], style_weight=[0.25, 0.5], work_size=64)
    for array in (np.array, torch.tensor):
        options = {"alpha": array([0.5, 1]), "style_weight": array([0.25, 0.5]), "work_size": np.int64(64)}
        assert torch.equal(adain.stylize(image[:1], styles, ready, **options), expected)
    assert torch.equal(
        adain.stylize(image[:1], styles, ready, alpha=torch.tensor(0.5)),
        adain.stylize(image[:1], styles, ready, alpha=0.5),
    )


@pytest.mark.parametrize("ready", MIXING, indirect=True)
def test_a_style_brought_to_the_size_of_the_content(ready, make_picture):
    content, style = make_picture("c.png", (50, 36), 1), make_picture("s.png", (90, 70), 2)
    expected = adain.stylize(content, style, ready, size=24, style_size=24)
    assert torch.equal(adain.stylize(content, style, ready, size=24, style_size="content"), expected)


@pytest.mark.parametrize("ready", [name for name in TRAINED if name in STYLED], indirect=True)
def test_the_style_distance_falls_as_alpha_rises(ready, examples):
    """On average over the example styles; for a single pair, a blend can be closer than the full strength."""
    content = reader.load_image(examples / "content" / "chelsea.png", 128)
    loss = PerceptualLoss()
    backbone = Backbone("vgg19", loss.layers)
    features = backbone(content)
    shares = []
    for path in listing.files(examples / "style"):
        style = reader.load_image(path, 128)
        code, target = adain.encode_style(ready, style), backbone(style)
        stylized = [adain.stylize(content, code, ready, alpha=alpha) for alpha in (0, 0.5, 1)]
        distances = [loss(backbone(image), features, target)["style"].item() for image in stylized]
        shares.append([distance / distances[0] for distance in distances])
    _, half, full = torch.tensor(shares).mean(0).tolist()
    assert full < 0.3 < half < 0.6


def test_files_images_and_tensors_give_the_same(ready, make_picture):
    path = make_picture(size=(24, 20))
    results = [stylize_image(one, path, ready) for one in (path, str(path), Image.open(path), reader.load_image(path))]
    assert all(torch.equal(results[0], other) for other in results)


@pytest.mark.parametrize("ready", MIXING, indirect=True)
def test_a_mixture_of_one_style_with_itself_is_that_style(ready, make_picture):
    path = make_picture()
    one, two = adain.encode_style(ready, path), adain.encode_style(ready, [path, path])
    for name in one:
        torch.testing.assert_close(one[name], two[name])


def test_half_precision_stays_close(examples, ready):
    content, style = examples / "content" / "chelsea.png", examples / "style" / "starry_night.jpg"
    expected = stylize_image(content, style, ready, size=64)
    name = next(name for name, kind in METHODS.items() if type(ready) is kind)
    rounded = stylize_image(content, style, adain.prepare(name, "cpu", "bf16", **QUICK.get(name, {})), size=64)
    assert rounded.dtype == torch.float32
    bound = 3 if name == "style-swap" else 1.2  # rounded features can have other patches as their nearest
    assert 0 < (rounded - expected).abs().mean() < bound / 255


def test_the_result_can_be_worked_on(ready):
    result = stylize_image(torch.rand(3, 16, 16), torch.rand(3, 16, 16), ready)
    result.mul_(0.5)
    assert not result.is_inference()


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_alpha_out_of_range(ready, alpha):
    with pytest.raises(ValueError, match="alpha must be between 0"):
        adain.stylize(torch.rand(3, 16, 16), torch.rand(3, 16, 16), ready, alpha=alpha)


@pytest.mark.parametrize("ready", STYLED, indirect=True)
def test_wrong_arguments(ready):
    with pytest.raises(ValueError, match="device tpu9 cannot be used here"):
        adain.prepare(device="tpu9")
    with pytest.raises(ValueError, match="choose from auto, fp32, bf16, fp16"):
        adain.prepare(precision="int4")
    with pytest.raises(ValueError, match=r"unknown method adian; choose from .*; did you mean adain"):
        adain.prepare("adian")
    with pytest.raises(ValueError, match="unknown option alpah; did you mean alpha"):
        adain.stylize(torch.rand(3, 16, 16), torch.rand(3, 16, 16), ready, alpah=0.5)
    with pytest.raises(ValueError, match="Expected a style, got none"):
        adain.encode_style(ready, [])
    with pytest.raises(ValueError, match="Expected a style, got none"):
        adain.stylize(torch.rand(3, 16, 16), method=ready)
    for wrong in (torch.rand(1, 4, 8, 8), torch.rand(8, 8), torch.zeros(3, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="Expected a floating-point image"):
            pipeline.stylize(wrong, torch.rand(3, 16, 16), ready)


def test_a_method_with_a_style_of_its_own_takes_no_other():
    ready, picture = adain.prepare("johnson", "cpu"), torch.rand(3, 16, 16)
    with pytest.raises(ValueError, match="leave out style, style_weight"):
        adain.stylize(picture, picture, ready, style_weight=[1])
    with pytest.raises(ValueError, match="leave out alpha"):
        adain.stylize(picture, method=ready, alpha=0.5)
    with pytest.raises(ValueError, match="leave out color"):
        adain.stylize(picture, method=ready, color="coral")
    with pytest.raises(ValueError, match="leave out style"):
        adain.encode_style(ready, picture)


def test_strengths_of_a_mixture_are_shares_of_it(make_picture):
    ready, content = adain.prepare("adain", "cpu", "fp32"), torch.rand(1, 3, 32, 32)
    paths = [make_picture(f"{seed}.png", seed=seed) for seed in (1, 2)]
    mixed = adain.stylize(content, paths, ready, alpha=[0.8, 0.2], style_weight=[1, 3], alpha_blend="features")
    features = ready.encoder(content)["relu4_1"]
    parts = [normalization.adain(features, *adain.encode_style(ready, path).values()) for path in paths]
    expected = 0.25 * features.lerp(parts[0], 0.8) + 0.75 * features.lerp(parts[1], 0.2)
    torch.testing.assert_close(mixed, ready.decoder(expected).clamp(0, 1), atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="one alpha for all styles or one for each, got 3 for 2 styles"):
        adain.stylize(content, paths, ready, alpha=[1, 0, 1])


def test_regions_with_a_style_and_a_strength_each(make_picture):
    ready, content = adain.prepare("adain-lite", "cpu", "fp32"), torch.rand(1, 3, 32, 48)
    paths = [make_picture(f"{seed}.png", seed=seed) for seed in (1, 2)]
    left = torch.zeros(1, 16, 24)
    left[..., :12] = 1
    stylized = adain.stylize(content, paths, ready, alpha=[1, 0.5], mask=[left, 1 - left])
    whole = [adain.stylize(content, path, ready, alpha=alpha) for path, alpha in zip(paths, (1, 0.5), strict=True)]
    torch.testing.assert_close(stylized[..., :23], whole[0][..., :23])
    torch.testing.assert_close(stylized[..., 25:], whole[1][..., 25:])
    rest = adain.stylize(content, paths, ready, alpha=[0.5, 1], mask=[left])
    assert torch.equal(rest, adain.stylize(content, paths[::-1], ready, alpha=[1, 0.5], mask=[left, 1 - left]))
    for masks, message in (
        ([left] * 3, "Expected 2 masks .* and no style weights, got 3"),
        ([], "Expected 2 masks .* and no style weights, got 0"),
        ([left, left * 0], "black everywhere"),
        ([left, torch.ones(1, 8, 90)], "Expected a mask of the aspect ratio"),
    ):
        with pytest.raises(ValueError, match=message):
            adain.stylize(content, paths, ready, mask=masks)


def test_gatys_compares_each_region_with_its_own_style(make_picture):
    gray = reader.load_image(make_picture(size=(48, 48))).mean(1, keepdim=True).expand(1, 3, 48, 48)
    styles = [gray * torch.tensor(tint).view(3, 1, 1) for tint in ([1, 0.2, 0.2], [0.2, 0.2, 1])]
    left = torch.zeros(1, 48, 48)
    left[..., :24] = 1
    ready = adain.prepare("gatys", "cpu", "fp32", steps=12, style_layers=["relu1_1", "relu2_1"])
    stylized = adain.stylize(gray, styles, ready, mask=[left, 1 - left])
    red, blue = stylized.mean(2)[0, [0, 2]]
    warmth = red - blue
    assert warmth[:20].mean() > 0.01 > -0.01 > warmth[28:].mean()
    half = adain.stylize(gray, styles[:1], ready, mask=[left])
    assert torch.equal(half[..., 24:], gray[..., 24:])


def test_gatys_takes_one_style_for_each_mask():
    ready, content = adain.prepare("gatys", "cpu", "fp32", steps=2), torch.rand(1, 3, 32, 32)
    styles, masks = [torch.rand(2, 3, 32, 32), torch.rand(3, 32, 32)], [torch.ones(1, 32, 32)] * 2
    for contents in (content, content.expand(2, -1, -1, -1)):
        with pytest.raises(ValueError, match="Expected 1 style, got a batch of 2"):
            adain.stylize(contents, styles, ready, mask=masks)


def test_gatys_gives_each_region_its_own_strength(make_picture):
    content, style = (reader.load_image(make_picture(size=(48, 48), seed=seed)) for seed in (1, 2))
    left = torch.zeros(1, 48, 48)
    left[..., :24] = 1
    ready = adain.prepare("gatys", "cpu", "fp32", steps=3, style_layers=["relu1_1"], precondition=0.0)
    changes = {}
    for alpha in ((0, 0), (0, 1), (1, 0)):
        stylized = adain.stylize(content, [style, style], ready, mask=[left, 1 - left], alpha=alpha)
        changes[alpha] = [part.abs().mean().item() for part in (stylized - content).split(24, dim=3)]
    assert max(changes[0, 0]) < 1e-4, "both targets are the content's own statistics"
    assert changes[0, 1][1] > 5 * changes[0, 1][0]
    assert changes[1, 0][0] > 5 * changes[1, 0][1]


def test_guided_masks_keep_to_their_place_and_picture():
    mask = torch.zeros(1, 1, 41, 41, dtype=torch.uint8)
    mask[..., :20] = 255
    method = METHODS["gatys"](steps=2, style_layers=["relu1_1"])
    codes = [method.encode_style(torch.rand(1, 3, 32, 32)) for _ in range(2)]
    code, contents = method.guide(codes, [1.0, 1.0], [mask, 255 - mask]), torch.rand(2, 3, 48, 48)
    together = method.stylize(contents, code)
    torch.testing.assert_close(together[1:], method.stylize(contents[1:], code), atol=1e-4, rtol=0)
    padded = torch.nn.functional.pad(mask, (0, 7, 0, 7))
    regions = method.objective.region_factors(method.backbone(contents[:1]), padded)
    assert (regions["relu1_1"][..., 20:] == 0).all()


def test_settings_that_would_do_nothing_are_refused():
    pictures = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 32, 32)
    for wrong, message in (
        ({"feather": 3}, "Expected a mask with feather"),
        ({"feather": float("nan"), "mask": torch.ones(1, 1, 32, 32)}, "at least 0 pixels and finite, got nan"),
        ({"feather": float("inf"), "mask": torch.ones(1, 1, 32, 32)}, "at least 0 pixels and finite, got inf"),
        ({"tile": 0}, "tile must be at least 1 pixel"),
    ):
        with pytest.raises(ValueError, match=message):
            adain.stylize(*pictures, "adain-lite", device="cpu", **wrong)


def test_colors_of_a_batch():
    contents, style = torch.rand(2, 3, 32, 32), torch.rand(1, 3, 32, 32)
    ready = adain.prepare("adain-lite", "cpu", "fp32")
    together = adain.stylize(contents, style, ready, color="coral")
    one = adain.stylize(contents[1:], style, ready, color="coral")
    torch.testing.assert_close(together[1:], one, atol=1e-4, rtol=0)


def test_colors(make_picture):
    content, style = make_picture("c.png", (48, 40), 1), make_picture("s.png", (48, 40), 2)
    ready = adain.prepare("adain-lite", "cpu", "fp32")
    plain = adain.stylize(content, style, ready)
    kept = adain.stylize(content, style, ready, color="keep-luminance")
    expected = colors.keep_luminance(plain, reader.load_image(content)).clamp(0, 1)
    torch.testing.assert_close(kept, expected)
    recolored = colors.match_colors(reader.load_image(style), reader.load_picture(content))
    torch.testing.assert_close(
        adain.stylize(content, style, ready, color="coral"), adain.stylize(content, recolored, ready)
    )
    with pytest.raises(ValueError, match="unknown color gray; choose from style, keep-luminance, coral"):
        adain.stylize(content, style, ready, color="gray")


def test_photorealism_keeps_more_of_the_structure(examples):
    content = reader.load_image(examples / "content" / "chelsea.png", 128)
    ready = adain.prepare("adain-lite", "cpu", "fp32")
    plain, smooth = (
        adain.stylize(content, examples / "style" / "starry_night.jpg", ready, photorealistic=one)
        for one in (False, True)
    )
    assert metrics.ssim(smooth, content) > metrics.ssim(plain, content) + 0.05
    assert (smooth.mean((2, 3)) - plain.mean((2, 3))).abs().max() < 0.02


def test_a_style_kept_as_a_file(make_picture, tmp_path):
    content, style = make_picture("c.png", seed=1), make_picture("s.png", seed=2)
    ready, file = adain.prepare("adain-lite", "cpu", "fp32"), tmp_path / "code.safetensors"
    style_codes.save_code(adain.encode_style(ready, style), ready, file)
    assert file.stat().st_size < 4096
    torch.testing.assert_close(adain.stylize(content, file, ready), adain.stylize(content, style, ready))
    mixed = adain.stylize(content, [file, content], ready)
    torch.testing.assert_close(mixed, adain.stylize(content, [style, content], ready))
    adain.stylize(content, file, adain.prepare("adain-lite", "cpu", "bf16"))
    with pytest.raises(ValueError, match="was encoded by adain-lite with other weights"):
        adain.stylize(content, file, "adain", device="cpu")
    with pytest.raises(ValueError, match="whose size and colors are fixed"):
        adain.stylize(content, file, ready, color="coral")
    with pytest.raises(ValueError, match="holds no style code"):
        adain.stylize(content, weights.embedded("adain-lite"), ready)


def test_a_code_of_gatys_fits_other_optimizations_but_no_other_features(tmp_path):
    settings = {"weights": "random", "style_layers": ("relu1_1",), "content_layers": ("relu1_1",)}
    encoder, file = Gatys(**settings), tmp_path / "code.safetensors"
    code = adain.encode_style(encoder, torch.rand(1, 3, 32, 32))
    style_codes.save_code(code, encoder, file)
    loaded = style_codes.load_code(file, Gatys(**settings, steps=10, lr=0.5, seed=3, style_weight=7.0))
    assert all(torch.equal(loaded[name], value) for name, value in code.items())
    for changed in ({"pooling": "average"}, {"padding": "zeros"}, {"init": "style"}, {"coarsest": 0}):
        with pytest.raises(ValueError, match="was encoded by gatys with other weights or settings"):
            style_codes.load_code(file, Gatys(**settings | changed))


def test_a_photo_comes_back_as_one(make_picture):
    photo = reader.load(make_picture())
    ready = adain.prepare("adain-lite", "cpu", "fp32")
    stylized = adain.stylize(photo, make_picture("s.png", seed=2), ready)
    assert stylized.pixels.dtype == torch.uint8
    assert stylized.pixels.shape == photo.pixels.shape
    assert stylized.exif is photo.exif
    with pytest.raises(ValueError, match="Expected no size with a Photo"):
        adain.stylize(photo, make_picture(), ready, size=20)


@pytest.mark.parametrize("name", [name for name, kind in METHODS.items() if kind.bf16_safe and kind.trained])
def test_bfloat16_is_chosen_where_it_stays_close(name, examples, monkeypatch):
    content, style = examples / "content" / "coffee.png", examples / "style" / "starry_night.jpg"
    pictures = []
    for fast in (False, True):
        monkeypatch.setattr(preparation, "fast_half", lambda device, fast=fast: "bf16" if fast else None)
        ready = adain.prepare(name, "cpu")
        assert ready.dtype == (torch.bfloat16 if fast else torch.float32)
        pictures.append(adain.stylize(content, style, ready, size=48, style_size=48))
    assert (pictures[0] - pictures[1]).abs().mean() < 1 / 255


def test_swapped_patches_cannot_be_mixed(make_picture):
    with pytest.raises(ValueError, match="StyleSwap cannot mix styles: expected 1 style, got 2"):
        adain.encode_style(adain.prepare("style-swap", "cpu"), [make_picture()] * 2)


@pytest.mark.parametrize("ready", MIXING, indirect=True)
def test_styles_are_mixed_by_their_weights(ready, make_picture):
    paths = [make_picture(f"{seed}.png", seed=seed) for seed in (1, 2)]
    one, two = (adain.encode_style(ready, path) for path in paths)
    mixed = adain.encode_style(ready, paths, style_weight=[3, 1])
    for name in mixed:
        torch.testing.assert_close(mixed[name], 0.75 * one[name] + 0.25 * two[name])
    for wrong in ([1], [1, -1], [0, 0], [1, float("nan")]):
        with pytest.raises(ValueError, match="style weight"):
            adain.encode_style(ready, paths, style_weight=wrong)


def test_a_long_reason_is_cut_between_words(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("unsupported " * 20)

    monkeypatch.setattr(torch, "empty", fails)
    with pytest.raises(ValueError, match=r"device far cannot be used here \((unsupported )+\.\.\.\); choose auto"):
        adain.prepare("adain-lite", "far")


def test_a_device_that_fails_without_a_reason(monkeypatch):
    def fails(*_, **__):
        raise RuntimeError

    monkeypatch.setattr(torch, "empty", fails)
    with pytest.raises(ValueError, match=r"device far cannot be used here \(RuntimeError\); choose auto"):
        adain.prepare("adain-lite", "far")


def test_a_method_is_prepared_once(lite):
    assert preparation.prepare_once(lite) is lite
    assert preparation.prepare_once("adain-lite", "cpu", "bf16").dtype == torch.bfloat16
    with pytest.raises(ValueError, match="Expected no settings with a method that is already built, got steps"):
        preparation.prepare_once(lite, steps=2)


def test_a_method_already_built_is_copied_and_evaluated():
    built = AdaIN(norm="batch").train()
    before = {name: value.clone() for name, value in built.state_dict().items()}
    statistics = [name for name in before if name.endswith(("running_mean", "running_var"))]
    assert statistics
    ready = adain.prepare(built, "cpu", "bf16")
    adain.stylize(torch.rand(1, 3, 40, 48), torch.rand(3, 32, 32), ready)
    assert built.training
    assert not any(module.training for module in ready.modules())
    assert {value.dtype for value in ready.state_dict().values()} >= {torch.bfloat16}
    for name, value in built.state_dict().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value, before[name]), name
    for name in statistics:
        torch.testing.assert_close(ready.state_dict()[name], before[name].bfloat16())


def test_the_copy_of_a_method_calls_the_same_callback():
    steps = []

    class Callback:
        def __call__(self, progress):
            steps.append(progress.step)

    built = Gatys(steps=2, callback=Callback())
    ready = adain.prepare(built, "cpu", "fp32")
    assert ready.callback is built.callback
    adain.stylize(torch.rand(1, 3, 32, 32), torch.rand(3, 32, 32), ready)
    assert steps == [1, 2]
