"""Hostile and broken images: each gives a result of the right size or an error of one line."""

import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.conftest import ROOT, picture
from tests.fuzz import mutations, seeds
from tests.fuzz.conftest import examples

FILES = seeds.image_files()
FIXTURES = sorted((ROOT / "tests" / "fixtures" / "fuzz").glob("image-*"))


def check(reply):
    """A result or an error in one line, and nothing on standard error that looks like a bug."""
    assert reply.outcome in ("result", "error"), reply.text
    assert "\n" not in reply.text
    for word in ("Traceback", "Warning:"):
        assert word not in reply.printed
    return reply


def test_the_seeds_are_valid(worker, tmp_path):
    for name, data in FILES.items():
        path = tmp_path / name
        path.write_bytes(data)
        reply = check(worker.ask("image", path=path, size=None, truncated=False))
        sides = seeds.SIDES[::-1] if name == "rgb.jpg" or name == "rgb.png" or name == "rgb.webp" else seeds.SIDES
        assert reply.outcome == "result", (name, reply)
        assert reply.text == f"{sides[0]} x {sides[1]}" or name.endswith((".ico", ".icns")), (name, reply)


@examples()
@given(mutations.mutated_files(FILES), st.sampled_from([None, 8, 40]), st.booleans())
def test_mutated_images(worker, tmp_path_factory, file, size, truncated):
    path = tmp_path_factory.getbasetemp() / "mutated"
    path.write_bytes(file[1])
    check(worker.ask("image", path=path, size=size, truncated=truncated))


@examples(0.04)
@given(mutations.mutated_files(FILES))
def test_mutated_images_through_the_whole_command(worker, tmp_path_factory, file):
    folder = tmp_path_factory.mktemp("command")
    content = folder / file[0]
    content.write_bytes(file[1])
    stylize(worker, content, folder)


def stylize(worker, content, folder, *more):
    """Run the command on a content: exit code 0 and a complete result, or 2, one line, and nothing written."""
    style = picture(folder / "style" / "style.png")
    output = folder / "out" / "out.png"
    words = ["stylize", "--content", content, "--style", style, "--output", output, "--size", 8, "--style-size", 16]
    words += ["--method", "adain-lite", "--device", "cpu", "--max-pixels", 2**20, *more]
    reply = check(worker.ask("command", words=[str(word) for word in words]))
    written = list((folder / "out").glob("*")) if output.parent.exists() else []
    assert reply.text in ("0", "2"), reply
    if reply.text == "0":
        assert written == [output]
        with Image.open(output) as image:
            image.load()
            assert min(image.size) == 8
    else:
        assert written == []
        assert sum("error: " in line for line in reply.printed.splitlines()) == 1, reply
    return reply


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda path: path.name)
def test_images_that_once_failed(worker, fixture, tmp_path):
    for size in (None, 8):
        for truncated in (False, True):
            check(worker.ask("image", path=fixture, size=size, truncated=truncated))
    stylize(worker, fixture, tmp_path)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *chunks, depth=8, color=0):
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return mutations.PNG_SIGNATURE + chunk(b"IHDR", header) + b"".join(chunks) + chunk(b"IEND", b"")


def deflated_zeros(megabytes):
    packer = zlib.compressobj(9)
    zeros = bytes(2**20)
    return b"".join(packer.compress(zeros) for _ in range(megabytes)) + packer.flush()


def float_tiff(values):
    """An RGB or gray TIFF file of 32-bit floating point."""
    from io import BytesIO

    file = BytesIO()
    Image.fromarray(values).save(file, "TIFF")
    return file.getvalue()


BOMB = deflated_zeros(64)

PIXELS = chunk(b"IDAT", zlib.compress(bytes(5 * 4)))
"""4 x 4 gray pixels."""

HOSTILE = {
    "zero.png": png(0, 0, PIXELS),
    "zero-width.png": png(0, 4, PIXELS),
    "huge.png": png(2**31 - 1, 2**31 - 1, PIXELS),
    "huge-16-bit.png": png(2**31 - 1, 2**31 - 1, PIXELS, depth=16),
    "bomb.png": png(60000, 60000, chunk(b"IDAT", BOMB)),
    "more-data-than-pixels.png": png(4, 4, chunk(b"IDAT", BOMB)),
    "more-data-than-pixels-16-bit.png": png(4, 4, chunk(b"IDAT", BOMB), depth=16),
    "text.png": png(4, 4, chunk(b"zTXt", b"a\0\0" + BOMB), PIXELS),
    "text-16-bit.png": png(4, 4, chunk(b"zTXt", b"a\0\0" + BOMB), chunk(b"IDAT", zlib.compress(bytes(36))), depth=16),
    "profile.png": png(4, 4, chunk(b"iCCP", b"a\0\0" + BOMB), PIXELS),
    "no-profile.png": png(4, 4, chunk(b"iCCP", b"a\0\0" + zlib.compress(b"no profile" * 20)), PIXELS),
    "exif.png": png(4, 4, chunk(b"eXIf", b"MM\0*\0\0\0\x08\xff\xff" + bytes(range(200))), PIXELS),
    "no-pixels.png": png(4, 4),
    "palette.png": png(4, 4, PIXELS, color=3),
    "long.png": png(100_000, 1, chunk(b"IDAT", zlib.compress(bytes(100_001)))),
    "tall.png": png(1, 100_000, chunk(b"IDAT", zlib.compress(bytes(200_000)))),
    "long-16-bit.png": png(100_000, 1, chunk(b"IDAT", zlib.compress(bytes(200_001))), depth=16),
    "zero.gif": b"GIF89a" + bytes(7) + b",\0\0\0\0\0\0\0\0\0\2\1\0\0;",
    "huge.gif": b"GIF89a\xff\xff\xff\xff\x80\0\0" + bytes(6) + b",\0\0\0\0\xff\xff\xff\xff\0\2\1\0\0;",
    "huge.bmp": b"BM" + bytes(12) + struct.pack("<IiiHH", 40, 2**31 - 1, -(2**31), 1, 24) + bytes(24),
    "huge.ppm": b"P6 99999999 99999999 255\n",
    "zero.ppm": b"P6 0 0 255\n",
    "huge-palette.psd": struct.pack(">4sH6xHIIHHI", b"8BPS", 1, 3, 4, 4, 8, 3, 2**31 - 1),
    "nan.pfm": b"Pf 2 2 -1\n" + np.array([np.nan, 1, 0, 1], "<f4").tobytes(),
    "nan.tif": float_tiff(np.array([[np.nan, 1], [0, 1]], np.float32)),
    "infinite.tif": float_tiff(np.array([[np.inf, 1], [0, 1]], np.float32)),
    "negative.tif": float_tiff(np.array([[-1e38, 1], [0, -2]], np.float32)),
    "large.tif": float_tiff(np.array([[3e38, 1], [0, 1]], np.float32)),
    "program.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(secret) (r) file\nshowpage\n",
    "program.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n",
    "text.jpg": b"no image",
    "page.svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="/etc/passwd"/></svg>',
    "empty.webp": b"",
    "start.webp": b"RIFF\xff\xff\xff\xffWEBPVP8X\x0a\0\0\0\x10\0\0\0\xff\xff\xff\xff\xff\xff",
}

ACCEPTED = {"exif.png", "no-profile.png", "long.png", "tall.png", "long-16-bit.png", "negative.tif", "large.tif"}
"""Those of them that must give a result, at their own size."""


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_images(worker, name, tmp_path):
    path = tmp_path / name
    path.write_bytes(HOSTILE[name])
    replies = []
    for size in (None, 8):
        for truncated in (False, True):
            replies.append(check(worker.ask("image", path=path, size=size, truncated=truncated)))
    if name in ACCEPTED:
        assert replies[0].outcome == "result", replies
    if name.startswith(("zero", "huge", "bomb", "nan", "infinite", "program", "page", "empty", "text.jpg")):
        assert {reply.outcome for reply in replies} == {"error"}, replies
    if name.startswith("program"):
        assert all("programs" in reply.text for reply in replies)


def test_wrong_suffixes(worker, tmp_path):
    for name in ("rgb.png", "rgb.jpg", "palette.gif", "deep-tif"):
        path = tmp_path / f"{name}.webp"
        path.write_bytes(FILES[name])
        assert check(worker.ask("image", path=path, size=None, truncated=False)).outcome == "result"


def special_files(folder: Path) -> dict[str, Path]:
    """A named pipe, devices, links, and a socket by what they are."""
    image = picture(folder / "image.png")
    for name, target in (("link.png", image), ("loop.png", folder / "loop.png"), ("dangling.png", folder / "no.png")):
        (folder / name).symlink_to(target)
    os.mkfifo(folder / "pipe.png")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(folder / "s.png"))
    server.close()
    (folder / "zero.png").symlink_to("/dev/zero")
    names = ("link", "loop", "dangling", "pipe", "zero", "s")
    return {name: folder / f"{name}.png" for name in names}


def test_links_pipes_and_devices(worker, tmp_path):
    for name, path in special_files(tmp_path).items():
        for truncated in (False, True):
            reply = check(worker.ask("image", path=path, size=8, truncated=truncated))
            assert reply.outcome == ("result" if name == "link" else "error"), (name, reply)
            if name in ("pipe", "zero", "s"):
                assert "named pipe or a device" in reply.text


def test_a_folder_of_links_pipes_and_devices(worker, tmp_path):
    contents = tmp_path / "content"
    contents.mkdir()
    special_files(contents)
    style = picture(tmp_path / "style.png")
    words = ["stylize", "--content", contents, "--style", style, "--output", tmp_path / "out", "--method", "adain-lite"]
    words += ["--device", "cpu", "--workers", "0", "--size", "8", "--style-size", "16"]
    reply = worker.ask("command", words=[str(word) for word in words])
    assert reply.text == "1", reply
    assert "Traceback" not in reply.printed
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == ["image__style.png", "link__style.png"]
