"""Hostile and broken videos: their frames, all of one size, or an error of one line."""

import os
import struct
from fractions import Fraction
from http.server import BaseHTTPRequestHandler

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import picture
from tests.fuzz import mutations
from tests.fuzz.conftest import examples
from tests.fuzz.test_images import check
from tests.hub import LocalServer

PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n"
CODECS = {".mp4": "libx264", ".mkv": "libx264", ".webm": "libvpx-vp9", ".avi": "mpeg4", ".gif": "gif"}
CODECS[".ts"] = "mpeg2video"


def clip(path, codec="libx264", rate=Fraction(25), frames=5, sides=(32, 32)):
    """Write a small video, and return its path."""
    random = np.random.default_rng(0)
    with av.open(str(path), "w") as output:
        stream = output.add_stream(codec, rate, width=sides[0], height=sides[1])
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        for _ in range(frames):
            values = random.integers(0, 256, (sides[1], sides[0], 3), dtype=np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(values, "rgb24")))
        output.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def clips(tmp_path_factory):
    """A folder with a clip of each codec. Hypothesis cannot print the clips themselves when a test fails."""
    folder = tmp_path_factory.mktemp("clips")
    for suffix, codec in CODECS.items():
        clip(folder / f"a{suffix}", codec)
    return folder


def test_the_clips_are_valid(worker, clips):
    for suffix in CODECS:
        assert check(worker.ask("video", path=clips / f"a{suffix}")).text == "{(8, 8)}", suffix


@examples(0.2)
@given(st.sampled_from(sorted(CODECS)), mutations.MUTATION_LISTS)
def test_mutated_videos(worker, tmp_path_factory, clips, suffix, changes):
    path = tmp_path_factory.getbasetemp() / f"mutated{suffix}"
    path.write_bytes(mutations.mutated((clips / f"a{suffix}").read_bytes(), changes))
    check(worker.ask("video", path=path))


def test_hostile_videos(worker, tmp_path, clips):
    secret = clip(tmp_path / "secret.ts", "mpeg2video")
    mp4, mkv = (clips / "a.mp4").read_bytes(), (clips / "a.mkv").read_bytes()
    hostile = {
        "empty.mp4": b"",
        "text.mp4": b"no video",
        "header.mp4": mp4[:40],
        "half.mp4": mp4[: len(mp4) // 2],
        "frameless.mkv": mkv[:300],
        "codec.mp4": mp4.replace(b"avc1", b"\0\0\0\0"),
        "image.mp4": picture(tmp_path / "image.png").read_bytes(),
        "password.m3u8": PLAYLIST.format("/etc/passwd").encode(),
        "concat.mp4": f"ffconcat version 1.0\nfile {secret}\n".encode(),
    }
    for name, data in hostile.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert check(worker.ask("video", path=path)).outcome == "error", name
    os.mkfifo(tmp_path / "pipe.mp4")
    assert "named pipe" in check(worker.ask("video", path=tmp_path / "pipe.mp4")).text


@pytest.mark.parametrize("name", ["network.mp4", "network.m3u8"])
def test_playlists_reach_no_network(worker, tmp_path, clips, name):
    requests = []
    segment = (clips / "a.ts").read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(segment)

    with LocalServer(Handler) as server:
        (tmp_path / name).write_text(PLAYLIST.format(f"{server.url}/a.ts"))
        assert check(worker.ask("video", path=tmp_path / name)).outcome == "error"
    assert requests == []


def test_frames_of_changing_size_get_the_size_of_the_first(worker, tmp_path):
    parts = [clip(tmp_path / f"{side}.ts", "mpeg2video", sides=(side, side)).read_bytes() for side in (32, 64, 48)]
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    assert check(worker.ask("video", path=tmp_path / "a.ts")).text == "{(8, 8)}"


def test_frames_that_become_too_large_are_refused(worker, tmp_path):
    parts = [clip(tmp_path / f"{side}.ts", "mpeg2video", sides=(side, side)).read_bytes() for side in (32, 1280)]
    (tmp_path / "a.ts").write_bytes(b"".join(parts))
    assert "1280 x 1280 exceed the limit" in check(worker.ask("video", path=tmp_path / "a.ts")).text


@pytest.mark.parametrize("rate", [Fraction(1, 1000), Fraction(90000), Fraction(1000000, 7)], ids=str)
def test_absurd_rates(worker, tmp_path, rate):
    path = clip(tmp_path / "a.mkv", rate=rate)
    assert stylize(worker, path, tmp_path) == "0"
    with av.open(str(tmp_path / "out" / "out.mp4")) as result:
        assert len(list(result.decode(video=0))) == 5


def test_a_duration_of_centuries(worker, tmp_path, clips):
    data = (clips / "a.mp4").read_bytes()
    position = data.index(b"mvhd") + 4
    path = tmp_path / "a.mp4"
    path.write_bytes(data[: position + 16] + struct.pack(">I", 2**32 - 2) + data[position + 20 :])
    assert stylize(worker, path, tmp_path) in ("0", "2")


def stylize(worker, path, folder):
    """Run the command on a video; returns the exit code. It leaves a complete result or nothing."""
    style = picture(folder / "style.png")
    output = folder / "out" / "out.mp4"
    words = ["stylize", "--content", path, "--style", style, "--output", output, "--method", "adain-lite"]
    words += ["--device", "cpu", "--size", "8", "--style-size", "16", "--quiet"]
    reply = check(worker.ask("command", words=[str(word) for word in words]))
    written = list(output.parent.glob("*")) if output.parent.exists() else []
    assert written == ([output] if reply.text == "0" else []), reply
    return reply.text
