import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from adain import images


def test_a_png_survives_the_round_trip(tmp_path):
    picture = torch.randint(0, 256, (1, 3, 5, 7)).float() / 255
    images.save(picture, tmp_path / "a.png")
    torch.testing.assert_close(images.load_picture(tmp_path / "a.png"), picture)


FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".PNG": "PNG", ".tif": "TIFF", ".TIFF": "TIFF"}


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_suffix_chooses_the_format(tmp_path, suffix):
    images.save(torch.full((3, 16, 16), 0.5), tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.format == FORMATS[suffix]
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"], "no temporary file is left"


def test_values_outside_the_range_are_clamped_and_rounded(tmp_path):
    images.save(torch.tensor([-1.0, 0.5, 2.0]).view(1, 1, 3).expand(3, 1, 3), tmp_path / "a.png")
    assert np.asarray(Image.open(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 128, 255]


def grey(values, mode):
    return Image.fromarray(np.array([values], dtype={"I;16": np.uint16, "L": np.uint8}[mode]))


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (1, 1), 51), (51, 51, 51)),
        (Image.new("1", (1, 1), 1), (255, 255, 255)),
        (Image.new("RGBA", (1, 1), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (1, 1), (255, 0, 0, 255)), (255, 0, 0)),
        (Image.new("LA", (1, 1), (0, 0)), (255, 255, 255)),
        (Image.new("P", (1, 1), 0).convert("P"), (0, 0, 0)),
        (Image.new("CMYK", (1, 1), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("F", (1, 1), 0.2), (51, 51, 51)),
        (Image.new("I", (1, 1), 2**32 // 2 - 1), (128, 128, 128)),
        (grey([65535], "I;16"), (255, 255, 255)),
        (grey([32896], "I;16"), (128, 128, 128)),
        (Image.new("F", (1, 1), 51.0), (51, 51, 51)),
    ],
    ids=[
        "grey",
        "bilevel",
        "transparent",
        "opaque",
        "grey-alpha",
        "palette",
        "cmyk",
        "float-1",
        "32-bit",
        "16-bit-white",
        "16-bit-grey",
        "float-255",
    ],
)
def test_every_mode_becomes_rgb(image, expected):
    read = images.read(image)
    assert read.mode == "RGB"
    np.testing.assert_allclose(read.getpixel((0, 0)), expected, atol=1)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, orientation):
    turns = {2: 0, 3: 3, 4: 1, 5: 5, 6: 4, 7: 6, 8: 2}  # Pillow's transpositions that undo each orientation
    upright = Image.fromarray(np.arange(18, dtype=np.uint8).reshape(2, 3, 3) * 10)
    undo = Image.Transpose(turns[orientation]) if orientation > 1 else None
    inverse = {None: None, Image.Transpose.ROTATE_90: Image.Transpose.ROTATE_270}
    inverse[Image.Transpose.ROTATE_270] = Image.Transpose.ROTATE_90
    stored = upright.transpose(inverse.get(undo, undo)) if undo is not None else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(np.asarray(images.read(tmp_path / "a.png")), np.asarray(upright))


def test_resize_keeps_the_aspect():
    assert images.resize(Image.new("RGB", (300, 200)), 50).size == (75, 50)
    assert images.resize(Image.new("RGB", (1000, 1)), 1).size == (1000, 1)
    assert images.resize(Image.new("RGB", (20, 30)), None).size == (20, 30)


def test_files_that_are_no_pictures(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    Image.new("RGB", (64, 64)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    for name in ("text.png", "cut.png"):
        with pytest.raises(OSError, match=f"{name} is not a readable picture"):
            images.load_picture(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such file"):
        images.load_picture(tmp_path / "missing.png")
    with pytest.raises(IsADirectoryError, match="name a picture"):
        images.load_picture(tmp_path)


def test_wrong_requests(tmp_path):
    with pytest.raises(ValueError, match=r"must end in one of \.png, \.jpg"):
        images.save(torch.rand(3, 4, 4), tmp_path / "a.xyz")
    with pytest.raises(ValueError, match=r"not \(2, 3, 4, 4\)"):
        images.save(torch.rand(2, 3, 4, 4), tmp_path / "a.png")
    with pytest.raises(ValueError, match="at least 1 pixel"):
        images.load_picture(Image.new("RGB", (4, 4)), size=0)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), images.replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_files_are_found_in_nested_folders(folders):
    names = [path.name for path in images.files(folders[0])]
    assert len(names) == 15, "14 pictures and the broken one, not the text"
    with pytest.raises(ValueError, match="holds no pictures"):
        images.files(folders[0].parent / "nothing")


def integers(dtype, *shape):
    return torch.randint(0, images.WHITE[dtype] + 1, shape).to(dtype)


def exif(orientation=1):
    tags = Image.Exif()
    tags[0x010F], tags[0x0112], tags[0x0100] = "Maker", orientation, 9999
    tags.get_ifd(0x8769)[0x829D] = 2.8
    tags.get_ifd(0x8825)[1] = "N"
    return tags.tobytes()


def described(data):
    tags = Image.Exif()
    tags.load(data)
    return dict(tags) | dict(tags.get_ifd(0x8769)) | dict(tags.get_ifd(0x8825))


def display_p3():
    """libvips brings this profile: sRGB's curve with a larger gamut."""
    import pyvips

    return pyvips.Image.profile_load("p3")


def p3_to_srgb(colour):
    """From the chromaticities of the two (SMPTE EG 432-1, IEC 61966-2-1), colours in [0, 1]."""

    def to_xyz(*primaries):
        columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
        white = np.array((0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290))
        return columns * np.linalg.solve(columns, white)

    colour = np.asarray(colour)
    linear = np.where(colour <= 0.04045, colour / 12.92, ((colour + 0.055) / 1.055) ** 2.4)
    srgb, p3 = (
        to_xyz(red, green, (0.15, 0.06)) for red, green in (((0.64, 0.33), (0.3, 0.6)), ((0.68, 0.32), (0.265, 0.69)))
    )
    linear = np.linalg.solve(srgb, p3 @ linear)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".tiff"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
@pytest.mark.parametrize("profile", [False, True])
@pytest.mark.parametrize("opaque", [False, True])
def test_lossless_files_bring_everything_back(tmp_path, suffix, dtype, profile, opaque):
    alpha = None if opaque else torch.full((1, 1, 5, 7), images.WHITE[dtype]).to(dtype)
    photo = images.Photo(integers(dtype, 1, 3, 5, 7), alpha, exif(), profile)
    images.save(photo.pixels, tmp_path / f"a[1]{suffix}", photo)
    back = images.load(tmp_path / f"a[1]{suffix}")
    assert back.pixels.dtype == dtype and torch.equal(back.pixels, photo.pixels)
    assert back.alpha is None if opaque else torch.equal(back.alpha, alpha)
    assert back.pixels.is_contiguous(memory_format=torch.channels_last)
    kept = {} if "tif" in suffix or dtype == torch.uint16 else {0x010F: "Maker", 0x829D: 2.8, 1: "N"}
    tags = described(back.exif) if back.exif else {}
    assert kept.items() <= tags.items() and not {0x0100, 0x0112} & tags.keys(), "not the width and the orientation"
    assert back.profile == profile
    assert images.load((tmp_path / f"a[1]{suffix}").read_bytes()).pixels.equal(back.pixels)
    with Image.open(tmp_path / f"a[1]{suffix}") as image:
        assert (";16" in str(image.tile)) == (dtype == torch.uint16)
        high = photo.pixels.int() // (256 if dtype == torch.uint16 else 1)
        np.testing.assert_array_equal(np.asarray(image)[..., :3], high[0].permute(1, 2, 0))
        assert ("icc_profile" in image.info) == profile


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_transparency_at_16_bits_is_laid_over_white(tmp_path, suffix):
    colours = torch.tensor([1000, 30000, 60000]).view(1, 3, 1, 1).expand(1, 3, 1, 3).to(torch.uint16)
    alpha = torch.tensor([0, 21845, 65535]).view(1, 1, 1, 3).to(torch.uint16)
    images.save(colours, tmp_path / f"a{suffix}", images.Photo(colours, alpha))
    photo = images.load(tmp_path / f"a{suffix}")
    assert torch.equal(photo.alpha, alpha)
    expected = torch.tensor([[65535, 44023, 1000], [65535, 53690, 30000], [65535, 63690, 60000]])
    torch.testing.assert_close(photo.pixels[0, :, 0].int(), expected.int(), atol=1, rtol=0)


def test_16_bits_become_8_where_a_format_has_no_more(tmp_path):
    picture = torch.tensor([0, 128 * 257 + 128, 128 * 257 + 129, 65535]).view(1, 1, 4).expand(3, 1, 4).to(torch.uint16)
    assert np.asarray(images.to_image(picture))[0, :, 0].tolist() == [0, 128, 129, 255]
    images.save(picture, tmp_path / "a.webp")
    assert images.load(tmp_path / "a.webp").pixels.dtype == torch.uint8


def test_grey_at_16_bits_keeps_its_depth(tmp_path):
    values = np.array([[0, 1, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "a.tif")
    for source in (tmp_path / "a.png", tmp_path / "a.tif"):
        pixels = images.load(source).pixels
        assert pixels.dtype == torch.uint16 and pixels[0, :, 0].tolist() == [values[0].tolist()] * 3


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_size_at_16_bits(tmp_path, suffix):
    photo = images.Photo(integers(torch.uint16, 1, 3, 40, 60), integers(torch.uint16, 1, 1, 40, 60))
    images.save(photo.pixels, tmp_path / f"a{suffix}", photo)
    small = images.load(tmp_path / f"a{suffix}", 20)
    assert small.pixels.shape == (1, 3, 20, 30) and small.alpha.shape == (1, 1, 20, 30)
    shape = images.load_picture(tmp_path / f"a{suffix}", 20).shape
    assert shape == (1, 3, 20, 30)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_orientation_is_applied_once(tmp_path, suffix, dtype):
    import pyvips

    stored = np.zeros((16, 32, 3), np.uint8 if dtype == torch.uint8 else np.uint16)
    stored[:, 16:] = images.WHITE[dtype]  # white on the right; turned by orientation 6, below
    image = pyvips.Image.new_from_array(stored, interpretation="rgb16" if dtype == torch.uint16 else "srgb")
    image.set_type(pyvips.GValue.blob_type, "exif-data", exif(6))
    image.set_type(pyvips.GValue.gint_type, "orientation", 6)
    image.write_to_file(str(tmp_path / f"a{suffix}"))
    photo = images.load(tmp_path / f"a{suffix}")
    for again in (photo, images.load(images.read(tmp_path / f"a{suffix}"))):
        levels = again.pixels[0, 0].float() / images.WHITE[again.pixels.dtype]
        assert levels.shape == (32, 16) and levels[:14].max() < 0.1 and levels[18:].min() > 0.9
    tags = described(photo.exif or b"")
    white = images.WHITE[photo.pixels.dtype]
    assert 0x0112 not in tags and (suffix == ".tif" or white > 255 or tags[0x010F] == "Maker")
    images.save(photo.pixels, tmp_path / f"b{suffix}", photo)
    assert images.load(tmp_path / f"b{suffix}").pixels.shape == (1, 3, 32, 16)


def test_broken_exif_is_left_out(tmp_path, caplog):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png", exif=b"Exif\0\0nonsense")
    photo = images.load(tmp_path / "a.png")
    assert photo.exif is None and photo.pixels[0, :, 0, 0].tolist() == [255, 0, 0]
    assert "EXIF is broken" in caplog.text


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_a_profile_is_converted_to_srgb(tmp_path, monkeypatch, dtype):
    colour = np.array((179, 102, 77)) / 255
    monkeypatch.setattr(images, "_srgb_profile", display_p3)
    white = images.WHITE[dtype]
    picture = torch.from_numpy(colour * white).round().to(dtype).view(1, 3, 1, 1).repeat(1, 1, 1, 2)
    if white > 255:
        picture[..., 1] = (picture[..., 1].int() + 60).to(dtype)  # a quarter of an 8-bit step
    images.save(picture, tmp_path / "a.png", images.Photo(picture, profile=True))
    photo = images.load(tmp_path / "a.png")
    assert photo.profile and photo.pixels.dtype == dtype
    expected = p3_to_srgb(colour)
    assert abs(expected - colour).max() > 0.03
    np.testing.assert_allclose(photo.pixels[0, :, 0, 0].float() / white, expected, atol=0.7 / 255)
    step = (photo.pixels[..., 1].int() - photo.pixels[..., 0].int()).flatten()
    assert (step == 0).all() if white == 255 else 30 < step.min() <= step.max() < 120
    read = np.asarray(images.read(tmp_path / "a.png"))[0, 0] / 255
    np.testing.assert_allclose(read, expected, atol=1.5 / 255)


def test_a_profile_that_is_broken_or_does_not_fit_is_left_out(tmp_path, caplog):
    Image.new("RGB", (4, 4), (10, 20, 30)).save(tmp_path / "a.png", icc_profile=b"nonsense" * 20)
    assert images.load(tmp_path / "a.png").pixels[0, :, 0, 0].tolist() == [10, 20, 30]
    assert "profile is broken" in caplog.text
    caplog.clear()
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.tif", icc_profile=display_p3())
    assert images.load(tmp_path / "a.tif").pixels[0, :, 0, 0].tolist() == [255, 0, 0]
    assert "for RGB, not CMYK" in caplog.text


def test_grey_with_a_profile_for_rgb(tmp_path, caplog):
    Image.new("L", (4, 4), 100).save(tmp_path / "a.png", icc_profile=display_p3())
    assert images.load(tmp_path / "a.png").pixels[0, :, 0, 0].tolist() == [100, 100, 100]
    assert not caplog.records


def test_a_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    np.testing.assert_allclose(images.load(tmp_path / "a.jpg").pixels[0, :, 8, 8], (255, 0, 0), atol=2)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_transparency_is_kept_apart_and_hides_colours(tmp_path, mode):
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.convert(mode).save(tmp_path / ("a.tif" if mode == "PA" else "a.png"))
    photo = images.load(tmp_path / ("a.tif" if mode == "PA" else "a.png"))
    assert photo.alpha[0, 0, 0].tolist() == [255, 0, 255]
    assert photo.pixels[0, :, 0].tolist() == [[0, 255, 0]] * 3


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_transparency_of_another_size_is_fitted(tmp_path, suffix, dtype):
    alpha = torch.zeros(1, 1, 8, 8).to(torch.uint16)
    alpha[:, :, :, 4:] = 65535
    photo = images.Photo(torch.zeros(1, 3, 8, 8).to(torch.uint16), alpha, exif(), True)
    images.save(torch.zeros(1, 3, 32, 48).to(dtype), tmp_path / f"a{suffix}", photo)
    back = images.load(tmp_path / f"a{suffix}")
    white = images.WHITE[back.pixels.dtype]
    assert back.profile and (suffix == ".tif" or white > 255 or described(back.exif)[0x010F] == "Maker")
    np.testing.assert_allclose(back.pixels[0, 0, 16, [4, 44]] / white, [1, 0], atol=0.05)
    if suffix == ".jpg":
        assert back.alpha is None
    else:
        assert back.alpha.shape == (1, 1, 32, 48) and back.alpha[0, 0, 16, [4, 44]].tolist() == [0, white]


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, caplog, suffix):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(
        tmp_path / f"a.{suffix}",
        save_all=True,
        append_images=frames[1:],
        **{"lossless": True} if suffix == "webp" else {},
    )
    assert images.load(tmp_path / f"a.{suffix}").pixels[0, :, 0, 0].tolist() == [255, 0, 0]
    assert "only the first is used" in caplog.text and f"a.{suffix}" in caplog.text


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_the_limit_on_pixels(tmp_path, dtype):
    images.save(integers(dtype, 3, 10, 10), tmp_path / "a.png")
    for call in (images.load, images.load_picture, images.read):
        call(tmp_path / "a.png", max_pixels=100)
        with pytest.raises(OSError, match=r"a.png .*10 x 10 is over the limit of 99 pixels; .*--max-pixels"):
            call(tmp_path / "a.png", max_pixels=99)
    with pytest.raises(OSError, match="over the limit of 99"):
        images.load(Image.new("L", (10, 10)), max_pixels=99)


def test_large_pictures_pass_the_limit_of_pillow(tmp_path):
    Image.new("1", (16384, 16384)).save(tmp_path / "a.png")
    with pytest.raises(Image.DecompressionBombError), Image.open(tmp_path / "a.png"):
        pass
    with images._open(tmp_path / "a.png", images.MAX_PIXELS, False) as image:
        assert image.size == (16384, 16384)


@pytest.mark.parametrize("kind", ["png", "jpg", "progressive", "deep.png"])
def test_files_cut_short(tmp_path, kind):
    path = tmp_path / f"a.{kind.replace('progressive', 'jpg')}"
    picture = integers(torch.uint16 if "deep" in kind else torch.uint8, 3, 64, 64)
    picture[:, :16] = images.WHITE[picture.dtype]
    images.save(picture, path)
    if kind == "progressive":
        with Image.open(path) as image:
            image.load()
        image.save(path, progressive=True, quality=95)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    for call in (images.load, images.load_picture):
        with pytest.raises(OSError, match=rf"{path.name} is not a readable picture"):
            call(path)
    for source in (path, path.read_bytes()):
        photo = images.load(source, truncated=True)
        assert photo.pixels.shape == (1, 3, 64, 64)
        assert (photo.pixels[0, :, :12].float() / images.WHITE[photo.pixels.dtype]).mean() > 0.9
    with pytest.raises(OSError, match=path.name):
        images.load(path)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_standard_input_and_output(monkeypatch, dtype):
    picture, out = integers(dtype, 1, 3, 4, 6), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=out))
    images.save(picture, "-", images.Photo(picture, exif=exif()))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(out.getvalue())))
    photo = images.load("-")
    assert torch.equal(photo.pixels, picture)
    assert dtype == torch.uint16 or described(photo.exif)[0x010F] == "Maker"
    with pytest.raises(OSError, match="standard input is not a readable picture"):
        images.load("-")


def test_equal_pictures_make_equal_files(tmp_path):
    photo = images.Photo(integers(torch.uint8, 1, 3, 4, 4), profile=True)
    images.save(photo.pixels, tmp_path / "a.png", photo)
    profile = images._srgb_profile()
    assert profile[24:36] == bytes((7, 208, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0))
    assert ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space == "RGB "


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_other_types_are_refused(tmp_path, dtype):
    with pytest.raises(ValueError, match=f"uint8 or uint16, not {dtype}"):
        images.save(torch.zeros(3, 2, 2, dtype=dtype), tmp_path / "a.png")


def test_a_picture_in_memory_is_left_alone():
    image = Image.new("RGBA", (2, 1), (9, 9, 9, 0))
    image.info["icc_profile"] = display_p3()
    before = image.tobytes()
    images.load(image)
    assert image.tobytes() == before and image.mode == "RGBA"
    plain = Image.new("RGB", (2, 1))
    images.read(plain).putpixel((0, 0), (255, 0, 0))
    assert plain.getpixel((0, 0)) == (0, 0, 0)


def test_a_jpeg_decoded_smaller_keeps_its_colours(tmp_path):
    Image.new("RGB", (640, 320), (200, 40, 90)).save(tmp_path / "a.jpg", quality=95)
    pixels = images.load(tmp_path / "a.jpg", 20).pixels
    assert pixels.shape == (1, 3, 20, 40)
    np.testing.assert_allclose(pixels[0, :, 10, 10], (200, 40, 90), atol=3)
