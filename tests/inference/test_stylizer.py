import numpy as np
import pytest
import torch
from PIL import Image

import adain
from adain.imaging import reader
from adain.imaging.photo import array_to_tensor
from adain.inference import pipeline

LITE = {"method": "adain-lite", "device": "cpu"}


@pytest.fixture
def paths(make_picture):
    return make_picture("photo.png"), make_picture("a.png", seed=1), make_picture("b.png", (40, 48), seed=2)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"alpha": 0.5},
        {"style_size": 32},
        {"style_size": "content"},
        {"color": "coral"},
        {"color": "keep-luminance", "size": 30},
        {"style_weight": [1, 3]},
        {"alpha": [1, 0.2]},
        {"mask": [np.eye(40, 48) > 0, np.eye(40, 48) == 0]},
    ],
    ids=str,
)
def test_results_are_those_of_stylize(paths, lite, changes):
    photo, *styles = paths
    stylizer = adain.Stylizer(styles, lite)
    expected = adain.to_image(adain.stylize(photo, styles, lite, **changes))
    assert stylizer(photo, **changes).tobytes() == expected.tobytes()


def test_each_style_is_encoded_once_and_a_call_may_name_its_own(paths, lite, monkeypatch):
    photo, style, other = paths
    encoded = []
    encode = type(lite).encode_style
    monkeypatch.setattr(type(lite), "encode_style", lambda *args: encoded.append(args) or encode(*args))
    stylizer = adain.Stylizer(style, lite, alpha=0.7)
    results = [stylizer(photo), stylizer(photo, alpha=0.7), stylizer(photo, size=32)]
    styles = [args for args in encoded if len(args) == 2]  # those of contents, for alpha, have a statistics_fn
    assert len(styles) == 1
    assert results[0].tobytes() == results[1].tobytes()
    assert results[2].size == (38, 32)
    alone = adain.Stylizer(method=lite, alpha=0.7)
    assert stylizer(photo, other).tobytes() == alone(photo, other).tobytes() != results[0].tobytes()


def test_results_display_themselves(paths, lite):
    result = adain.Stylizer(paths[1], lite)(paths[0])
    assert isinstance(result, Image.Image)
    assert result._repr_png_().startswith(b"\x89PNG")


def test_methods_with_a_style_of_their_own_and_with_settings(paths):
    photo, style, _ = paths
    assert adain.Stylizer(method="johnson", device="cpu")(photo).size == (48, 40)
    with pytest.raises(ValueError, match="one built-in style"):
        adain.Stylizer(style, "johnson", device="cpu")
    assert adain.Stylizer(style, "gatys", device="cpu", steps=3).method.arguments["steps"] == 3
    with pytest.raises(ValueError, match="Expected options of StyleOptions, got steps; give settings to Stylizer"):
        adain.Stylizer(style, **LITE)(photo, steps=3)


def test_unknown_options_are_named_with_a_similar_one(paths, lite):
    photo, style, _ = paths
    stylizer = adain.Stylizer(style, lite)
    for call in (
        lambda: stylizer(photo, alhpa=0.5),
        lambda: adain.Stylizer(style, lite, alhpa=0.5),
        lambda: adain.Stylizer(style, **LITE, alhpa=0.5),
        lambda: adain.stylize(photo, style, lite, alhpa=0.5),
        lambda: adain.stylize(photo, style, **LITE, alhpa=0.5),
    ):
        with pytest.raises(ValueError, match=r"^unknown option alhpa; did you mean alpha\?$"):
            call()
    with pytest.raises(ValueError, match=r"^unknown option devise; did you mean device\?$"):
        adain.stylize(photo, style, lite, devise="cpu")
    with pytest.raises(ValueError, match=r"^unknown option setps; did you mean steps\?$"):
        adain.stylize(photo, style, "gatys", device="cpu", setps=3)
    with pytest.raises(ValueError, match=r"^unknown option patch$"):
        adain.stylize(photo, style, "gatys", device="cpu", patch=3)
    with pytest.raises(ValueError, match="already built, got steps"):
        adain.stylize(photo, style, lite, steps=3)
    assert adain.stylize(photo, style, "gatys", device="cpu", size=16, steps=10).shape == (1, 3, 16, 19)


def test_what_is_no_image_is_a_type_error(paths, lite):
    photo, style, _ = paths
    expected = "^Expected an image as a path, a Pillow image, an array, or a tensor, got "
    stylizer = adain.Stylizer(style, lite)
    with pytest.raises(TypeError, match=f"{expected}int$"):
        stylizer(5)
    with pytest.raises(TypeError, match=f"{expected}Photo$"):
        stylizer(reader.load(photo))
    with pytest.raises(TypeError, match=f"{expected}int$"):
        adain.stylize(photo, 5, lite)
    with pytest.raises(TypeError, match=f"{expected}float$"):
        adain.stylize(photo, style, lite, mask=0.5)


def test_arrays_are_images(paths, lite):
    photo, style, _ = (np.asarray(Image.open(path)) for path in paths)
    expected = adain.stylize(paths[0], paths[1], lite)
    for content in (photo, photo / 255, (photo / 255).astype(np.float32), photo.astype(np.uint16) * 257):
        assert torch.allclose(adain.stylize(content, style, lite), expected, atol=1e-5)
    gray = photo[..., 0]
    assert torch.equal(adain.stylize(gray, style, lite), adain.stylize(gray[..., None].repeat(3, 2), style, lite))
    mask = np.zeros((40, 48), bool)
    mask[:20] = True
    masked = adain.stylize(photo, style, lite, mask=mask)
    assert torch.allclose(masked[..., 20:, :], array_to_tensor(photo)[..., 20:, :], atol=1e-2)


def test_transparency_is_over_white():
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = 255, 0, 0, 51
    assert torch.allclose(array_to_tensor(pixels)[0, :, 0, 0], torch.tensor([1, 0.8, 0.8]))
    assert (array_to_tensor(pixels)[0, :, 1] == 1).all()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 8, 8)), r"Expected an array \(H, W\), .* got \(3, 8, 8\)"),
        (np.zeros((1, 8, 8, 3)), "Expected an array"),
        (np.zeros((0, 8, 3)), "Expected an array"),
        (np.zeros((8, 8, 3), np.int64), "Expected an array of bool, uint8, uint16, or floating point, got int64"),
        (np.full((8, 8, 3), 255.0), r"in \[0, 1\], got 255 to 255; scale them"),
        (np.full((8, 8, 3), np.nan), "got nan to nan"),
    ],
    ids=str,
)
def test_other_arrays_are_refused(lite, array, message):
    with pytest.raises(ValueError, match=message):
        adain.stylize(array, torch.rand(3, 16, 16), lite)


def test_a_batch_is_refused_before_it_is_stylized(lite, monkeypatch):
    stylizer = adain.Stylizer(torch.rand(3, 32, 32), lite)
    assert stylizer(torch.rand(1, 3, 16, 16)).size == (16, 16)
    monkeypatch.setattr(pipeline, "_stylize_pixels", None)
    with pytest.raises(ValueError, match=r"Expected one image, got a batch of 2; use adain\.stylize for batches"):
        stylizer(torch.rand(2, 3, 16, 16))
