import os
import platform
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

import adain
from adain.imaging import listing, photo, reader, writer
from adain.imaging.options import ReadOptions
from adain.imaging.photo import WHITE
from adain.imaging.reader import MAX_PIXELS
from adain.utils import files
from adain.utils.errors import ContentError
from adain.utils.files import atomic_path


def test_a_png_survives_the_round_trip(tmp_path):
    picture = torch.randint(0, 256, (1, 3, 5, 7)).float() / 255
    writer.save(picture, tmp_path / "a.png")
    torch.testing.assert_close(reader.load_image(tmp_path / "a.png"), picture)
    assert torch.equal(adain.load_picture(tmp_path / "a.png"), reader.load_image(tmp_path / "a.png")), (
        "its earlier name"
    )


FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP", ".PNG": "PNG", ".tif": "TIFF", ".TIFF": "TIFF"}


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_suffix_chooses_the_format(tmp_path, suffix):
    writer.save(torch.full((3, 16, 16), 0.5), tmp_path / f"a{suffix}")
    with Image.open(tmp_path / f"a{suffix}") as image:
        assert image.format == FORMATS[suffix]
    assert [path.name for path in tmp_path.iterdir()] == [f"a{suffix}"], "no temporary file is left"


def test_values_outside_the_range_are_clamped_and_rounded(tmp_path):
    writer.save(torch.tensor([-1.0, 0.5, 2.0]).view(1, 1, 3).expand(3, 1, 3), tmp_path / "a.png")
    assert np.asarray(Image.open(tmp_path / "a.png"))[0, :, 0].tolist() == [0, 128, 255]


def gray(values, mode):
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
        (gray([65535], "I;16"), (255, 255, 255)),
        (gray([32896], "I;16"), (128, 128, 128)),
        (Image.new("F", (1, 1), 51.0), (51, 51, 51)),
    ],
    ids=[
        "gray",
        "bilevel",
        "transparent",
        "opaque",
        "gray-alpha",
        "palette",
        "cmyk",
        "float-1",
        "32-bit",
        "16-bit-white",
        "16-bit-gray",
        "float-255",
    ],
)
def test_every_mode_becomes_rgb(image, expected):
    read = reader.read(image)
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
    np.testing.assert_array_equal(np.asarray(reader.read(tmp_path / "a.png")), np.asarray(upright))


@pytest.mark.parametrize("orientation", [1, 6])
def test_every_format_is_resized_to_the_same_sides(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.new("RGB", (3003, 1001) if orientation == 6 else (1001, 3003))
    for suffix in (".jpg", ".png"):
        path = tmp_path / f"a{suffix}"
        image.save(path, exif=exif)
        assert reader.load(path, 100).pixels.shape[2:] == (300, 100), "not those of a reduced JPEG, which are rounded"


def test_resize_keeps_the_aspect():
    assert photo.resize(Image.new("RGB", (300, 200)), 50).size == (75, 50)
    assert photo.resize(Image.new("RGB", (1000, 1)), 1).size == (1000, 1)
    assert photo.resize(Image.new("RGB", (20, 30)), None).size == (20, 30)


def test_files_that_are_no_pictures(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    Image.new("RGB", (64, 64)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:60])
    for name in ("text.png", "cut.png"):
        with pytest.raises(OSError, match=f"{name} is not a readable image"):
            reader.load_image(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such file"):
        reader.load_image(tmp_path / "missing.png")
    with pytest.raises(IsADirectoryError, match="name a file in it"):
        reader.load_image(tmp_path)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_url_is_no_file(kind):
    with pytest.raises(FileNotFoundError, match=r"^Expected a file, got the URL http.*a\.jpg; download it first$"):
        reader.load_image(kind("https://example.com/a.jpg"))


def test_what_is_no_image_is_a_type_error(tmp_path):
    with pytest.raises(TypeError, match=r"^Expected an image as a path, bytes, or a Pillow image, got int$"):
        reader.load_image(5)
    expected = r"^Expected an image as a tensor \(3, H, W\) or \(1, 3, H, W\), got "
    with pytest.raises(TypeError, match=f"{expected}str$"):
        writer.save("photo.jpg", tmp_path / "x.png")
    with pytest.raises(TypeError, match=f"{expected}Image$"):
        photo.to_image(Image.new("RGB", (4, 4)))
    assert not [*tmp_path.iterdir()]


def test_wrong_requests(tmp_path):
    with pytest.raises(ValueError, match=r"Expected a name that ends in one of \.png, \.jpg"):
        writer.save(torch.rand(3, 4, 4), tmp_path / "a.xyz")
    with pytest.raises(ValueError, match=r"got \(2, 3, 4, 4\)"):
        writer.save(torch.rand(2, 3, 4, 4), tmp_path / "a.png")
    with pytest.raises(ValueError, match="at least 1 pixel"):
        reader.load_image(Image.new("RGB", (4, 4)), size=0)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="Windows has neither these links nor these permissions")
def test_a_link_stays_a_link_and_a_file_keeps_its_permissions(tmp_path):
    (tmp_path / "real").mkdir()
    real, link, new = tmp_path / "real" / "a.png", tmp_path / "link.png", tmp_path / "new.png"
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    dangling = tmp_path / "dangling.png"
    dangling.symlink_to("real/b.png")
    before = os.umask(0o027)
    try:
        for path in (link, dangling, new):
            writer.save(torch.rand(3, 4, 5), path)
    finally:
        os.umask(before)
    assert link.is_symlink()
    assert dangling.is_symlink()
    assert reader.load(real).pixels.shape == reader.load(tmp_path / "real" / "b.png").pixels.shape == (1, 3, 4, 5)
    assert [path.stat().st_mode & 0o777 for path in (real, new)] == [0o640, 0o640]
    real.chmod(0o604)
    writer.save(torch.rand(3, 4, 5), link)
    assert real.stat().st_mode & 0o777 == 0o604


def test_a_path_that_cannot_be_written_is_one_short_line(tmp_path, monkeypatch):
    def denied(path, *_, **__):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "file").write_text("no folder")
    under_file, out = tmp_path / "file" / "a.png", tmp_path / "a.png"
    with pytest.raises(OSError, match=rf"^cannot write {under_file} \({under_file.parent} is a file, not a folder\);"):
        writer.save(torch.rand(3, 4, 5), under_file)
    monkeypatch.setattr(Path, "touch", denied)
    with pytest.raises(PermissionError, match=rf"^cannot write {out} \(Permission denied\); choose another output$"):
        writer.save(torch.rand(3, 4, 5), out)
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(PermissionError, match=rf"^{out} cannot be read \(permission denied\)$"):
        reader.load(out)


def test_only_temporary_files_of_dead_processes_of_this_host_are_stale(tmp_path, monkeypatch):
    monkeypatch.setattr(platform, "node", lambda: "host-1.lan")
    monkeypatch.setattr(psutil, "pid_exists", lambda process: process == 7)
    names = {}
    for process in (7, 999999):
        monkeypatch.setattr(os, "getpid", lambda process=process: process)
        with atomic_path(tmp_path / "a.png") as temporary:
            temporary.write_bytes(b"half a picture")
            names[process] = temporary.name
    elsewhere = names[999999].replace("host", "ghost")
    users = [".backup-2023-01.png", ".my-999999-notes", ".adain-999999-1.png", ".adain-notes-999999-1-old.png", "a.png"]
    for name in (*names.values(), elsewhere, *users):
        (tmp_path / name).write_bytes(b"something")
    files.remove_stale(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {names[7], elsewhere, *users}


def test_files_are_found_in_nested_folders(folders):
    names = [path.name for path in listing.files(folders[0])]
    assert len(names) == 15, "14 pictures and the broken one, not the text"


def integers(dtype, *shape):
    return torch.randint(0, WHITE[dtype] + 1, shape).to(dtype)


def test_a_cmyk_jpeg(tmp_path):
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    np.testing.assert_allclose(reader.load(tmp_path / "a.jpg").pixels[0, :, 8, 8], (255, 0, 0), atol=2)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_an_animation_the_first_frame_is_taken(tmp_path, caplog, suffix):
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "blue")]
    frames[0].save(
        tmp_path / f"a.{suffix}",
        save_all=True,
        append_images=frames[1:],
        **{"lossless": True} if suffix == "webp" else {},
    )
    assert reader.load(tmp_path / f"a.{suffix}").pixels[0, :, 0, 0].tolist() == [255, 0, 0]
    assert "only the first one is used" in caplog.text and f"a.{suffix}" in caplog.text


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16])
def test_the_limit_on_pixels(tmp_path, dtype):
    writer.save(integers(dtype, 3, 10, 10), tmp_path / "a.png")
    for call in (reader.load, reader.load_image, reader.read):
        call(tmp_path / "a.png", options=ReadOptions(100))
        with pytest.raises(OSError, match=r"a.png .*10 x 10 is over the limit of 99 pixels; .*--max-pixels"):
            call(tmp_path / "a.png", options=ReadOptions(99))
    with pytest.raises(OSError, match="over the limit of 99"):
        reader.load(Image.new("L", (10, 10)), options=ReadOptions(99))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(tmp_path, value):
    values = np.full((4, 5), 0.5, np.float32)
    values[1, 2] = value
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(OSError, match=r"a.tif is not a readable image \(expected finite values, got NaN or infinity"):
        reader.load(tmp_path / "a.tif")


@pytest.mark.parametrize("picture", [torch.rand(1, 3, 40, 48), Image.new("RGB", (48, 40))], ids=["tensor", "image"])
def test_the_limit_on_pixels_is_also_that_of_results(picture):
    with pytest.raises(ContentError, match="360000 x 300000 pixels, over the limit of 536870912; use a smaller --size"):
        adain.stylize(picture, picture, "adain-lite", size=300000, device="cpu")


def test_large_pictures_pass_the_limit_of_pillow(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2600)  # more than a strip of `images.STRIP` rows
    Image.new("RGB", (10, 600)).save(tmp_path / "a.png")
    with pytest.raises(Image.DecompressionBombError), Image.open(tmp_path / "a.png"):
        pass
    assert reader.load(tmp_path / "a.png").pixels.shape == (1, 3, 600, 10)
    assert MAX_PIXELS >= 2 * 16384**2


@pytest.mark.parametrize("kind", ["png", "jpg", "progressive", "deep.png"])
def test_files_cut_short(tmp_path, kind):
    path = tmp_path / f"a.{kind.replace('progressive', 'jpg')}"
    picture = integers(torch.uint16 if "deep" in kind else torch.uint8, 3, 64, 64)
    picture[:, :16] = WHITE[picture.dtype]
    writer.save(picture, path)
    if kind == "progressive":
        with Image.open(path) as image:
            image.load()
        image.save(path, progressive=True, quality=95)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    for call in (reader.load, reader.load_picture):
        with pytest.raises(OSError, match=rf"{path.name} is not a readable image"):
            call(path)
    for source in (path, path.read_bytes()):
        photo = reader.load(source, options=ReadOptions(truncated=True))
        assert photo.pixels.shape == (1, 3, 64, 64)
        assert (photo.pixels[0, :, :12].float() / WHITE[photo.pixels.dtype]).mean() > 0.9
    with pytest.raises(OSError, match=path.name):
        reader.load(path)


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_other_types_are_refused(tmp_path, dtype):
    with pytest.raises(ValueError, match=f"uint8, or uint16, got {dtype}"):
        writer.save(torch.zeros(3, 2, 2, dtype=dtype), tmp_path / "a.png")


def test_a_jpeg_decoded_smaller_keeps_its_colors(tmp_path):
    Image.new("RGB", (640, 320), (200, 40, 90)).save(tmp_path / "a.jpg", quality=95)
    pixels = reader.load(tmp_path / "a.jpg", 20).pixels
    assert pixels.shape == (1, 3, 20, 40)
    np.testing.assert_allclose(pixels[0, :, 10, 10], (200, 40, 90), atol=3)


PILLOW_FORMATS = ["PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "PPM", "ICO", "TGA", "PCX", "JPEG2000", "AVIF"]


@pytest.mark.parametrize("name", PILLOW_FORMATS)
def test_formats_are_identified_as_by_pillow(tmp_path, name):
    path = tmp_path / "image"
    try:
        Image.effect_noise((32, 24), 50).convert("RGB").save(path, name)
    except (KeyError, OSError) as error:
        pytest.skip(f"this Pillow cannot write it: {error}")
    with Image.open(path) as expected, path.open("rb") as file:
        found = reader._identify(file)
        assert (type(found), found.format, found.size) == (type(expected), expected.format, expected.size)
