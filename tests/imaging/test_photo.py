"""What a picture carries besides its colors in 8 bits: depth, transparency, EXIF, a profile."""

import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from adain.imaging import photo, reader, writer
from adain.imaging.photo import WHITE, Photo
from tests.imaging.test_reader import integers


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


def p3_to_srgb(color):
    """From the chromaticities of the two (SMPTE EG 432-1, IEC 61966-2-1), colors in [0, 1]."""

    def to_xyz(*primaries):
        columns = np.array([(x / y, 1, (1 - x - y) / y) for x, y in primaries]).T
        white = np.array((0.3127 / 0.3290, 1, (1 - 0.3127 - 0.3290) / 0.3290))
        return columns * np.linalg.solve(columns, white)

    color = np.asarray(color)
    linear = np.where(color <= 0.04045, color / 12.92, ((color + 0.055) / 1.055) ** 2.4)
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
    alpha = None if opaque else torch.full((1, 1, 5, 7), WHITE[dtype]).to(dtype)
    photo = Photo(integers(dtype, 1, 3, 5, 7), alpha, exif(), profile)
    writer.save(photo.pixels, tmp_path / f"a[1]{suffix}", photo)
    back = reader.load(tmp_path / f"a[1]{suffix}")
    assert back.pixels.dtype == dtype and torch.equal(back.pixels, photo.pixels)
    assert back.alpha is None if opaque else torch.equal(back.alpha, alpha)
    assert back.pixels.is_contiguous(memory_format=torch.channels_last)
    kept = {} if "tif" in suffix or dtype == torch.uint16 else {0x010F: "Maker", 0x829D: 2.8, 1: "N"}
    tags = described(back.exif) if back.exif else {}
    assert kept.items() <= tags.items() and not {0x0100, 0x0112} & tags.keys(), "not the width and the orientation"
    assert back.profile == profile
    assert reader.load((tmp_path / f"a[1]{suffix}").read_bytes()).pixels.equal(back.pixels)
    with Image.open(tmp_path / f"a[1]{suffix}") as image:
        assert (";16" in str(image.tile)) == (dtype == torch.uint16)
        high = photo.pixels.int() // (256 if dtype == torch.uint16 else 1)
        np.testing.assert_array_equal(np.asarray(image)[..., :3], high[0].permute(1, 2, 0))
        assert ("icc_profile" in image.info) == profile


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_transparency_at_16_bits_is_laid_over_white(tmp_path, suffix):
    import pyvips

    stored = np.array([[[1000, 30000, 60000, alpha] for alpha in (0, 21845, 65535)]], np.uint16)
    pyvips.Image.new_from_array(stored, interpretation="rgb16").write_to_file(str(tmp_path / f"a{suffix}"))
    photo = reader.load(tmp_path / f"a{suffix}")
    assert photo.alpha.flatten().tolist() == [0, 21845, 65535]
    expected = torch.tensor([[65535, 44023, 1000], [65535, 53690, 30000], [65535, 63690, 60000]])
    torch.testing.assert_close(photo.pixels[0, :, 0].int(), expected.int(), atol=1, rtol=0)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_what_is_seen_over_white_is_written(tmp_path, monkeypatch, suffix, dtype):
    monkeypatch.setattr(writer, "STRIP", 3)
    monkeypatch.setitem(writer.SUFFIXES, ".webp", {"lossless": True})
    white = WHITE[dtype]
    ramp = (torch.arange(256) * (white // 255)).to(dtype)
    colors = torch.stack((ramp, ramp.flip(0), (ramp.int() // 2).to(dtype)))[None, :, None].expand(1, 3, 16, 256)
    alpha = ramp.view(1, 1, 16, 16).mT.repeat_interleave(16, 3)
    seen = (white - alpha.int() + colors.int() * (alpha.int() / white)).round().to(dtype)
    writer.save(seen, tmp_path / f"a{suffix}", Photo(seen, alpha))
    back = reader.load(tmp_path / f"a{suffix}")
    tolerance = {".jpg": 0.1, ".webp": 2 / 255}.get(suffix, 1.1 / white)
    torch.testing.assert_close(photo.to_float(back.pixels), photo.to_float(seen), atol=tolerance, rtol=0)
    if suffix != ".jpg":
        torch.testing.assert_close(photo.to_float(back.alpha), photo.to_float(alpha), atol=0.5 / 255, rtol=0)


def test_colors_below_transparency_are_restored(tmp_path):
    stored = [(255, 0, 0, 128), (10, 200, 30, 255), (9, 9, 9, 0), (0, 255, 128, 51)]
    image = Image.new("RGBA", (4, 1))
    image.putdata(stored)
    photo = reader.load(image)
    writer.save(photo.pixels, tmp_path / "a.png", photo)
    with Image.open(tmp_path / "a.png") as written:
        np.testing.assert_allclose(np.asarray(written)[0, [0, 1, 3]], np.array(stored)[[0, 1, 3]], atol=2)
    Image.new("RGBA", (16, 16), stored[0]).save(tmp_path / "b.png")
    photo = reader.load(tmp_path / "b.png")
    writer.save(photo.pixels, tmp_path / "b.jpg", photo)
    with Image.open(tmp_path / "b.jpg") as written:
        np.testing.assert_allclose(written.getpixel((8, 8)), (255, 127, 127), atol=2)


def test_16_bits_become_8_where_a_format_has_no_more(tmp_path):
    picture = torch.tensor([0, 128 * 257 + 128, 128 * 257 + 129, 65535]).view(1, 1, 4).expand(3, 1, 4).to(torch.uint16)
    assert np.asarray(photo.to_image(picture))[0, :, 0].tolist() == [0, 128, 129, 255]
    writer.save(picture, tmp_path / "a.webp")
    assert reader.load(tmp_path / "a.webp").pixels.dtype == torch.uint8


def test_gray_at_16_bits_keeps_its_depth(tmp_path):
    values = np.array([[0, 1, 32896, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    Image.fromarray(values).save(tmp_path / "a.tif")
    for source in (tmp_path / "a.png", tmp_path / "a.tif"):
        pixels = reader.load(source).pixels
        assert pixels.dtype == torch.uint16 and pixels[0, :, 0].tolist() == [values[0].tolist()] * 3


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_size_at_16_bits(tmp_path, suffix):
    photo = Photo(integers(torch.uint16, 1, 3, 40, 60), integers(torch.uint16, 1, 1, 40, 60))
    writer.save(photo.pixels, tmp_path / f"a{suffix}", photo)
    small = reader.load(tmp_path / f"a{suffix}", 20)
    assert small.pixels.shape == (1, 3, 20, 30) and small.alpha.shape == (1, 1, 20, 30)
    shape = reader.load_image(tmp_path / f"a{suffix}", 20).shape
    assert shape == (1, 3, 20, 30)


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg", ".webp"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_orientation_is_applied_once(tmp_path, suffix, dtype):
    import pyvips

    stored = np.zeros((16, 32, 3), np.uint8 if dtype == torch.uint8 else np.uint16)
    stored[:, 16:] = WHITE[dtype]  # white on the right; turned by orientation 6, below
    image = pyvips.Image.new_from_array(stored, interpretation="rgb16" if dtype == torch.uint16 else "srgb")
    image.set_type(pyvips.GValue.blob_type, "exif-data", exif(6))
    image.set_type(pyvips.GValue.gint_type, "orientation", 6)
    image.write_to_file(str(tmp_path / f"a{suffix}"))
    photo = reader.load(tmp_path / f"a{suffix}")
    for again in (photo, reader.load(reader.read(tmp_path / f"a{suffix}"))):
        levels = again.pixels[0, 0].float() / WHITE[again.pixels.dtype]
        assert levels.shape == (32, 16) and levels[:14].max() < 0.1 and levels[18:].min() > 0.9
    tags = described(photo.exif or b"")
    white = WHITE[photo.pixels.dtype]
    assert 0x0112 not in tags and (suffix == ".tif" or white > 255 or tags[0x010F] == "Maker")
    writer.save(photo.pixels, tmp_path / f"b{suffix}", photo)
    assert reader.load(tmp_path / f"b{suffix}").pixels.shape == (1, 3, 32, 16)


def test_broken_exif_is_left_out(tmp_path, caplog):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "a.png", exif=b"Exif\0\0nonsense")
    photo = reader.load(tmp_path / "a.png")
    assert photo.exif is None and photo.pixels[0, :, 0, 0].tolist() == [255, 0, 0]
    assert "Damaged EXIF is ignored" in caplog.text


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_a_profile_is_converted_to_srgb(tmp_path, monkeypatch, dtype):
    color = np.array((179, 102, 77)) / 255
    monkeypatch.setattr(writer, "_srgb_profile", display_p3)
    white = WHITE[dtype]
    picture = torch.from_numpy(color * white).round().to(dtype).view(1, 3, 1, 1).repeat(1, 1, 1, 2)
    if white > 255:
        picture[..., 1] = (picture[..., 1].int() + 60).to(dtype)  # a quarter of an 8-bit step
    writer.save(picture, tmp_path / "a.png", Photo(picture, profile=True))
    photo = reader.load(tmp_path / "a.png")
    assert photo.profile and photo.pixels.dtype == dtype
    expected = p3_to_srgb(color)
    assert abs(expected - color).max() > 0.03
    np.testing.assert_allclose(photo.pixels[0, :, 0, 0].float() / white, expected, atol=0.7 / 255)
    step = (photo.pixels[..., 1].int() - photo.pixels[..., 0].int()).flatten()
    assert (step == 0).all() if white == 255 else 30 < step.min() <= step.max() < 120
    read = np.asarray(reader.read(tmp_path / "a.png"))[0, 0] / 255
    np.testing.assert_allclose(read, expected, atol=1.5 / 255)


def test_a_profile_that_is_broken_or_does_not_fit_is_left_out(tmp_path, caplog):
    Image.new("RGB", (4, 4), (10, 20, 30)).save(tmp_path / "a.png", icc_profile=b"nonsense" * 20)
    assert reader.load(tmp_path / "a.png").pixels[0, :, 0, 0].tolist() == [10, 20, 30]
    assert "damaged color profile is ignored" in caplog.text
    caplog.clear()
    Image.new("CMYK", (4, 4), (0, 255, 255, 0)).save(tmp_path / "a.tif", icc_profile=display_p3())
    assert reader.load(tmp_path / "a.tif").pixels[0, :, 0, 0].tolist() == [255, 0, 0]
    assert "for RGB, not CMYK" in caplog.text


def test_gray_with_a_profile_for_rgb(tmp_path, caplog):
    Image.new("L", (4, 4), 100).save(tmp_path / "a.png", icc_profile=display_p3())
    assert reader.load(tmp_path / "a.png").pixels[0, :, 0, 0].tolist() == [100, 100, 100]
    assert not caplog.records


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA"])
def test_transparency_is_kept_apart_and_hides_colors(tmp_path, mode):
    image = Image.new("RGBA", (3, 1), (0, 0, 0, 255))
    image.putpixel((1, 0), (0, 0, 0, 0))
    image.convert(mode).save(tmp_path / ("a.tif" if mode == "PA" else "a.png"))
    photo = reader.load(tmp_path / ("a.tif" if mode == "PA" else "a.png"))
    assert photo.alpha[0, 0, 0].tolist() == [255, 0, 255]
    assert photo.pixels[0, :, 0].tolist() == [[0, 255, 0]] * 3


@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp", ".jpg"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.float32])
def test_transparency_of_another_size_is_fitted(tmp_path, suffix, dtype):
    alpha = torch.zeros(1, 1, 8, 8).to(torch.uint16)
    alpha[:, :, :, 4:] = 65535
    photo = Photo(torch.zeros(1, 3, 8, 8).to(torch.uint16), alpha, exif(), True)
    writer.save(torch.zeros(1, 3, 32, 48).to(dtype), tmp_path / f"a{suffix}", photo)
    back = reader.load(tmp_path / f"a{suffix}")
    white = WHITE[back.pixels.dtype]
    assert back.profile and (suffix == ".tif" or white > 255 or described(back.exif)[0x010F] == "Maker")
    np.testing.assert_allclose(back.pixels.float()[0, 0, 16, [4, 44]] / white, [1, 0], atol=0.05)
    if suffix == ".jpg":
        assert back.alpha is None
    else:
        assert back.alpha.shape == (1, 1, 32, 48) and back.alpha[0, 0, 16, [4, 44]].tolist() == [0, white]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_standard_input_and_output(monkeypatch, dtype):
    picture, out = integers(dtype, 1, 3, 4, 6), io.BytesIO()
    monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=out))
    writer.save(picture, "-", Photo(picture, exif=exif()))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(out.getvalue())))
    photo = reader.load("-")
    assert torch.equal(photo.pixels, picture)
    assert dtype == torch.uint16 or described(photo.exif)[0x010F] == "Maker"
    with pytest.raises(OSError, match="standard input is not a readable image"):
        reader.load("-")


def test_equal_pictures_make_equal_files(tmp_path):
    photo = Photo(integers(torch.uint8, 1, 3, 4, 4), profile=True)
    writer.save(photo.pixels, tmp_path / "a.png", photo)
    with Image.open(tmp_path / "a.png") as image:
        profile = image.info["icc_profile"]
    assert profile[24:36] == bytes((7, 208, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0))
    assert ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.xcolor_space == "RGB "


def test_a_picture_in_memory_is_left_alone():
    image = Image.new("RGBA", (2, 1), (9, 9, 9, 0))
    image.info["icc_profile"] = display_p3()
    before = image.tobytes()
    reader.load(image)
    assert image.tobytes() == before and image.mode == "RGBA"
    plain = Image.new("RGB", (2, 1))
    reader.read(plain).putpixel((0, 0), (255, 0, 0))
    assert plain.getpixel((0, 0)) == (0, 0, 0)


def test_an_image_too_large_for_the_format_is_reported_in_one_line(tmp_path):
    wide = torch.zeros(1, 3, 1, 70_000)
    path = tmp_path / "a.jpeg"
    with pytest.raises(OSError, match=rf"^cannot write {path} \(VipsJpeg: .*65500 pixels\)$"):
        writer.save(wide, path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(OSError, match=r"^cannot write an image as \.jpeg \(VipsJpeg: .*65500 pixels\)$"):
        writer.encode(wide, ".jpeg")
