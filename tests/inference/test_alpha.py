"""Alpha below 1: from the photo, over blended features, to the style."""

import itertools

import pytest
import torch
from PIL import Image

import adain
from adain.functional import normalization
from adain.imaging import reader, writer
from adain.imaging.photo import Photo
from adain.inference import masks, preparation
from adain.inference.options import ALPHA_BLENDS
from adain.methods import METHODS, EncoderDecoder, style_codes
from tests.conftest import QUICK, exit_code
from tests.inference.test_tiling import picture

BLENDING = [name for name, kind in METHODS.items() if issubclass(kind, EncoderDecoder)]
TILING = ["adain", "adain-lite", "wct"]


@pytest.fixture(params=BLENDING, scope="module")
def ready(request):
    return preparation.prepare(request.param, "cpu", "fp32")


def distances(pictures, content):
    return [(one - content).abs().mean().item() for one in pictures]


def test_every_method_of_one_pass_with_an_alpha_starts_at_the_photo():
    assert set(BLENDING) == {name for name, kind in METHODS.items() if kind.takes_style and not kind.iterative}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_alpha_zero_is_the_photo(ready, precision, make_picture):
    method = ready if precision == "fp32" else preparation.prepare(ready.name, "cpu", precision)
    photo, style = reader.load(make_picture(size=(20, 17))), make_picture("style.png", (16, 16), seed=1)
    assert torch.equal(adain.stylize(photo, style, method, alpha=0).pixels, photo.pixels)

    def apart(**options):
        found = adain.stylize(photo, style, method, **options).pixels
        return (found.float() - photo.pixels.float()).abs().mean()

    def of_the_network(method):
        return adain.stylize(photo, style, method, alpha=0.001, alpha_blend="features").pixels.float()

    rounding = (of_the_network(method) - of_the_network(ready)).abs().mean()
    assert apart(alpha=0.001) < 1 + 2 * rounding, "nor does it jump: a result differs by the rounding of two passes"
    assert precision == "bf16" or apart(alpha=0, alpha_blend="features") > 5, "the network alone does not rebuild it"


def test_alpha_zero_is_the_float_photo_to_the_last_bit(ready):
    content = picture(33, 47)
    for options in ({}, {"color": "keep-luminance"}, {"color": "coral"}, {"photorealistic": True}):
        assert torch.equal(adain.stylize(content, picture(40, 40, 1), ready, alpha=0, **options), content), options


def test_at_full_strength_nothing_is_rebuilt(ready, monkeypatch):
    content, code = picture(48, 64), adain.encode_style(ready, picture(40, 40, 1))
    with torch.inference_mode():
        encoded = ready.encode_content(content.contiguous(memory_format=torch.channels_last), blend=False)
        expected = ready.decode(encoded, code).clamp(0, 1)
    assert not encoded.code
    assert ready.code_shapes
    monkeypatch.setattr(type(ready), "rebuild", None)
    monkeypatch.setattr(type(ready), "encode_style", None)
    assert torch.equal(adain.stylize(content, code, ready), expected)
    assert torch.equal(adain.stylize(content, code, ready, alpha_blend="features"), expected)
    with pytest.raises(TypeError, match="NoneType"):
        adain.stylize(content, code, ready, alpha=0.9)


def test_rebuilding_is_decoding_at_alpha_zero(ready):
    content, code = picture(32, 40), ready.encode_style(picture(40, 32, 1))
    encoded = ready.encode_content(content)
    rebuilt = ready.rebuild(encoded)
    assert torch.equal(rebuilt, ready.decode(encoded, code, 0.0))
    assert torch.equal(rebuilt, ready.decode(encoded, code, torch.zeros(1)))
    assert torch.equal(rebuilt, ready.stylize(content, code, 0.0))


@pytest.mark.parametrize("options", [{}, {"color": "coral"}], ids=str)
def test_what_the_network_loses_is_added_back_in_proportion(ready, options):
    content, style = picture(32, 40), picture(32, 32, 1)

    def call(alpha, alpha_blend="features"):
        return adain.stylize(content, style, ready, alpha=alpha, alpha_blend=alpha_blend, **options)

    rebuilt = call(0)
    for alpha in (0.3, 0.8):
        stylized, found = call(alpha), call(alpha, "residual")
        expected = (stylized + (1 - alpha) * (content - rebuilt)).clamp(0, 1)
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def test_the_distance_from_the_photo_rises_with_alpha(ready, examples):
    content = reader.load_image(examples / "content" / "chelsea.png", 64)
    code = adain.encode_style(ready, examples / "style" / "starry_night.jpg", 64)
    found = distances([adain.stylize(content, code, ready, alpha=i / 8) for i in range(9)], content)
    assert found[0] == 0
    assert all(b > a + 0.004 for a, b in itertools.pairwise(found)), found


def test_the_photo_is_encoded_once(ready, monkeypatch):
    content, codes = picture(40, 64), [adain.encode_style(ready, picture(40, 40, seed)) for seed in (1, 2)]
    counts, encode = [], type(ready).encode_content
    monkeypatch.setattr(type(ready), "encode_content", lambda *args: counts.append(1) or encode(*args))
    left = torch.zeros(1, 40, 64)
    left[..., :32] = 1
    adain.stylize(content, codes, ready, alpha=[0.5, 0.2], mask=[left, 1 - left])
    assert counts == [1]


@pytest.mark.parametrize("name", TILING)
@pytest.mark.parametrize("masked", [False, True])
def test_tiles_are_the_whole(name, masked):
    method, content, styles = preparation.prepare(name, "cpu", "fp32"), picture(40, 130), [picture(40, 48, 1)]
    options = {"alpha": 0.4, "color": "keep-luminance", "photorealistic": True}
    if masked:
        left = torch.zeros(1, 40, 130)
        left[..., :40] = 1
        options |= {"alpha": [1, 0.3], "mask": [left, left.flip(2)], "feather": 4}
        styles = [*styles, picture(48, 40, 2)]
    whole, tiled = (adain.stylize(content, styles, method, tile=tile, **options) for tile in (None, 48))
    torch.testing.assert_close(tiled, whole, atol=1e-4, rtol=0)
    plain = adain.stylize(content, styles, method, **options, alpha_blend="features")
    assert (plain - whole).abs().mean() > 0.01


def test_a_region_at_alpha_zero_stays_the_photo(ready):
    content, styles = picture(48, 96), [picture(40, 40, seed) for seed in (1, 2)]
    left = torch.zeros(1, 48, 96)
    left[..., :48] = 1
    result = adain.stylize(content, styles, ready, alpha=[0.9, 0], mask=[left, 1 - left], feather=3)
    assert torch.equal(result[..., 64:], content[..., 64:])
    one = adain.stylize(content, styles[0], ready, alpha=0.9)
    torch.testing.assert_close(result[..., :32], one[..., :32], atol=1e-5, rtol=0)


def test_the_feather_blends_alpha_as_it_blends_the_results(ready):
    content, styles = picture(48, 96), [picture(40, 40, seed) for seed in (1, 2)]
    left = torch.zeros(1, 48, 96)
    left[..., :48] = 1
    alphas = 0.8, 0.4
    result = adain.stylize(content, styles, ready, alpha=alphas, mask=[left, 1 - left], feather=6)
    shares = [masks.load_mask(mask, content, 6, reader.ReadOptions()).float() / 255 for mask in (left, 1 - left)]
    assert 20 < ((shares[0] > 0.02) & (shares[0] < 0.98))[0, 0, 0].sum() < 40
    total = sum(shares)
    alpha = sum(share / total * one for share, one in zip(shares, alphas, strict=True))
    plain = [
        adain.stylize(content, style, ready, alpha=one, alpha_blend="features")
        for style, one in zip(styles, alphas, strict=True)
    ]
    rebuilt = adain.stylize(content, styles[0], ready, alpha=0, alpha_blend="features")
    stylized = sum(share / total * one for share, one in zip(shares, plain, strict=True))
    expected = (stylized + (1 - alpha) * (content - rebuilt)).clamp(0, 1)
    # Both masks round to 255 apart, so that they cover a little less than all.
    torch.testing.assert_close(result, content.lerp(expected, total.clamp(max=1)), atol=1e-4, rtol=0)


def test_what_no_mask_covers_stays_the_photo(ready):
    content, mask = picture(40, 64), torch.zeros(1, 40, 64)
    mask[..., :32] = 1
    result = adain.stylize(content, picture(40, 40, 1), ready, alpha=0.5, mask=mask)
    assert torch.equal(result[..., 32:], content[..., 32:])
    assert (result[..., :32] - content[..., :32]).abs().mean() > 0.01


@pytest.mark.parametrize("ready", [name for name in BLENDING if METHODS[name].supports_mixing], indirect=True)
def test_a_mixture_has_one_alpha(ready):
    content, styles = picture(40, 48), [picture(40, 40, seed) for seed in (1, 2)]

    def call(alpha_blend="features", **options):
        return adain.stylize(content, styles, ready, style_weight=[1, 3], alpha_blend=alpha_blend, **options)

    assert torch.equal(call("residual", alpha=[0, 0]), content)
    alpha = 0.25 * 0.8 + 0.75 * 0.4
    rebuilt = adain.stylize(content, styles[0], ready, alpha=0, alpha_blend="features")
    expected = call(alpha=[0.8, 0.4]) + (1 - alpha) * (content - rebuilt)
    torch.testing.assert_close(call("residual", alpha=[0.8, 0.4]), expected.clamp(0, 1), atol=1e-5, rtol=0)


def test_size_transparency_and_saved_styles(lite, tmp_path, make_picture):
    with Image.open(make_picture(size=(60, 44))) as image:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
        image.save(tmp_path / "clear.png")
    style = make_picture("style.png", seed=1)
    style_codes.save_code(adain.encode_style(lite, style), lite, tmp_path / "code.safetensors")
    photo = reader.load(tmp_path / "clear.png", 32)
    for given in (style, tmp_path / "code.safetensors"):
        kept = adain.stylize(photo, given, lite, alpha=0)
        assert torch.equal(kept.pixels, photo.pixels) and torch.equal(kept.alpha, photo.alpha)
    by_code, by_picture = (
        adain.stylize(photo, one, lite, alpha=0.5).pixels.float() for one in (tmp_path / "code.safetensors", style)
    )
    assert (by_code - by_picture).abs().max() <= 1
    small = adain.stylize(tmp_path / "clear.png", style, lite, alpha=0, size=32)
    assert torch.equal(small, reader.load_image(tmp_path / "clear.png", 32))
    for name, tolerance in (("out.png", 1 / 255), ("out.jpg", 0.2)):
        writer.save(kept.pixels, tmp_path / name, kept)
        difference = (reader.load_image(tmp_path / name) - small).abs()
        assert difference.max() <= tolerance + 1e-6 and difference.mean() <= 0.05, name


def test_sixteen_bits_a_channel(lite):
    pixels = (picture(40, 48) * 65535).round().to(torch.uint16)
    kept = adain.stylize(Photo(pixels), picture(40, 40, 1), lite, alpha=0)
    assert torch.equal(kept.pixels.int(), pixels.int())


def test_a_saved_style_code_serves_half_precision(lite):
    method, content = preparation.prepare("adain-lite", "cpu", "bf16"), picture(40, 48)
    code = adain.encode_style(lite, picture(40, 40, 1))  # in float32, as files are
    expected = adain.stylize(content, code, lite, alpha=0.6)
    assert (adain.stylize(content, code, method, alpha=0.6) - expected).abs().mean() < 0.02


def test_adding_a_residual_is_exact_at_both_ends():
    stylized, rebuilt, content = torch.rand(3, 2, 3, 9, 9)
    assert torch.equal(normalization.add_residual(rebuilt, rebuilt, content, 1.0), content)
    assert torch.equal(normalization.add_residual(rebuilt, rebuilt, content, torch.ones(2, 1, 1, 1)), content)
    torch.testing.assert_close(normalization.add_residual(stylized, rebuilt, content, 0.0), stylized)
    expected = stylized + 0.3 * (content - rebuilt)
    torch.testing.assert_close(normalization.add_residual(stylized, rebuilt, content, 0.3), expected)


def test_methods_whose_alpha_blends_no_features():
    content, style = picture(32, 32), picture(32, 32, 1)
    for name in ("johnson", "gatys"):
        assert not isinstance(METHODS[name](**QUICK.get(name, {})), EncoderDecoder)
    found = [
        adain.stylize(content, style, "gatys", device="cpu", alpha=0.5, alpha_blend=one, **QUICK["gatys"])
        for one in ALPHA_BLENDS
    ]
    assert torch.equal(*found)
    with pytest.raises(ValueError, match="leave out alpha_blend"):
        adain.stylize(content, method="johnson", device="cpu", alpha_blend="features")


def test_wrong_choices_are_one_line(lite, make_picture, tmp_path, capsys):
    with pytest.raises(ValueError, match="unknown alpha_blend linear; choose from residual, features"):
        adain.stylize(picture(32, 32), picture(32, 32, 1), lite, alpha_blend="linear")
    words = "--content", make_picture(), "--style", make_picture("s.png"), "--output", tmp_path / "out.png"
    assert exit_code("stylize", *words, "--alpha-blend", "linear") == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out.png").exists()


def test_on_the_command_line(make_picture, tmp_path):
    photo, style = make_picture(), make_picture("s.png", seed=1)
    words = "--content", photo, "--style", style, "--method", "adain-lite", "--alpha", "0", "--quiet"
    results = {}
    for blend in ALPHA_BLENDS:
        assert exit_code("stylize", *words, "--alpha-blend", blend, "--output", tmp_path / f"{blend}.png") == 0
        results[blend] = reader.load_image(tmp_path / f"{blend}.png")
    assert exit_code("stylize", *words, "--output", tmp_path / "default.png") == 0
    content = reader.load_image(photo)
    assert torch.equal(reader.load_image(tmp_path / "default.png"), content)
    assert torch.equal(results["residual"], content)
    assert not torch.equal(results["features"], content)
