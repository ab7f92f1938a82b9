import pytest
from PIL import Image

from adain.evaluation.contact_sheet import CELL, contact_sheet
from benchmarks.experiments import parts_of


def columns_of(sheet):
    """The gray levels in the middle of the columns; 255 where there is none."""
    width = CELL[0]
    return [sheet.getpixel((x, sheet.height - 9))[0] for x in range(width // 2, sheet.width, width + 4)]


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (8, [[0, 1, 2, 3, 4, 5, 6, 7]]),
        (9, [[0, 1, 2, 3, 4, 5], [0, 1, 6, 7, 8, 255]]),
        (12, [[0, 1, 2, 3, 4, 5, 6], [0, 1, 7, 8, 9, 10, 11]]),
    ],
)
def test_wide_sheets_are_divided_into_parts_with_content_and_style(columns, expected):
    cells = [(Image.new("RGB", CELL, (level,) * 3), "name") for level in range(columns)]
    assert [columns_of(part) for part in parts_of(contact_sheet([cells]))] == expected
