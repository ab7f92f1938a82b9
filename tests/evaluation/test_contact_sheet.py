import numpy as np
import pytest
from PIL import Image

from adain.evaluation.contact_sheet import CELL, GAP, contact_sheet, corner, thumbnail, write_sheet


def plain(color, size=(40, 40)):
    return Image.new("RGB", size, color)


@pytest.mark.parametrize("size", [(40, 40), (400, 100), (100, 400), (512, 384)])
def test_a_thumbnail_fills_its_cell_and_keeps_proportions(size):
    """A disk remains a disk for any shape of the image."""
    width, height = size
    columns, rows = np.meshgrid(np.arange(width) - width / 2, np.arange(height) - height * 0.35 - 0.15 * min(size))
    disk = np.hypot(columns, rows) < min(size) / 8
    small = thumbnail(Image.fromarray(np.uint8(disk) * 255).convert("RGB"))
    assert small.size == CELL
    inside = np.asarray(small.convert("L")) > 127
    across, down = inside.any(0).sum(), inside.any(1).sum()
    assert abs(across - down) <= 0.1 * across + 2


def test_cells_lie_in_rows_and_columns_without_gaps_inside():
    colors = [["red", "lime"], ["blue", "black"]]
    sheet = contact_sheet([[(thumbnail(plain(color, (30, 90))), "") for color in row] for row in colors])
    width, height = CELL
    assert sheet.size == (2 * (width + GAP) + GAP, 2 * (height + GAP) + GAP)
    pixels = np.asarray(sheet)
    for y, row in enumerate(colors):
        for x, color in enumerate(row):
            left, top = GAP + x * (width + GAP), GAP + y * (height + GAP)
            cell = pixels[top : top + height, left : left + width]
            assert (cell == np.asarray(plain(color, (1, 1)))).all()
    assert (pixels[:GAP] == 255).all()


def test_captions_are_above_their_cells():
    bare = contact_sheet([[(thumbnail(plain("red")), "")]])
    sheet = contact_sheet([[(thumbnail(plain("red")), "a caption of two lines, " * 2), None], [(corner(), "")]])
    assert sheet.height > 2 * bare.height - GAP
    assert np.asarray(sheet)[: sheet.height - 2 * CELL[1]].min() < 128, "text is drawn"


def test_the_sheet_is_written_in_the_format_of_its_suffix(tmp_path):
    for suffix, kind in ((".png", "PNG"), (".jpg", "JPEG")):
        path = write_sheet([[(thumbnail(plain("red")), "")]], tmp_path / f"sheet{suffix}")
        with Image.open(path) as image:
            assert image.format == kind
