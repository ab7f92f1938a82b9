"""Contents x styles: the pictures, and one contact sheet of them."""

from pathlib import Path

from PIL import Image

from adain import images, inference


def contact_sheet(rows: list[list[Image.Image | None]], cell: int = 256, gap: int = 6) -> Image.Image:
    """Pictures in rows and columns on white, each fitted into a square of `cell` pixels; None leaves one empty."""
    sheet = Image.new("RGB", (max(map(len, rows)) * (cell + gap) + gap, len(rows) * (cell + gap) + gap), "white")
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            if picture is not None:
                small = picture.copy()
                small.thumbnail((cell, cell), Image.Resampling.LANCZOS)
                room = ((cell - side) // 2 for side in small.size)
                left, top = (gap + n * (cell + gap) + rest for n, rest in zip((x, y), room, strict=True))
                sheet.paste(small, (left, top))
    return sheet


def paint_grid(
    content: str | Path,
    style: str | Path,
    output: str | Path,
    method: str = "adain",
    alpha: float = 1.0,
    size: int | None = None,
) -> Path:
    """Paint every content of a folder in every style of another into `output`; returns the contact sheet's path.

    The sheet shows the styles above and the contents on the left. Raises as `adain.stylize` does.
    """
    output = Path(output)
    contents, styles = images.files(Path(content)), images.files(Path(style))
    ready = inference.prepare(method)
    codes = [inference.encode_style(ready, path) for path in styles]
    rows: list[list[Image.Image | None]] = [[None, *map(images.read, styles)]]
    for source in contents:
        painted = [inference.stylize(source, code, ready, alpha=alpha, size=size) for code in codes]
        for picture, path in zip(painted, styles, strict=True):
            images.save(picture, output / f"{source.stem}__{path.stem}.png")
        rows.append([images.read(source), *map(images.to_image, painted)])
    sheet = output / "sheet.png"
    with images.replacing(sheet) as temporary:
        contact_sheet(rows).save(temporary)
    return sheet
