"""Contact sheets: many images on one, in rows and columns."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, ImageOps

from adain.utils.files import atomic_path

CELL = (256, 192)
"""Width and height of every cell in pixels. Landscape, as most photos and screens are."""

GAP = 4  # pixels between cells
CAPTION_WIDTH = 36  # characters in a line of a caption
LINE_HEIGHT = 16  # pixels of a line of a caption

Tile = tuple[Image.Image, str] | None
"""A thumbnail and its caption (which may be empty), or an empty cell."""


def thumbnail(picture: Image.Image) -> Image.Image:
    """A copy of the size of a cell, without borders: what does not fit is cropped.

    The crop is centered horizontally. Vertically it lies above the center, where portraits have their faces.
    """
    return ImageOps.fit(picture, CELL, Image.Resampling.LANCZOS, centering=(0.5, 0.35))


def contact_sheet(rows: Sequence[Sequence[Tile]]) -> Image.Image:
    """Thumbnails in rows and columns, each below its caption if it has one."""
    width, height = CELL
    captions = [tile[1] for row in rows for tile in row if tile]
    lines = max(len(_wrapped(caption).splitlines()) for caption in captions)
    caption_height = LINE_HEIGHT * lines + GAP if lines else 0
    columns = max(len(row) for row in rows)
    sheet_size = (columns * (width + GAP) + GAP, len(rows) * (height + GAP + caption_height) + GAP)
    sheet = Image.new("RGB", sheet_size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for y, row in enumerate(rows):
        for x, tile in enumerate(row):
            if tile is None:
                continue
            picture, caption = tile
            left, top = GAP + x * (width + GAP), GAP + y * (height + GAP + caption_height)
            draw.multiline_text((left, top), _wrapped(caption), "black", font, spacing=2)
            sheet.paste(picture, (left, top + caption_height))
    return sheet


def _wrapped(caption: str) -> str:
    return textwrap.fill(caption, CAPTION_WIDTH)


def corner() -> Image.Image:
    """The cell where the row of styles meets the column of contents: it says which is which."""
    cell = Image.new("RGB", CELL, "#e8e8e8")
    draw = ImageDraw.Draw(cell)
    width, height = CELL
    draw.line((0, 0, width, height), "white", GAP)
    font = ImageFont.load_default(24)
    draw.text((width * 0.68, height * 0.28), "style", "#606060", font, anchor="mm")
    draw.text((width * 0.32, height * 0.72), "content", "#606060", font, anchor="mm")
    return cell


def write_sheet(rows: Sequence[Sequence[Tile]], path: Path) -> Path:
    """Write the contact sheet to `path`, whose suffix is a format that Pillow writes; returns the path."""
    with atomic_path(path) as temporary:
        contact_sheet(rows).save(temporary, quality=90)
    return path
