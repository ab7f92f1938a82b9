"""Pictures: files to tensors and back, with what a file carries besides its colours."""

import logging
import os
import platform
import re
import stat
import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import psutil
import pyvips
import torch
import torch.nn.functional as F
from PIL import Image, ImageChops, ImageCms, ImageOps
from torch import Tensor

from adain.errors import ContentError

log = logging.getLogger(__name__)

JPEG = {"Q": 95, "background": 255, "subsample_mode": "on"}
SUFFIXES: dict[str, dict[str, Any]] = {".png": {"filter": "sub"}, ".jpg": JPEG, ".jpeg": JPEG, ".webp": {"Q": 95}}
SUFFIXES |= {".tif": {}, ".tiff": {}}
"""The formats written, with the options given to libvips. Anything that Pillow knows is read."""

MAX_PIXELS = 512 * 1024**2
"""The most pixels a picture may have, unless more are asked for: twice 16384 x 16384."""

BROKEN = (SyntaxError, IndexError, TypeError, RuntimeError, struct.error)  # what Pillow's readers raise besides
UNREADABLE = (OSError, ValueError, EOFError, *BROKEN, Image.DecompressionBombError, pyvips.Error)
"""What is raised for pictures that are truncated, broken, huge or no pictures at all."""

STRIP = 256
"""How many rows are converted at once, so that a large picture is not held in several forms."""

WHITE = {torch.uint8: 255, torch.uint16: 65535}
"""The largest value of each integer type that a picture may have."""

STALE = {*range(254, 270), *range(273, 282), 284, 301, *range(317, 348), *range(512, 533), 700, 33723, 34377, 34675}
"""EXIF tags for how the file was laid out, turned or coloured, which the picture read is no longer."""

Source = str | Path | bytes | Image.Image
"""A path (`-` is standard input), a file's bytes, or a picture in memory."""


@dataclass(frozen=True)
class ReadOptions:
    """Which picture files are accepted, see `load`."""

    max_pixels: int = MAX_PIXELS
    truncated: bool = False


DEFAULT_READING = ReadOptions()


@dataclass(frozen=True)
class Photo:
    """A picture as its file holds it: upright, in sRGB, and with what else the file carries."""

    pixels: Tensor
    """(1, 3, H, W), uint8 or uint16, channels last in memory; transparency is laid over white."""
    alpha: Tensor | None = None
    """(1, 1, H, W) of the same type; 0 is transparent."""
    exif: bytes | None = None
    """Without orientation, layout and thumbnail."""
    profile: bool = False
    """Whether the file had a colour profile."""


def load(source: Source, size: int | None = None, max_pixels: int = MAX_PIXELS, truncated: bool = False) -> Photo:
    """The picture with all that its file carries; `size` sets its shorter side in pixels (Lanczos).

    16 bits a channel of a PNG or TIFF are kept, but not their EXIF. A broken colour profile is left out, and of several
    frames or pages the first is taken, each with a warning. `truncated` takes what there is of a file cut short.

    Raises:
        ValueError: a size below 1.
        ContentError: a size that would make more than `max_pixels`.
        OSError: no such file, no readable picture in it, or one of more than `max_pixels`; the message names it.
    """
    check_size(size)
    with _open(source, max_pixels, truncated) as image:
        check_result(image.size, size, max_pixels)
        # In other formats ";16" means 16 bits a pixel.
        if image.format in ("PNG", "TIFF") and ";16" in str(image.tile):
            return _load_deep(image, size, truncated)
        profile = bool(image.info.get("icc_profile"))
        # Decoded no smaller than twice the size, so that Lanczos has the last word.
        exif = _decode(image, size and 2 * size, truncated)
        image, alpha = _colours(image)
        mask = _batch(_array(resize(alpha, size))) if alpha else None
        return Photo(_batch(_array(resize(image, size))), mask, exif, profile)


def load_picture(
    source: Source, size: int | None = None, max_pixels: int = MAX_PIXELS, truncated: bool = False
) -> Tensor:
    """The picture as (1, 3, H, W), RGB in [0, 1]; arguments and errors as in `load`."""
    pixels = load(source, size, max_pixels, truncated).pixels
    return pixels.float().div_(WHITE[pixels.dtype])


def read(
    source: Source, shrink: int | None = None, max_pixels: int = MAX_PIXELS, truncated: bool = False
) -> Image.Image:
    """The picture in 8 bits a channel for Pillow, upright, in sRGB, transparency laid over white.

    `shrink` allows a JPEG to be decoded at a fraction of its size, with the shorter side still at least that. The
    rest is as in `load`.
    """
    with _open(source, max_pixels, truncated) as image:
        _decode(image, shrink, truncated)
        return _colours(image)[0]


@contextmanager
def _open(source: Source, max_pixels: int, truncated: bool) -> Iterator[Any]:
    """The picture, not yet decoded; what goes wrong until it is closed becomes an OSError with its name."""
    name = str(source) if isinstance(source, str | Path) else "picture"
    name = "standard input" if name == "-" else name
    try:
        if isinstance(source, Image.Image):
            yield _checked(source, name, max_pixels).copy()
        else:
            with _file(source, truncated) as file:
                yield _checked(_identify(file), name, max_pixels)  # not kept here: once decoded, it may be large
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such file") from None
    except PermissionError:
        raise PermissionError(f"{name} cannot be read (permission denied)") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{name} is a folder; name a picture") from None
    except ContentError:
        raise
    except UNREADABLE as error:
        raise OSError(f"{name} is not a readable picture ({' '.join(str(error).split())})") from error


def _file(source: str | Path | bytes, truncated: bool) -> BinaryIO:
    if not isinstance(source, bytes):
        if str(source) != "-" and not truncated:
            return Path(source).open("rb")
        source = sys.stdin.buffer.read() if str(source) == "-" else Path(source).read_bytes()
    # A progressive JPEG shows nothing before it has come to an end.
    return BytesIO(source + b"\xff\xd9" if truncated and source.startswith(b"\xff\xd8") else source)


def _identify(file: BinaryIO) -> Any:
    """Pillow's `Image.open` without its limit on pixels, which is the whole process's: ours comes with each call."""
    prefix = file.read(16)
    Image.preinit()  # the common formats first
    Image.init()
    for factory, accept in list(Image.OPEN.values()):
        with suppress(*BROKEN):  # not this format
            accepted = accept is None or accept(prefix)
            if accepted and not isinstance(accepted, str):  # a string says why not
                file.seek(0)
                return factory(file, "")
    raise OSError("of no format known")


def _checked(image: Any, name: str, max_pixels: int) -> Any:
    if image.width * image.height > max_pixels:
        wrong = f"{image.width} x {image.height} is over the limit of {max_pixels} pixels"
        raise Image.DecompressionBombError(f"{wrong}; unless it is a decompression bomb, raise --max-pixels")
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a camera's JPEG with a preview
        log.warning("%s is animated or has several pages; only the first is used", name)
    return image


def _decode(image: Any, shrink: int | None, truncated: bool) -> bytes | None:
    """Decode the picture and turn it upright, in place; its EXIF without what is stale."""
    if shrink:
        image.draft("RGB", (shrink, shrink))
    try:
        image.load()
    except UNREADABLE:
        if not truncated:
            raise
        image.tile = []  # nothing left to decode: what has been stays, and Pillow's global switch is not needed
        image.load()
    try:
        ImageOps.exif_transpose(image, in_place=True)
        exif = image.getexif()
        for tag in STALE & exif.keys():
            del exif[tag]
        return exif.tobytes() if exif else None
    except Exception as error:  # every kind of damage raises its own
        log.warning("EXIF is broken and left out (%s)", error)
        return None


def _colours(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours in sRGB over white, and the transparency in mode L if there is any."""
    if image.mode[0] in "IF":  # deep grey, which Pillow would clip at 255; only the values tell what is white
        values = np.asarray(image)
        tops = (65535, 2**32) if image.mode[0] == "I" else (1, 255, 65535, values.max())
        if not np.isfinite(values).all():
            raise ValueError("expected finite values, got NaN or infinity")
        white = next(top for top in tops if values.max() <= top)
        image = Image.fromarray((values * (255 / white)).clip(0, 255).round().astype(np.uint8))
    mode, alpha = {"1": "L", "L": "L", "LA": "L", "La": "L", "CMYK": "CMYK"}.get(image.mode, "RGB"), None
    found = _to_srgb(image.info.get("icc_profile"), mode)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image, alpha = image.convert("RGB"), image.getchannel("A")
    if found:
        space, transform = found
        image = ImageCms.applyTransform(image if image.mode == space else image.convert(space), transform) or image
    image = image if image.mode == "RGB" else image.convert("RGB")
    if alpha:
        image.paste((255, 255, 255), mask=ImageChops.invert(alpha))
    return image, alpha


@lru_cache(maxsize=32)
def _to_srgb(data: bytes | None, mode: str) -> tuple[str, ImageCms.ImageCmsTransform] | None:
    """What brings a picture of `mode` to sRGB, and the mode it is for; None without a profile or if it is sRGB."""
    if not data:
        return None
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    try:
        profile = ImageCms.ImageCmsProfile(BytesIO(data))
        space = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[profile.profile.xcolor_space.strip()]
        if space != mode and (space, mode) != ("RGB", "L"):
            raise ValueError(f"it is for {space}, not {mode}")
        transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), space, "RGB", intent, flags)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError) as error:
        log.warning("a colour profile is broken and left out (%s)", error)
        return None
    # Most profiles are sRGB under one of many names: what changes nothing shall cost neither time nor a rounding.
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    probe = Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)).convert(space)
    after = ImageCms.applyTransform(probe, transform) or probe
    change = np.asarray(ImageChops.difference(after, probe.convert("RGB"))).max()
    return (space, transform) if change > 1 else None


def _load_deep(image: Any, size: int | None, truncated: bool) -> Photo:
    """As `load`, for the formats of which Pillow would cut the channels to 8 bits."""
    image.fp.seek(0)
    deep = pyvips.Image.new_from_buffer(image.fp.read(), "", memory=True, fail_on="none" if truncated else "error")
    deep = deep.autorot()
    profile = deep.get("icc-profile-data") if deep.get_typeof("icc-profile-data") else None
    if found := _to_srgb(profile, {1: "L", 4: "CMYK"}.get(deep.bands - deep.hasalpha(), "RGB")):
        deep = deep.colourspace("rgb16") if found[0] == "RGB" else deep
        deep = deep.icc_transform("srgb", intent="relative", black_point_compensation=True, depth=16)
    deep = deep.colourspace("rgb16")
    if deep.hasalpha():
        deep = deep.flatten(background=[65535], max_alpha=65535).bandjoin(deep[3])
    if size:
        width, height = scaled((deep.width, deep.height), size)
        deep = deep.resize(width / deep.width, vscale=height / deep.height)
    alpha = _batch(deep[3].numpy()) if deep.bands == 4 else None
    return Photo(_batch(deep[:3].numpy()), alpha, profile=bool(profile))


def resize(image: Image.Image, size: int | None) -> Image.Image:
    """`image` with its shorter side at `size` pixels (Lanczos), its aspect kept; None leaves it as it is."""
    sides = scaled(image.size, size)
    return image if sides == image.size else image.resize(sides, Image.Resampling.LANCZOS)


def scaled(sides: tuple[int, int], size: int | None) -> tuple[int, int]:
    """Sides in pixels of which the shorter is at `size`, their ratio kept; None leaves them as they are."""
    width, height = (max(1, round(side * size / min(sides))) if size else side for side in sides)
    return width, height


def _array(image: Image.Image) -> np.ndarray:
    """The values of an RGB or L picture, (H, W, C), by strips: Pillow's own way takes two copies of all at once."""
    width, height = image.size
    values = np.empty((height, width, len(image.getbands())), np.uint8)
    for top in range(0, height, STRIP):
        strip = np.asarray(image.crop((0, top, width, min(height, top + STRIP))))
        values[top : top + STRIP] = strip.reshape(len(strip), width, -1)
    return values


def _batch(values: np.ndarray) -> Tensor:
    """(1, C, H, W), channels last, in the memory of (H, W, C) or (H, W)."""
    return torch.from_numpy(values.reshape(*values.shape[:2], -1)).permute(2, 0, 1)[None]


def numbers(pixels: Tensor) -> Tensor:
    """In [0, 1] and float32, whatever their type."""
    return pixels.float() / WHITE.get(pixels.dtype, 1)


def to_tensor(image: Image.Image) -> Tensor:
    """(1, 3, H, W), RGB in [0, 1], channels last in memory, which is both Pillow's order and the faster one."""
    return _batch(_array(image)).float().div_(255)


def to_image(picture: Tensor) -> Image.Image:
    """The picture, (1, 3, H, W) or (3, H, W), as `save` takes it; clamped and rounded to 8 bits."""
    return Image.fromarray(_values(_planes(picture), torch.uint8))


def _planes(picture: Tensor) -> Tensor:
    if picture.dim() == 4 and len(picture) == 1:
        picture = picture[0]
    if picture.dim() != 3 or len(picture) != 3:
        raise ValueError(f"a picture has the shape (3, H, W) or (1, 3, H, W), not {tuple(picture.shape)}")
    if not picture.is_floating_point() and picture.dtype not in WHITE:
        raise ValueError(f"a picture is floating in [0, 1], uint8 or uint16, not {picture.dtype}")
    return picture.detach()


def _values(planes: Tensor, dtype: torch.dtype) -> np.ndarray:
    """(C, H, W) as (H, W, C) in `dtype`: by strips, or without a copy where only the order differs."""
    if planes.dtype == dtype:
        return planes.cpu().permute(1, 2, 0).contiguous().numpy()
    values = torch.empty((*planes.shape[1:], len(planes)), dtype=dtype)
    scale = WHITE[dtype] / WHITE.get(planes.dtype, 1)
    for rows, strip in zip(values.split(STRIP), planes.split(STRIP, dim=1), strict=True):
        rows.copy_((strip.float() * scale).clamp_(0, WHITE[dtype]).round_().permute(1, 2, 0))
    return values.numpy()


def check_size(size: int | None) -> None:
    """ValueError unless the size is None or at least 1 pixel."""
    if size is not None and size < 1:
        raise ValueError(f"a size is at least 1 pixel, not {size}")


def check_result(sides: tuple[int, int], size: int | None, max_pixels: int = MAX_PIXELS) -> None:
    """ContentError if a picture of those sides has more than `max_pixels` once its shorter side is at `size`."""
    width, height = scaled(sides, size)
    if width * height > max_pixels:
        raise ContentError(
            f"the result would have {width} x {height} pixels, over the limit of {max_pixels};"
            " use a smaller --size, or raise --max-pixels"
        )


def save(picture: Tensor, path: str | Path, like: Photo | None = None) -> None:
    """Write the picture in the format of the path's suffix: wholly, or not at all. `-` is a PNG on standard output.

    Args:
        picture: (3, H, W) or (1, 3, H, W): floats in [0, 1] or uint8, written in 8 bits a channel, or uint16, written
            in 16 where the format can (PNG, TIFF).
        path: where to.
        like: where transparency (of any size; laid over white in a JPEG) and EXIF (none in a TIFF) come from. If it
            had a colour profile, that of sRGB is embedded.

    Raises:
        ValueError: a suffix outside `SUFFIXES`, or not one picture.
        OSError: a path that cannot be written.
    """
    path, like = check_suffix(path), like or Photo(picture)
    planes = _planes(picture)
    suffix = path.suffix.lower() if str(path) != "-" else ".png"
    deep = planes.dtype == torch.uint16 and suffix in (".png", ".tif", ".tiff")
    dtype = torch.uint16 if deep else torch.uint8
    values = _values(planes, dtype)
    if (alpha := like.alpha) is not None:
        sides = values.shape[:2]
        if alpha.shape[2:] != sides:
            alpha = F.interpolate(alpha.float().div_(WHITE[alpha.dtype]), sides, mode="bilinear", antialias=True)
        values = np.concatenate((values, _values(alpha[0], dtype)), axis=2)
    image = pyvips.Image.new_from_array(values, interpretation="rgb16" if deep else "srgb")
    for field, data in {"exif-data": like.exif, "icc-profile-data": like.profile and _srgb_profile()}.items():
        if data:
            image.set_type(pyvips.GValue.blob_type, field, data)
    try:
        if str(path) == "-":
            sys.stdout.buffer.write(image.write_to_buffer(suffix, **SUFFIXES[suffix]))
            sys.stdout.buffer.flush()
        else:
            with replacing(path) as temporary:
                image.write_to_target(pyvips.Target.new_to_file(str(temporary)), suffix, **SUFFIXES[suffix])
    except pyvips.Error as error:
        *_, reason = str(error).strip().splitlines()  # the last is the system's, after the names of libvips's functions
        raise OSError(f"cannot write {path} ({reason})") from error


@lru_cache(maxsize=1)
def _srgb_profile() -> bytes:
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return data[:24] + struct.pack(">6H", 2000, 1, 1, 0, 0, 0) + data[36:]  # not today: equal pictures, equal files


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
    """The path, if a picture can be written to it, or `-`; ValueError that names the suffixes allowed otherwise."""
    path = Path(path)
    if str(path) != "-" and path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"cannot write {path.name}: the name must end in one of {', '.join(SUFFIXES)}")
    return path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary file to write in a `with` block, which becomes `path` if the block succeeds.

    A symbolic link stays one: the file that it points to is written. A file that is replaced passes on its permissions.

    Raises:
        OSError: a path that cannot be written; the message names it.
    """
    target = Path(os.path.realpath(path))
    # Same folder, so that the rename is atomic; same suffix, from which writers tell the format.
    temporary = target.with_name(f".adain-{_host()}-{os.getpid()}-{threading.get_ident()}{Path(path).suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise type(error)(f"cannot write {path} ({error.strerror}); choose another output") from error
    try:
        yield temporary
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale(folder: Path) -> None:
    """Delete the temporary files of `replacing` in `folder` that dead processes of this host left behind."""
    ours = re.compile(rf"\.adain-{_host()}-(\d+)-\d+(\.\w+)?")
    for path in folder.glob(".adain-*"):
        found = ours.fullmatch(path.name)
        if found and not psutil.pid_exists(int(found[1])):
            path.unlink(missing_ok=True)


def _host() -> str:
    """The name of this machine, without dashes; several may share the folder that is written to."""
    return re.sub(r"\W", "_", platform.node())
