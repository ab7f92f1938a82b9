"""Pictures: files to tensors and back, with what a file carries besides its colours."""

import logging
import os
import shutil
import struct
import sys
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import ExifTags, Image, ImageChops, ImageCms, TiffImagePlugin
from torch import Tensor

log = logging.getLogger(__name__)

SUFFIXES: dict[str, dict[str, Any]] = {
    ".png": {},
    ".jpg": {"quality": 95},
    ".jpeg": {"quality": 95},
    ".webp": {"quality": 95},
    ".tif": {},
    ".tiff": {},
}
"""The formats written, with the options given to Pillow. Anything that Pillow knows is read."""

MAX_PIXELS = 512 * 1024**2
"""The most pixels a picture may have, unless more are asked for: twice 16384 x 16384."""

UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError)
"""What Pillow raises for pictures that are truncated, broken, huge or no pictures at all."""

WHITE = {torch.uint8: 255, torch.uint16: 65535}
"""The largest value of each integer type that a picture may have."""

TURNS = dict(enumerate(("FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270"), 2))
TURNS |= {7: "TRANSVERSE", 8: "ROTATE_90"}
"""By the EXIF orientation, Pillow's transposition that undoes it."""

STALE = {254, 255, *range(256, 269), *range(273, 282), 284, 301, *range(317, 348), *range(512, 533)}
STALE |= {700, 33723, 34377, 34675, 40961, 40962, 40963, 40965}
"""EXIF tags for how the file was laid out, turned or coloured, which the picture read is no longer."""

FOLDERS = (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)
"""EXIF tags that hold further tags."""

Source = str | Path | bytes | Image.Image
"""A path (`-` is standard input), a file's bytes, or a picture in memory."""


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

    More than 8 bits a channel are kept, in uint16. A broken colour profile is left out, and of several frames or
    pages the first is taken, each with a warning. `truncated` takes what there is of a file that was cut short.

    Raises:
        ValueError: a size below 1.
        OSError: no such file, no readable picture in it, or one of more than `max_pixels`; the message names it.
    """
    check_size(size)
    with _open(source, max_pixels, truncated) as image:
        name, profile = _name(source), bool(image.info.get("icc_profile"))
        # Pillow would cut the channels to 8 bits. (In other formats ";16" means 16 bits a pixel.)
        if image is not source and image.format in ("PNG", "TIFF") and ";16" in str(image.tile):
            return _load_deep(image, name, size, truncated)
        # Decoded no smaller than twice the size, so that Lanczos has the last word.
        image, exif = _decode(image, name, None if image is source else size and 2 * size, truncated)
        if deep := _deep_grey(image):
            grey = np.asarray(resize(deep, size)).clip(0, 65535).round().astype(np.uint16)
            return Photo(_batch(np.repeat(grey[:, :, None], 3, axis=2)), None, exif, profile)
        image, alpha = _colours(image, name)
        kept = None if alpha is None else _batch(_array(resize(alpha, size)))
        return Photo(_batch(_array(resize(image, size))), kept, exif, profile)


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
        image, _ = _decode(image, _name(source), None if image is source else shrink, truncated)
        if deep := _deep_grey(image):
            image = Image.fromarray((np.asarray(deep) / 257).clip(0, 255).round().astype(np.uint8))
        image, _ = _colours(image, _name(source))
        return image.copy() if image is source else image


def _name(source: Source) -> str:
    if not isinstance(source, str | Path):
        return "picture"
    return "standard input" if str(source) == "-" else str(source)


@contextmanager
def _open(source: Source, max_pixels: int, truncated: bool) -> Iterator[Any]:
    """The picture, not yet decoded; what goes wrong until it is closed becomes an OSError with its name."""
    name = _name(source)
    try:
        if isinstance(source, Image.Image):
            yield _checked(source, name, max_pixels)
        else:
            with _file(source, truncated) as file:
                yield _checked(_identify(file), name, max_pixels)  # not kept here: once decoded, it may be large
    except FileNotFoundError:
        raise FileNotFoundError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise IsADirectoryError(f"{name} is a folder; name a picture") from None
    except UNREADABLE as error:
        raise OSError(f"{name} is not a readable picture ({error})") from error


def _file(source: str | Path | bytes, truncated: bool) -> BinaryIO:
    if not isinstance(source, bytes) and str(source) == "-":
        source = sys.stdin.buffer.read()
    if not isinstance(source, bytes) and not truncated:
        return Path(source).open("rb")
    data = source if isinstance(source, bytes) else Path(source).read_bytes()
    # A progressive JPEG shows nothing before it has come to an end.
    return BytesIO(data + b"\xff\xd9" if truncated and data.startswith(b"\xff\xd8") else data)


def _identify(file: BinaryIO) -> Any:
    """Pillow's `Image.open` without its limit on pixels, which is the whole process's: ours comes with each call."""
    prefix = file.read(16)
    for prepare in (Image.preinit, Image.init):  # first the common formats, then all
        prepare()
        for factory, accept in list(Image.OPEN.values()):
            accepted = accept is None or accept(prefix)
            if not accepted or isinstance(accepted, str):  # a string says why not
                continue
            file.seek(0)
            try:
                return factory(file, "")
            except (SyntaxError, IndexError, TypeError, struct.error):
                continue  # not this format
    raise OSError("of no format known")


def _checked(image: Any, name: str, max_pixels: int) -> Any:
    own = Image.MAX_IMAGE_PIXELS
    if own is not None and own < 1024**3 // 12:  # below Pillow's default: the program around us wants less
        max_pixels = min(max_pixels, own)
    if image.width * image.height > max_pixels:
        raise Image.DecompressionBombError(
            f"{image.width} x {image.height} is over the limit of {max_pixels} pixels; "
            "unless it is a decompression bomb, raise --max-pixels"
        )
    if getattr(image, "is_animated", False) and image.format != "MPO":  # a camera's JPEG with a preview
        log.warning("%s is animated or has several pages; only the first is used", name)
    return image


def _decode(image: Any, name: str, shrink: int | None, truncated: bool) -> tuple[Image.Image, bytes | None]:
    """The picture, upright, and its EXIF."""
    if shrink:
        image.draft("RGB", (shrink, shrink))
    try:
        image.load()
    except UNREADABLE:
        if not truncated or not hasattr(image, "tile"):
            raise
        image.tile = []  # nothing left to decode: what has been stays, and Pillow's global switch is not needed
        image.load()
    orientation, exif = _exif(image, name)
    if orientation not in TURNS:
        return image, exif
    turned = image.transpose(Image.Transpose[TURNS[orientation]])
    # Without EXIF and XMP, whose orientation would turn it again.
    turned.info = {key: image.info[key] for key in ("icc_profile", "transparency") if key in image.info}
    return turned, exif


def _exif(image: Image.Image, name: str) -> tuple[int, bytes | None]:
    """The orientation, and the EXIF without what is stale."""
    orientation = 1
    try:
        exif, kept = image.getexif(), Image.Exif()
        orientation = exif.get(ExifTags.Base.Orientation, 1)
        for tag in exif.keys() - STALE:
            folder = exif.get_ifd(tag) if tag in FOLDERS else {}
            kept[tag] = {key: folder[key] for key in folder.keys() - STALE} if tag in FOLDERS else exif[tag]
        return orientation, kept.tobytes() if kept else None
    except Exception as error:  # every kind of damage raises its own
        log.warning("%s: its EXIF is broken and left out (%s)", name, error)
        return orientation, None


def _deep_grey(image: Image.Image) -> Image.Image | None:
    """A picture of 16-bit or floating grey in mode F with white at 65535; None for any other."""
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return None
    values = np.nan_to_num(np.asarray(image, dtype=np.float32))
    # Integers are 16-bit grey; floats are in [0, 1], in 8 bits or in 16, which only their values tell.
    white = 65535 if image.mode != "F" else next(top for top in (1, 255, 65535, np.inf) if values.max() <= top)
    return Image.fromarray(values * np.float32(65535 / white))


def _colours(image: Image.Image, name: str) -> tuple[Image.Image, Image.Image | None]:
    """The colours in sRGB over white, and the transparency in mode L if there is any."""
    data, alpha = image.info.get("icc_profile"), None
    mode = {"1": "L", "L": "L", "LA": "L", "La": "L", "CMYK": "CMYK"}.get(image.mode, "RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image, alpha = image.convert("RGB"), image.getchannel("A")
    if found := _to_srgb(data, mode, name):
        space, transform = found
        image = ImageCms.applyTransform(image if image.mode == space else image.convert(space), transform) or image
    image = image if image.mode == "RGB" else image.convert("RGB")
    if alpha:
        image.paste((255, 255, 255), mask=ImageChops.invert(alpha))
    return image, alpha


def _to_srgb(data: bytes | None, mode: str, name: str) -> tuple[str, ImageCms.ImageCmsTransform] | None:
    """What brings a picture of `mode` to sRGB, and the mode it is for; None without a profile or if it is sRGB."""
    if not data:
        return None
    try:
        space, transform = _transform(data)
        if space != mode and (space, mode) != ("RGB", "L"):
            raise ValueError(f"it is for {space}, not {mode}")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError, KeyError) as error:
        log.warning("%s: its colour profile is broken and left out (%s)", name, error)
        return None
    return (space, transform) if transform else None


@lru_cache(maxsize=32)
def _transform(data: bytes) -> tuple[str, ImageCms.ImageCmsTransform | None]:
    profile = ImageCms.ImageCmsProfile(BytesIO(data))
    mode = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}[profile.profile.xcolor_space.strip()]
    intent, flags = ImageCms.Intent.RELATIVE_COLORIMETRIC, ImageCms.Flags.BLACKPOINTCOMPENSATION
    transform = ImageCms.buildTransform(profile, ImageCms.createProfile("sRGB"), mode, "RGB", intent, flags)
    # Most profiles are sRGB under one of many names: what changes nothing shall cost neither time nor a rounding.
    steps = np.linspace(0, 255, 9).round().astype(np.uint8)
    probe = Image.fromarray(np.stack(np.meshgrid(steps, steps, steps), axis=-1).reshape(27, 27, 3)).convert(mode)
    after = ImageCms.applyTransform(probe, transform)
    assert after is not None
    change = np.asarray(ImageChops.difference(after, probe.convert("RGB"))).max()
    return mode, transform if change > 1 else None


def _load_deep(image: Any, name: str, size: int | None, truncated: bool) -> Photo:
    """A PNG or TIFF of 16 bits a channel, which Pillow opens but cannot hold."""
    import pyvips

    options = {"access": "sequential", "fail_on": "none" if truncated else "error"}
    data = image.info.get("icc_profile")
    try:
        if isinstance(image.fp, BytesIO):
            deep = pyvips.Image.new_from_buffer(image.fp.getvalue(), "", **options)
        else:  # not new_from_file, which takes brackets in a name for options
            loader = {"PNG": pyvips.Image.pngload, "TIFF": pyvips.Image.tiffload}[image.format]
            deep = loader(image.fp.name, revalidate=True, **options)
        if deep.get_typeof("exif-data"):  # Pillow would first decode a PNG to its end
            image.info["exif"] = deep.get("exif-data")
        readable = image.format == "TIFF" or "exif" in image.info
        orientation, exif = _exif(image, name) if readable else (1, None)
        if deep.hasalpha() or orientation != 1:
            deep = deep.copy_memory()  # for it is read more than once, or not in the file's order
        deep = deep.autorot()
        alpha = deep[deep.bands - 1] if deep.hasalpha() else None
        deep = deep[: deep.bands - 1] if alpha else deep
        if found := _to_srgb(data, {1: "L", 4: "CMYK"}.get(deep.bands, "RGB"), name):
            deep = deep.colourspace("rgb16") if found[0] == "RGB" else deep
            deep = deep.icc_transform("srgb", intent="relative", black_point_compensation=True, depth=16)
        deep = deep.colourspace("rgb16")[:3]
        if alpha:
            deep = deep.bandjoin(alpha).flatten(background=[65535], max_alpha=65535)
        width, height = _scaled((deep.width, deep.height), size)
        planes = [
            plane.resize(width / plane.width, vscale=height / plane.height) if size else plane
            for plane in (deep, alpha)
            if plane
        ]
        pixels, *rest = [_batch(plane.numpy()) for plane in planes]
    except pyvips.Error as error:
        raise OSError(" ".join(str(error).split())) from error
    return Photo(pixels, rest[0] if rest else None, exif, bool(data))


def resize(image: Image.Image, size: int | None) -> Image.Image:
    """`image` with its shorter side at `size` pixels (Lanczos), its aspect kept; None leaves it as it is."""
    sides = _scaled(image.size, size)
    return image if sides == image.size else image.resize(sides, Image.Resampling.LANCZOS)


def _scaled(sides: tuple[int, int], size: int | None) -> tuple[int, int]:
    width, height = (max(1, round(side * size / min(sides))) if size else side for side in sides)
    return width, height


def _array(image: Image.Image) -> np.ndarray:
    """The values of an RGB or L picture, (H, W, C), by strips: Pillow's own way takes two copies of all at once."""
    values = np.empty((image.height, image.width, len(image.getbands())), np.uint8)
    for rows in _strips(image.height, image.width):
        strip = np.asarray(image.crop((0, rows.start, image.width, rows.stop)))
        values[rows] = strip.reshape(values[rows].shape)
    return values


def _strips(height: int, width: int) -> Iterator[slice]:
    step = max(1, 2**24 // width)
    return (slice(top, min(height, top + step)) for top in range(0, height, step))


def _batch(values: np.ndarray) -> Tensor:
    """(1, C, H, W), channels last, in the memory of (H, W, C) or (H, W)."""
    return torch.from_numpy(values.reshape(*values.shape[:2], -1)).permute(2, 0, 1)[None]


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
    for rows in _strips(*planes.shape[1:]):
        strip = (planes[:, rows].float() * scale).clamp_(0, WHITE[dtype]).round_()
        values[rows] = strip.permute(1, 2, 0).cpu().to(dtype)
    return values.numpy()


def check_size(size: int | None) -> None:
    """ValueError unless the size is None or at least 1 pixel."""
    if size is not None and size < 1:
        raise ValueError(f"a size is at least 1 pixel, not {size}")


def save(picture: Tensor, path: str | Path, like: Photo | None = None) -> None:
    """Write the picture in the format of the path's suffix: wholly, or not at all. `-` is a PNG on standard output.

    Args:
        picture: (3, H, W) or (1, 3, H, W): floats in [0, 1] or uint8, written in 8 bits a channel, or uint16, written
            in 16 where the format can (PNG, TIFF).
        path: where to.
        like: where transparency (of any size; laid over white in a JPEG) and EXIF come from. If it had a colour
            profile, that of sRGB is embedded.

    Raises:
        ValueError: a suffix outside `SUFFIXES`, or not one picture.
        OSError: a path that cannot be written.
    """
    path = check_suffix(path)
    if str(path) == "-":
        with TemporaryDirectory() as folder:
            whole = Path(folder) / "picture.png"
            save(picture, whole, like)
            with whole.open("rb") as file:
                shutil.copyfileobj(file, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    planes, suffix = _planes(picture), path.suffix.lower()
    tiff = suffix in (".tif", ".tiff")
    dtype = torch.uint16 if planes.dtype == torch.uint16 and (tiff or suffix == ".png") else torch.uint8
    values = _values(planes, dtype)
    if like and like.alpha is not None:
        values = np.concatenate((values, _values(_fitted(like.alpha, values.shape[:2]), dtype)), axis=2)
    write = _write_tiff if tiff else _write_deep_png if dtype == torch.uint16 else _write
    with replacing(path) as temporary:
        write(temporary, values, like.exif if like else None, _srgb_profile() if like and like.profile else None)


def _fitted(alpha: Tensor, sides: tuple[int, ...]) -> Tensor:
    if alpha.shape[2:] == sides:
        return alpha[0]
    return F.interpolate(alpha.float().div_(WHITE[alpha.dtype]), sides, mode="bilinear", antialias=True)[0]


def _write(path: Path, values: np.ndarray, exif: bytes | None, profile: bytes | None) -> None:
    image, suffix = Image.fromarray(values), path.suffix.lower()
    if suffix in (".jpg", ".jpeg"):
        if image.mode == "RGBA":
            white = Image.new("RGB", image.size, "white")
            white.paste(image, mask=image.getchannel("A"))
            image = white
        if exif and len(exif) > 65533:
            log.warning("the EXIF is left out, as its %d bytes are more than a JPEG can hold", len(exif))
            exif = None
    extra: dict[str, Any] = {"exif": exif, "icc_profile": profile}
    image.save(path, **SUFFIXES[suffix], **{key: value for key, value in extra.items() if value})


def _write_deep_png(path: Path, values: np.ndarray, exif: bytes | None, profile: bytes | None) -> None:
    """PNG specification, third edition; neither Pillow nor, with EXIF as it was, libvips writes this."""
    height, width, bands = values.shape
    packer = zlib.compressobj()
    with path.open("wb") as file:

        def chunk(kind: bytes, data: bytes) -> None:
            file.write(struct.pack(">I", len(data)) + kind)
            file.write(data)
            file.write(struct.pack(">I", zlib.crc32(data, zlib.crc32(kind))))

        file.write(b"\x89PNG\r\n\x1a\n")
        chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2 if bands == 3 else 6, 0, 0, 0))
        if profile:
            chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(profile))
        if exif:
            chunk(b"eXIf", exif.removeprefix(b"Exif\0\0"))
        for rows in _strips(height, width):
            lines = values[rows].astype(">u2").view(np.uint8).reshape(rows.stop - rows.start, -1)
            lines[:, 2 * bands :] -= lines[:, : -2 * bands].copy()  # filter 1: each less its left neighbour
            chunk(b"IDAT", packer.compress(np.insert(lines, 0, 1, axis=1).data))
        chunk(b"IDAT", packer.flush())
        chunk(b"IEND", b"")


def _write_tiff(path: Path, values: np.ndarray, exif: bytes | None, profile: bytes | None) -> None:
    """Uncompressed. Pillow writes no 16 bits, nor EXIF by way of libtiff; libvips writes no EXIF."""
    height, width, bands = values.shape
    tags, given = TiffImagePlugin.ImageFileDirectory_v2(), Image.Exif()
    given.load(exif or b"")
    for tag in given:
        tags[tag] = given.get_ifd(tag) if tag in FOLDERS else given[tag]
    # Width, height, bits, uncompressed, RGB, channels, rows and bytes of the one strip, interleaved.
    bits = (8 * values.itemsize,) * bands
    layout = {256: width, 257: height, 258: bits, 259: 1, 262: 2, 277: bands, 278: height, 279: values.nbytes, 284: 1}
    tags.update(layout)
    tags[273], tags.tagtype[273] = 0, 4  # the strip follows the tags at once; Pillow adds their length
    if bands == 4:
        tags[338] = 2
    if profile:
        tags[34675] = profile
    with path.open("wb") as file:
        tags.save(file)
        file.write(values.astype(values.dtype.newbyteorder("<"), copy=False).data)


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
