"""Pictures: files to tensors and back."""

import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

SUFFIXES: dict[str, dict[str, Any]] = {
    ".png": {},
    ".jpg": {"quality": 95},
    ".jpeg": {"quality": 95},
    ".webp": {"quality": 95},
}
"""The formats written, with the options given to Pillow. Anything that Pillow knows is read."""

UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for pictures that are truncated, broken, huge or no pictures at all."""


def read(source: str | Path | bytes | Image.Image, shrink: int | None = None) -> Image.Image:
    """The picture in a file, in its bytes or in memory, upright and in RGB.

    EXIF orientation is applied; transparency is laid over white; 16-bit grey is scaled to 8 bits. `shrink` allows a
    JPEG to be decoded at a fraction of its size, with the shorter side still at least that.

    Raises:
        OSError: no such file, or no readable picture in it; the message names it.
    """
    name = source if isinstance(source, str | Path) else "picture"
    try:
        with _open(source) as image:
            if shrink and image is not source:
                image.draft("RGB", (shrink, shrink))
            return _to_rgb(ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{name} is a folder; name a picture") from None
    except UNREADABLE as error:
        raise OSError(f"{name} is not a readable picture ({error})") from error


def _open(source: str | Path | bytes | Image.Image) -> AbstractContextManager[Image.Image]:
    if isinstance(source, Image.Image):
        return nullcontext(source)  # not ours to close
    return Image.open(BytesIO(source) if isinstance(source, bytes) else source)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float32)
        # Integers are 16-bit grey; floats are in [0, 1], in 8 bits or in 16, which only their values tell.
        white = 65535 if image.mode != "F" else next(top for top in (1, 255, 65535, np.inf) if values.max() <= top)
        image = Image.fromarray((values * (255 / white)).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")


def resize(image: Image.Image, size: int | None) -> Image.Image:
    """`image` with its shorter side at `size` pixels (Lanczos), its aspect kept; None leaves it as it is."""
    if size is None or size == min(image.size):
        return image
    width, height = (max(1, round(side * size / min(image.size))) for side in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS)


def to_tensor(image: Image.Image) -> Tensor:
    """(1, 3, H, W), RGB in [0, 1], channels last in memory, which is both Pillow's order and the faster one."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def to_image(picture: Tensor) -> Image.Image:
    """The picture in (1, 3, H, W) or (3, H, W), clamped to [0, 1] and rounded to 8 bits."""
    if picture.dim() == 4 and len(picture) == 1:
        picture = picture[0]
    if picture.dim() != 3 or len(picture) != 3:
        raise ValueError(f"a picture has the shape (3, H, W) or (1, 3, H, W), not {tuple(picture.shape)}")
    values = (picture.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(values.permute(1, 2, 0).contiguous().cpu().numpy())


def load_picture(source: str | Path | bytes | Image.Image, size: int | None = None) -> Tensor:
    """The picture as (1, 3, H, W), RGB in [0, 1]; `size` sets its shorter side in pixels. Errors as in `read`."""
    check_size(size)
    # Decoded no smaller than twice the size, so that Lanczos has the last word.
    return to_tensor(resize(read(source, shrink=size and 2 * size), size))


def check_size(size: int | None) -> None:
    """ValueError unless the size is None or at least 1 pixel."""
    if size is not None and size < 1:
        raise ValueError(f"a size is at least 1 pixel, not {size}")


def save(picture: Tensor, path: str | Path) -> None:
    """Write the picture in the format of the path's suffix: wholly, or not at all.

    Raises:
        ValueError: a suffix outside `SUFFIXES`, or not one picture.
        OSError: a path that cannot be written.
    """
    path = check_suffix(path)
    image = to_image(picture)
    with replacing(path) as temporary:
        image.save(temporary, **SUFFIXES[path.suffix.lower()])


def files(folder: Path) -> list[Path]:
    """Every file below `folder` that is named like a picture, sorted; ValueError if there is none.

    A file in its place is returned alone.
    """
    if folder.is_file():
        return [folder]
    readable = {suffix for suffix, kind in Image.registered_extensions().items() if kind in Image.OPEN}
    files = [path for path in folder.rglob("*") if path.suffix.lower() in readable and not path.name.startswith(".")]
    if not files:
        raise ValueError(f"{folder} holds no pictures, nor do its subfolders")
    return sorted(files)


def check_suffix(path: str | Path) -> Path:
    """The path, if a picture can be written to it; ValueError that names the suffixes allowed otherwise."""
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot write {path.name}: the name must end in one of {', '.join(SUFFIXES)}")
    return path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file to write in a `with` block, which becomes `path` if the block succeeds."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Same folder, so that the rename is atomic; same suffix, from which writers tell the format.
    temporary = path.with_name(f".{path.stem}-{os.getpid()}-{threading.get_ident()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
