from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from adain.imaging import jpeg, reader
from adain.imaging.jpeg import PlainJpeg
from tests.conftest import picture


@pytest.fixture(scope="module")
def image(examples):
    return Image.open(examples / "content" / "rocket.jpg").convert("RGB").resize((213, 147))


def encoded(image, **options):
    file = BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


RESTARTS = {"restart_marker_blocks": 1}

BOXES = [
    (0, 0, 213, 147),
    (0, 0, 1, 1),
    (212, 146, 213, 147),
    (14, 15, 18, 17),
    (32, 48, 96, 112),
    (31, 33, 97, 129),
    (150, 0, 213, 40),
]


@pytest.mark.parametrize(
    "options",
    [{}, RESTARTS, {"subsampling": 0, **RESTARTS}, {"progressive": True}, {"restart_marker_rows": 1}, {"quality": 100}],
    ids=["plain", "restarts", "full color", "progressive", "restarts of rows", "best"],
)
def test_regions_are_those_of_the_reader(image, options):
    data = encoded(image, **options)
    whole = np.asarray(reader.read(data))
    for left, top, right, bottom in BOXES:
        region = PlainJpeg.open(data).decode((left, top, right, bottom))
        assert region.is_contiguous(memory_format=torch.channels_last)
        assert np.array_equal(region[0].permute(1, 2, 0), whole[top:bottom, left:right])


@pytest.mark.parametrize(("size", "quality"), [((16, 16), 90), ((17, 33), 100), ((64, 48), 1), ((500, 20), 95)])
def test_restart_markers_of_any_number_and_size(size, quality):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    data = encoded(noise, quality=quality, **RESTARTS)
    box = size[0] // 3, size[1] // 3, size[0] // 2 + 1, size[1] // 2 + 1
    assert np.array_equal(PlainJpeg.open(data).decode(box)[0].permute(1, 2, 0), np.asarray(reader.read(data).crop(box)))


def test_only_the_blocks_around_a_region_are_decoded(image):
    data = encoded(image, **RESTARTS)
    smaller, x, y = jpeg._cut_blocks(data, image.size, (100, 70, 110, 80))
    assert (x, y) == (96, 64)
    assert Image.open(BytesIO(smaller)).size == (16, 32), "the colors of row 80 depend on those of row 81"
    assert jpeg._cut_blocks(encoded(image), image.size, (0, 0, 8, 8)) is None
    missing = data.replace(b"\xff\xd3", b"\x00\x00", 1)
    assert jpeg._cut_blocks(missing, image.size, (0, 0, 8, 8)) is None, "markers that do not count up"


def test_files_that_need_a_conversion_are_left_to_the_reader(image, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # rotated
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert PlainJpeg.open(encoded(image, exif=exif)) is None
    assert PlainJpeg.open(encoded(image.convert("L"))) is None
    assert PlainJpeg.open(encoded(image.convert("CMYK"))) is None
    assert PlainJpeg.open(encoded(image, icc_profile=lab)) is not None, "a profile that the reader ignores, too"
    assert PlainJpeg.open(picture(tmp_path / "a.png")) is None
    assert PlainJpeg.open(tmp_path / "missing.jpg") is None
    assert PlainJpeg.open(b"") is None
    assert PlainJpeg.open(b"\xff\xd8\xff\xe0 no picture") is None


@pytest.mark.parametrize("options", [{}, RESTARTS], ids=["plain", "restarts"])
def test_truncated_files(image, options):
    data = encoded(image, **options)
    damaged = PlainJpeg.open(data[: len(data) // 2])
    with pytest.raises(ValueError, match="Premature end"):
        damaged.decode((0, 0, 213, 147))
