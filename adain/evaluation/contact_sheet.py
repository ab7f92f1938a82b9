"""Contact sheets: many images in the rows and columns of a single one."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from adain.utils.files import atomic_path

CELL = (256, 192)
"""Width and height of every cell in pixels. It is landscape, like most photos and screens."""

GAP = 4  # between cells, in pixels
CAPTION_WIDTH = 36  # characters in a line of a caption
LINE_HEIGHT = 16  # of a caption, in pixels

Tile = tuple[Image.Image, str] | None
"""A thumbnail and its caption (which may be empty), or an empty cell."""


def thumbnail(image: Image.Image) -> Image.Image:
    """Return a copy that fills a cell; what does not fit is cropped.

    The crop is centered horizontally. Vertically it is above the center, where the faces of portraits are.
    """
    return ImageOps.fit(image, CELL, Image.Resampling.LANCZOS, centering=(0.5, 0.35))


def contact_sheet(rows: Sequence[Sequence[Tile]]) -> Image.Image:
    """Return an image of thumbnails in rows and columns, each below its caption if it has one."""
    width, height = CELL
    caption_height = _caption_height(rows)
    columns = max(len(row) for row in rows)
    sheet_size = (columns * (width + GAP) + GAP, len(rows) * (height + GAP + caption_height) + GAP)
    sheet = Image.new("RGB", sheet_size, "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            if tile is None:
                continue
            image, caption = tile
            left = GAP + x * (width + GAP)
            top = GAP + y * (height + GAP + caption_height)
            draw.multiline_text((left, top), _wrapped(caption), "black", font, spacing=2)
            sheet.paste(image, (left, top + caption_height))
    return sheet


def _caption_height(rows: Sequence[Sequence[Tile]]) -> int:
    """Return the space above each cell in pixels, which is that of the longest caption."""
    lines = 0
    for row in rows:
        for tile in row:
            if tile:
                lines = max(lines, len(_wrapped(tile[1]).splitlines()))
    return LINE_HEIGHT * lines + GAP if lines else 0


def _wrapped(caption: str) -> str:
    return textwrap.fill(caption, CAPTION_WIDTH)


def corner() -> Image.Image:
    """Return the cell where the row of styles meets the column of contents, which labels both."""
    cell = Image.new("RGB", CELL, "#e8e8e8")
    draw = ImageDraw.Draw(cell)
    width, height = CELL
    draw.line((0, 0, width, height), "white", GAP)
    font = ImageFont.load_default(24)
    draw.text((width * 0.68, height * 0.28), "style", "#606060", font, anchor="mm")
    draw.text((width * 0.32, height * 0.72), "content", "#606060", font, anchor="mm")
    return cell


def write_sheet(rows: Sequence[Sequence[Tile]], path: Path) -> Path:
    """Write the contact sheet to `path`, in the format of its suffix, one of those of Pillow; return the path."""
    with atomic_path(path) as temporary:
        contact_sheet(rows).save(temporary, quality=80)
    return path
