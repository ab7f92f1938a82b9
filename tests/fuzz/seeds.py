"""Small valid files of every format that is read. The fuzz tests mutate them."""

import struct
from io import BytesIO

import numpy as np
import pyvips
from PIL import Image, ImageCms

SIDES = (24, 17)

DEEP = {"png": {}, "png-interlaced": {"interlace": True}, "tif": {}, "tif-tiled": {"tile": True, "tile_width": 16}}
"""16-bit files that libvips writes, with its options."""


def _noise(mode: str) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (SIDES[1], SIDES[0], 4), dtype=np.uint8)
    rgba = Image.fromarray(values)
    return rgba if mode == "RGBA" else rgba.convert("RGB").convert(mode)


def _exif() -> bytes:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif[0x0112] = 6
    exif.get_ifd(0x8825)[1] = "N"
    return exif.tobytes()


def _encoded(mode: str, format: str, **options) -> bytes:
    file = BytesIO()
    _noise(mode).save(file, format, **options)
    return file.getvalue()


def _frames() -> dict:
    """Options that save two more images; new ones, since saving leaves options in an image."""
    return {"save_all": True, "append_images": [_noise("RGB").rotate(90 * i) for i in range(1, 3)]}


def _deep(suffix: str, options: dict) -> bytes:
    values = np.random.default_rng(0).integers(0, 65536, (SIDES[1], SIDES[0], 4), dtype=np.uint16)
    image = pyvips.Image.new_from_array(values, interpretation="rgb16")
    image.set_type(pyvips.GValue.blob_type, "icc-profile-data", _profile())
    return image.write_to_buffer(f".{suffix}", **options)


def _profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _psd() -> bytes:
    header = struct.pack(">4sH6xHIIHH", b"8BPS", 1, 3, SIDES[1], SIDES[0], 8, 3)
    return header + bytes(12) + struct.pack(">H", 0) + _noise("RGB").tobytes()


def _fits() -> bytes:
    cards = "SIMPLE  =                    T", "BITPIX  =                    8", "NAXIS   =                    2"
    sides = f"NAXIS1  = {SIDES[0]:20d}", f"NAXIS2  = {SIDES[1]:20d}", "END"
    header = "".join(card.ljust(80) for card in (*cards, *sides)).ljust(2880)
    return (header.encode() + _noise("L").tobytes()).ljust(5760, b"\0")


def _xpm() -> bytes:
    rows = ",\n".join(f'"{"ab" * (SIDES[0] // 2)}"' for _ in range(SIDES[1]))
    header = f'/* XPM */\nstatic char *a[] = {{\n"{SIDES[0]} {SIDES[1]} 2 1",\n"a c #ff0000",\n"b c #00ff00",\n'
    return f"{header}{rows}\n}};".encode()


def image_files() -> dict[str, bytes]:
    """The files by name; most have 24 x 17 pixels."""
    rich = {"exif": _exif(), "icc_profile": _profile()}
    files = {
        "rgb.png": _encoded("RGB", "PNG", **rich),
        "rgba.png": _encoded("RGBA", "PNG"),
        "palette.png": _encoded("P", "PNG", transparency=bytes(range(100))),
        "bits.png": _encoded("1", "PNG", transparency=0),
        "animated.png": _encoded("RGB", "PNG", **_frames()),
        "rgb.jpg": _encoded("RGB", "JPEG", **rich),
        "gray.jpg": _encoded("L", "JPEG", progressive=True),
        "cmyk.jpg": _encoded("CMYK", "JPEG"),
        "preview.mpo": _encoded("RGB", "MPO", **_frames()),
        "rgb.webp": _encoded("RGB", "WEBP", **rich),
        "rgba.webp": _encoded("RGBA", "WEBP", lossless=True),
        "animated.webp": _encoded("RGB", "WEBP", **_frames()),
        "palette.gif": _encoded("P", "GIF", transparency=0),
        "animated.gif": _encoded("RGB", "GIF", **_frames()),
        "pages.tif": _encoded("RGB", "TIFF", **_frames(), compression="tiff_lzw"),
        "float.tif": _encoded("F", "TIFF"),
        "int.tif": _encoded("I", "TIFF"),
        "rgb.psd": _psd(),
        "gray.fits": _fits(),
        "two.xpm": _xpm(),
    }
    for compression in ("raw", "tiff_adobe_deflate", "jpeg", "packbits", "group4"):
        mode = "1" if compression == "group4" else "RGB"
        files[f"{compression}.tif"] = _encoded(mode, "TIFF", compression=compression)
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        files[f"{mode}.bmp"] = _encoded(mode, "BMP")
        files[f"{mode}.tga"] = _encoded(mode, "TGA", compression="tga_rle" if mode != "1" else None)
    for format in ("ICO", "ICNS", "PPM", "PCX", "SGI", "DDS", "JPEG2000", "AVIF", "QOI", "IM", "SPIDER", "BLP"):
        mode = {"SPIDER": "F", "BLP": "P", "ICNS": "RGBA"}.get(format, "RGB")
        files[f"{mode}.{format.lower()}"] = _encoded(mode, format)
    for format in ("XBM", "MSP"):
        files[f"1.{format.lower()}"] = _encoded("1", format)
    for name, options in DEEP.items():
        files[f"deep-{name}"] = _deep(name.partition("-")[0], options)
    return files
