"""Unusual image files through the command line: `python -m benchmarks.awkward [--output docs/pictures.md]`.

Each is stylized in a folder of its own. The exit code is 1 if one raised, changed an input, or left a file behind.
"""

import argparse
import os
import re
import struct
import sys
import tempfile
import warnings
import zlib
from contextlib import redirect_stderr, redirect_stdout
from functools import partial
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from PIL import Image, ImageOps

from adain.cli import main as cli

ROOT = Path(__file__).parents[1]
PHOTO = Image.fromarray(np.asarray(ImageOps.fit(Image.open(ROOT / "examples" / "content" / "chelsea.png"), (96, 64))))
GREY, FADE, LONG = PHOTO.convert("L"), Image.linear_gradient("L").resize(PHOTO.size), "n" * 240
TURNS = ["FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_90", "TRANSVERSE", "ROTATE_270"]
INTRO = """# Unusual image files

This table is made by `python -m benchmarks.awkward --output docs/pictures.md`. Each row is a run of `adain stylize`
on one image, with its exit code, what it wrote, and what it printed. The distance is the mean absolute difference, on
a scale of 0 to 255, from the closest of the first four results (in a JPEG, transparency is blended with white) or,
with a mask, from the photo itself (lower is closer).

| input | what is unusual | outcome |
| --- | --- | --- |
"""


def made(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of a file."""
    image.save(buffer := BytesIO(), kind, **options)
    return buffer.getvalue()


def deep(*planes: Image.Image, to: str = ".png", dtype: type = np.uint16, scale: float = 257, turn: int = 1) -> bytes:
    """The bytes of a file of other than 8 bits a channel."""
    values: Any = (np.dstack([np.asarray(plane, np.float64) for plane in planes]) * scale).astype(dtype)
    space = "multiband" if dtype != np.uint16 else "grey16" if len(planes) < 3 else "rgb16"
    image: Any = pyvips.Image.new_from_array(values).copy(interpretation=space)
    image.set_type(pyvips.GValue.gint_type, "orientation", turn)
    return image.write_to_buffer(to)


def cases() -> list[tuple[str, Any, dict[str, Any]]]:
    """Contents as "name: why", what is in them, and flags: None leaves one out, "" is a switch, bytes are an image."""
    white, black, bits = Image.new("RGB", (96, 64), "white"), Image.new("L", (96, 64)), GREY.convert("1")
    png, palette, text, cmyk = made(PHOTO), PHOTO.quantize(), b"not an image\n" * 9, PHOTO.convert("CMYK")
    bands, jpeg, tiff = PHOTO.split(), partial(made, kind="JPEG", quality=95), partial(deep, to=".tif")
    rgba, rgb16, rgba16 = Image.merge("RGBA", (*bands, FADE)), deep(*bands), deep(*bands, FADE)
    turned = [PHOTO, *(PHOTO.transpose(Image.Transpose[turn]) for turn in TURNS), PHOTO]
    tags = [Image.Exif() for _ in range(10)]
    for number, exif in enumerate(tags):
        exif[271], exif[274], exif.get_ifd(34853)[1] = "Maker", number, "N"
    p3 = pyvips.Image.new_from_array(np.asarray(PHOTO)).icc_transform("p3", input_profile="srgb")
    profile, faded = pyvips.Operation.call("profile_load", "cmyk"), Image.composite(PHOTO, white, FADE)
    one = {"plain.png: nothing": png, "gray.png: gray": GREY, "faded.png: faded to white": faded}
    one |= {
        "faded-gray.png: gray, faded to white": faded.convert("L"),
        "white.png: a single color": white.resize((64, 64)),
    }
    one |= {f"small.png: {w} x {h}": PHOTO.resize((w, h)) for w, h in ((1, 1), (1, 2000), (2000, 1), (3, 3), (97, 61))}
    one |= {"bits.png: 1 bit": bits, "key.png: 1 bit, black transparent": made(bits, transparency=0)}
    one |= {"palette.png: palette": palette, "key.png: palette, one transparent color": made(palette, transparency=0)}
    one |= {"key.png: gray, one transparent value": made(GREY, transparency=90), "rgba.png: RGBA": rgba}
    one |= {"la.png: LA": Image.merge("LA", (GREY, FADE)), "clear.png: fully transparent": Image.new("RGBA", (64, 64))}
    one |= {"a.jpg: CMYK": jpeg(cmyk), "a.jpg: CMYK with a color profile": jpeg(cmyk, icc_profile=profile)}
    one |= {
        "gray.png: 16 bits": deep(GREY),
        "la.png: 16-bit LA": deep(GREY, FADE),
        "rgb.png: 16-bit RGB": rgb16,
    }
    one |= {f"a{to}: 16 bits, orientation 6": deep(*turned[5].split(), to=to, turn=6) for to in (".tif", ".png")}
    one |= {"a.tif: 16 bits": tiff(*bands), "rgba.png: 16-bit RGBA": rgba16}
    for why, scale in {"0 to 1": 1 / 255, "0 to 255": 1}.items():
        one |= {f"a.tif: gray float, {why}": tiff(GREY, dtype=np.float32, scale=scale)}
        one |= {f"a.tif: RGB float, {why}": tiff(*bands, dtype=np.float32, scale=scale)}
    one |= {"a.tif: 32-bit gray": tiff(GREY, dtype=np.uint32, scale=2**23), "missing.png: no such file": None}
    one |= {
        f"a.jpg: EXIF with maker, GPS, orientation {i}": jpeg(image, exif=tags[i]) for i, image in enumerate(turned, 1)
    }
    one |= {"a.jpg: invalid EXIF": jpeg(PHOTO, exif=b"Exif\0\0II*\0\xff\xff\xff\xff"), "bare: no suffix": png}
    one |= {"a.png: Display P3": p3.write_to_buffer(".png"), "a.jpg: a PNG file": png, "-: standard input": png}
    one |= {"a.png: Display P3, 16 bits": p3.icc_transform("p3", depth=16).write_to_buffer(".png")}
    one |= {f"a.png: invalid color profile{again}": made(PHOTO, icc_profile=b"no") for again in ("", ", again")}
    one |= {"a.png: RGB with a CMYK profile": made(PHOTO, icc_profile=profile), "-: standard input, empty": b""}
    pages = partial(made, PHOTO, save_all=True, append_images=[white], quality=95)
    one |= {f"a.{kind}: two images in the file": pages(kind) for kind in ("gif", "webp", "png", "tiff", "mpo")}
    one |= {f"{name}: unusual name": png for name in ("größe und 絵 🎨.png", "./-a.png", "-a.png")} | {
        "a\nb.png: text": text
    }
    one |= {"a.png: empty": b"", "a.png: 2 bytes": b"no", "a.jpg: text": text, "a.png: HTML": b"<!DOCTYPE html><html>"}
    one["a.png/: a folder"] = b""
    for side in (0, 60000):
        head = png[12:16] + struct.pack(">2I", side, side) + png[24:29]
        one[f"a.png: {side} x {side} in the header"] = png[:12] + head + struct.pack(">I", zlib.crc32(head)) + png[33:]
    kinds = [kind for kind in ("jpeg", "png", "tiff", "webp", "gif", "avif") if kind.upper() in Image.SAVE]
    files = {f"a.{kind}": made(PHOTO, kind) for kind in kinds} | {"16.png": rgb16, "16.tif": tiff(*bands)}
    one["progressive.jpg: progressive"] = files["progressive.jpg"] = jpeg(PHOTO, progressive=True)
    if "avif" in kinds:
        one["a.avif: corrupt"] = files["a.avif"].replace(b"iloc", b"free")
    found: list[tuple[str, Any, dict[str, Any]]] = [(name, data, {}) for name, data in one.items()]
    cut = {name: data[: len(data) * 6 // 10] for name, data in files.items()} | {"99.jpg": files["a.jpeg"][:99]}
    for name, data in cut.items():
        found += [(f"{name}: truncated", data, {}), (f"{name}: truncated, --truncated", data, {"--truncated": ""})]
    whats = {"RGBA": rgba, "16-bit RGBA": rgba16, "EXIF": made(turned[5], exif=tags[6])}
    for to in ("a.jpg", "a.webp", "a.tif"):
        found += [(f"in.png: {what} to {to}", data, {"--output": to}) for what, data in whats.items()]
    small = made(PHOTO.resize((30, 20)))
    for to in ("-", "a.xyz", "a.PNG", "./in.png", "in.png/a.png", "new/a.png", "new", f"{LONG}.png"):
        found.append((f"in.png: output {to}", png, {"--output": to}))
    found += [
        (f"{LONG}.png: default output", png, {"--output": None}),
        ("a.png: over --max-pixels", png, {"--max-pixels": "1000", "--style": small, "--style-size": None}),
    ]
    half = Image.fromarray(np.repeat(np.array([[255, 0]], np.uint8), 48, 1)).resize((96, 64))
    odd = {
        "1 x 1": GREY.resize((1, 1)),
        "9 x 300": GREY.resize((9, 300)),
        "fully transparent": Image.new("RGBA", (96, 64)),
    }
    odd |= {"black": black, "half white": half, "half white, 48 x 32": half.resize((48, 32))}
    for why, data in {**{why: made(image) for why, image in odd.items()}, "16 bits": rgba16, "text": text}.items():
        found.append((f"in.png: mask, {why}", png, {"--mask": data}))
        found.append((f"in.png: style, {why}", png, {"--style": data, "--style-size": None}))
    return [(name, made(data) if isinstance(data, Image.Image) else data, flags) for name, data, flags in found]


def report(data: bytes) -> tuple[str, Image.Image]:
    """What there is to say of a result, and its colors."""
    image: Any = pyvips.Image.new_from_buffer(data, "")
    found, depth = Image.open(BytesIO(data)), 16 if image.format == "ushort" else 8
    text = f"{found.format} {image.width} x {image.height}, {depth}-bit {'RGBA' if image.hasalpha() else 'RGB'}"
    text += f", alpha {image[3].min():.0f} to {image[3].max():.0f}" if image.hasalpha() else ""
    tags = found.getexif()
    kept = {"maker": 271 in tags, "GPS": tags.get_ifd(34853), "ORIENTATION": tags.get(274, 1) != 1}
    text += "".join(f", {name} preserved" for name, there in kept.items() if there)
    return text + (", sRGB profile" if "icc_profile" in found.info else ""), found.convert("RGB")


def row(name: str, data: Any, given: dict[str, Any], plain: list[Image.Image]) -> tuple[str, bool]:
    """Run a case in the current folder, which is empty: the outcome, and whether all was clean."""
    flags = {"--method": "adain-lite", "--style": str(ROOT / "examples" / "style" / "starry_night.jpg")}
    flags |= {"--style-size": "128", "--output": "out.png", "--content": name} | given
    files = {f"{flag[2:]}.png": value for flag, value in given.items() if isinstance(value, bytes)}
    flags |= {f"--{file[:-4]}": file for file in files}
    for file, content in (files | ({name: data} if data is not None and name != "-" else {})).items():
        Path(file).mkdir() if file.endswith("/") else Path(file).write_bytes(content)
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    words = [word for flag, value in flags.items() if value is not None for word in (flag, value) if word]
    sink, code = BytesIO(), None
    sys.stdin = TextIOWrapper(BytesIO(data or b""))
    with redirect_stdout(TextIOWrapper(sink, write_through=True)), redirect_stderr(StringIO()) as err:
        try:
            code = cli.main(["stylize", *words, "--quiet"])
        except SystemExit as stop:
            code = stop.code  # type: ignore[assignment]
        except Exception as error:
            err.write(f"TRACEBACK: {error!r}")
        written = sink.getvalue()
    after = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    new = [content for path, content in after.items() if path not in before] + [written] * bool(written)
    clean = isinstance(code, int) and len(new) == (code == 0) and before.items() <= after.items()
    said = [str(code)]
    if new:
        text, image = report(new[0])
        plain += [image] if len(plain) < 4 else []
        likes = [] if "--style" in given else [PHOTO] if "--mask" in given else plain
        gaps = [np.abs(np.float32(image) - np.float32(like)).mean() for like in likes if image.size == like.size]  # type: ignore
        said += [text, f"distance {min(gaps):.1f}"] if gaps else [text]
    return "; ".join(said + [err.getvalue()] * bool(err.getvalue()) + ["NOT CLEAN"] * (not clean)), clean


def table_row(name: str, why: str, outcome: str) -> str:
    """A row of the table, without folders and line numbers of this machine."""
    line = " ".join(f"| {name} | {why} | {outcome.replace('|', '/')} |".replace(LONG, "nnn...").split())
    line = re.sub(r"-\d+-\d+\.", "-PID-THREAD.", line)
    for folder in (Path(Image.__file__).parents[1], ROOT):
        line = line.replace(f"{folder}/", "")
    return re.sub(r"\.py:\d+:", ".py:", line)


def main() -> int:
    """Print a row for each case; 1 if any was not clean."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=lambda name: Path(name).resolve(), help="a file for the table")
    output, page, clean = parser.parse_args().output, INTRO, True
    plain: list[Image.Image] = []
    warnings.simplefilter("always")
    for label, data, flags in cases():
        name, why = label.split(": ", 1)
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            outcome, fine = row(name, data, flags, plain)
            os.chdir(ROOT)
        line = table_row(name, why, outcome)
        print(line, flush=True)
        page, clean = f"{page}{line}\n", clean and fine
    if output:
        output.parent.mkdir(exist_ok=True)
        output.write_text(page)
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
