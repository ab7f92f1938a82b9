import inspect
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from av.video.reformatter import Colorspace
from PIL import Image

from adain.cli import commands, main
from adain.evaluation import flicker
from adain.functional.statistics import compute_statistics
from adain.methods import Johnson
from adain.video import decoding, detection, formats, runner
from tests.conftest import ROOT

RATE = Fraction(30000, 1001)


def write(path, frames, *, rate=RATE, codec="libx264", pts=None, sound=None, turn=None, pixels="yuv444p", **more):
    """Write a clip of images (H, W, 3), uint8, with a second of audio if its codec is given; returns the path."""
    matrix = more.pop("matrix", Colorspace.ITU601)
    with av.open(str(path), "w") as output:
        height, width = frames[0].shape[:2]
        base = more.pop("time_base", 1 / rate)
        stream = output.add_stream(codec, rate, width=width, height=height, pix_fmt=pixels, time_base=base, **more)
        if codec == "libx264":
            stream.codec_context.options = {"crf": "5"}
        if turn is not None:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("PyAV writes rotated videos since version 18")
            stream.set_display_rotation(*turn)
        if sound:
            voice = output.add_stream(sound, 48000, layout="mono")
        for i, values in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(values), "rgb24")
            frame = frame.reformat(format=pixels, dst_colorspace=matrix)
            frame.pts, frame.time_base = (pts[i] if pts else i), base
            output.mux(stream.encode(frame))
        if sound:
            wave = np.sin(np.arange(48000) / 20).astype(np.float32)
            for i in range(0, 48000 - 1024, 1024):
                part = av.AudioFrame.from_ndarray(wave[None, i : i + 1024], "fltp", "mono")
                part.sample_rate, part.pts, part.time_base = 48000, i, Fraction(1, 48000)
                output.mux(voice.encode(part))
            output.mux(voice.encode())
        output.mux(stream.encode())
    return path


def noise(count=4, height=32, width=48):
    """Smooth colored images that differ from each other."""
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return [cv2.resize(one, (width, height), interpolation=cv2.INTER_LINEAR) for one in small]


def packets(path, kind):
    with av.open(str(path)) as file:
        found = [packet for packet in file.demux(**{kind: 0}) if packet.size]
        return [(bytes(packet), packet.pts * packet.time_base) for packet in found]


def times(path):
    with av.open(str(path)) as file:
        return [frame.pts * frame.time_base for frame in file.decode(video=0)]


def stylize(clip, output, lite, painting, **options):
    runner.stylize_video(clip, painting, output, lite, **options)
    return output


def leftovers(folder):
    return [path.name for path in folder.iterdir() if path.name.startswith(".adain")]


def test_rate_timestamps_and_audio_are_preserved(tmp_path, lite, painting):
    clip = write(tmp_path / "clip.mp4", noise(5), sound="aac")
    output = stylize(clip, tmp_path / "out.mp4", lite, painting)
    with av.open(str(clip)) as a, av.open(str(output)) as b:
        streams = a.streams.video[0], b.streams.video[0]
        assert [stream.average_rate for stream in streams] == [RATE, RATE]
        assert b.streams.video[0].duration * b.streams.video[0].time_base == 5 / RATE
        assert (b.streams.video[0].width, b.streams.video[0].height) == (48, 32)
    assert times(output) == times(clip) == [i / RATE for i in range(5)]
    assert packets(output, "audio") == packets(clip, "audio")


SUBTITLES = """1
00:00:00,000 --> 00:00:00,400
Hello

"""


def test_subtitles_chapters_metadata_and_color_tags_are_preserved(tmp_path, lite, painting):
    clip, text = tmp_path / "clip.mkv", tmp_path / "text.srt"
    text.write_text(SUBTITLES)
    chapter = {"id": 1, "start": 0, "end": 400, "time_base": Fraction(1, 1000), "metadata": {"title": "First"}}
    with av.open(str(text)) as subtitles, av.open(str(clip), "w") as output:
        stream = output.add_stream("libx264", RATE, width=48, height=32, pix_fmt="yuv420p")
        stream.codec_context.color_primaries, stream.codec_context.color_trc = 9, 14  # BT.2020
        stream.codec_context.colorspace = 9
        stream.metadata["title"] = "Camera 1"
        copied = output.add_stream_from_template(subtitles.streams.subtitles[0])
        output.metadata["title"] = "A clip"
        output.set_chapters([chapter])
        for i, values in enumerate(noise(12)):
            frame = av.VideoFrame.from_ndarray(values, "rgb24").reformat(format="yuv420p", dst_colorspace=9)
            frame.pts, frame.time_base = i, 1 / RATE
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
        for packet in subtitles.demux():
            if packet.size:
                packet.stream = copied
                output.mux(packet)
    result = stylize(clip, tmp_path / "out.mkv", lite, painting, size=16)
    with av.open(str(clip)) as a, av.open(str(result)) as b:
        for key in ("color_primaries", "color_trc", "colorspace"):
            tag = getattr(a.streams.video[0].codec_context, key)
            assert getattr(b.streams.video[0].codec_context, key) == tag
            assert tag in (9, 14), "or the input has no tags"
        assert b.metadata["title"] == "A clip"
        assert b.streams.video[0].metadata["title"] == "Camera 1"
        (copy,) = b.chapters()
        assert copy["metadata"] == {"title": "First"}
        assert (copy["start"] * copy["time_base"], copy["end"] * copy["time_base"]) == (0, Fraction(2, 5))
    (line,) = packets(result, "subtitles")
    assert line == (b"Hello", 0)


@pytest.mark.parametrize("suffix", [".mkv", ".mov", ".mp4"])
def test_variable_frame_rates_are_preserved(tmp_path, lite, painting, suffix):
    pts = [0, 40, 50, 200]
    clip = write(tmp_path / f"clip{suffix}", noise(4), pts=pts, time_base=Fraction(1, 1000), rate=Fraction(25))
    output = stylize(clip, tmp_path / f"out{suffix}", lite, painting)
    assert times(output) == [Fraction(time, 1000) for time in pts]


@pytest.mark.parametrize("turn", [(90,), (-90,), (180,), (0, True), (90, True), (180, True)], ids=str)
def test_rotated_and_mirrored_videos_are_decoded_upright(tmp_path, turn):
    values = noise(1)[0]
    clip = write(tmp_path / "clip.mp4", [values], turn=turn)
    degrees, mirror = turn[0], len(turn) > 1
    upright = np.rot90(values, degrees // 90)
    upright = upright[:, ::-1] if mirror else upright
    frame = next(iter(decoding.frames(clip)))
    np.testing.assert_allclose(frame[0].permute(1, 2, 0), upright / 255, atol=0.1)


def test_a_single_pixel_can_be_stylized(tmp_path, lite, painting):
    clip = write(tmp_path / "clip.mkv", noise(2, 1, 1), codec="ffv1")
    output = stylize(clip, tmp_path / "out.mp4", lite, painting)
    assert [frame.shape for frame in decoding.frames(output)] == [(1, 3, 1, 1)] * 2


def test_an_odd_size_is_preserved(tmp_path, lite, painting):
    clip = write(tmp_path / "clip.mp4", noise(2, 33, 47))
    for name in ("out.mp4", "out.webm", "out.gif"):
        output = stylize(clip, tmp_path / name, lite, painting)
        assert [frame.shape for frame in decoding.frames(output)] == [(1, 3, 33, 47)] * 2
    output = stylize(clip, tmp_path / "small.mp4", lite, painting, size=20)
    assert next(iter(decoding.frames(output))).shape == (1, 3, 20, 28)


def test_colors_survive_decoding_and_encoding(tmp_path):
    class Same(Johnson):
        def stylize(self, content, code, alpha=1.0, statistics_fn=compute_statistics):
            return content

    values = np.full((32, 48, 3), (200, 60, 90), np.uint8)
    for clip in (
        write(tmp_path / "a.mp4", [values]),
        write(tmp_path / "b.mkv", [values], codec="ffv1", pixels="yuv420p10le"),
        write(tmp_path / "c.mov", [values], codec="png", pixels="rgb24"),
        write(tmp_path / "d.mov", [values], codec="mjpeg", pixels="yuvj420p"),
    ):
        assert (next(iter(decoding.frames(clip)))[0, :, 16, 24] * 255 - torch.tensor([200, 60, 90])).abs().max() < 4, (
            clip
        )
        output = tmp_path / "out.mp4"
        runner.stylize_video(clip, None, output, Same(4, 1))
        assert (
            next(iter(decoding.frames(output)))[0, :, 16, 24] * 255 - torch.tensor([200, 60, 90])
        ).abs().max() < 4, clip


def test_transparency_is_blended_with_white(tmp_path):
    with av.open(str(tmp_path / "clip.mov"), "w") as output:
        stream = output.add_stream("qtrle", 10, width=48, height=32, pix_fmt="argb")
        for alpha in (255, 0):
            values = np.full((32, 48, 4), (alpha, 0, 0, 255), np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(values, "argb")))
        output.mux(stream.encode())
    found = [frame[0, :, 16, 24].tolist() for frame in decoding.frames(tmp_path / "clip.mov")]
    assert found == [[0, 0, 1], [1, 1, 1]]


def test_the_pixel_aspect_ratio_is_rotated_with_the_image(tmp_path, lite, painting):
    clip = write(tmp_path / "clip.mp4", noise(2), turn=(90,), sample_aspect_ratio=Fraction(4, 3))
    output = stylize(clip, tmp_path / "out.mp4", lite, painting)
    with av.open(str(output)) as file:
        assert file.streams.video[0].sample_aspect_ratio == Fraction(3, 4)
        assert next(file.decode(video=0)).rotation == 0


def test_audio_that_the_format_cannot_hold_is_left_out_with_a_warning(tmp_path, lite, painting, caplog):
    clip = write(tmp_path / "clip.mp4", noise(2), sound="aac")
    output = stylize(clip, tmp_path / "out.webm", lite, painting)
    assert ".webm cannot hold the audio" in caplog.text
    with av.open(str(output)) as file:
        assert [stream.type for stream in file.streams] == ["video"]


# Errors.


def test_an_interrupt_leaves_nothing_behind(tmp_path, lite, painting):
    clip = write(tmp_path / "clip.mp4", noise(12), sound="aac")
    (tmp_path / "out.mp4").write_bytes(b"as it was")
    done = []

    class Interrupting(type(lite)):
        def decode(self, *args, **kwargs):
            done.append(1)
            if len(done) == 5:
                raise KeyboardInterrupt
            return super().decode(*args, **kwargs)

    method = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        stylize(clip, tmp_path / "out.mp4", method, painting)
    assert (tmp_path / "out.mp4").read_bytes() == b"as it was"
    assert leftovers(tmp_path) == []


def test_a_corrupt_file_is_refused_unless_truncated_files_are_allowed(tmp_path, lite, painting):
    clip = write(tmp_path / "clip.mkv", noise(60), rate=Fraction(10))
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
    with pytest.raises(OSError, match="--truncated"):
        stylize(clip, tmp_path / "out.mkv", lite, painting, size=16)
    assert not (tmp_path / "out.mkv").exists()
    assert leftovers(tmp_path) == []
    stylize(clip, tmp_path / "out.mkv", lite, painting, size=16, truncated=True)
    assert 10 < len(times(tmp_path / "out.mkv")) < 60


def test_a_duration_in_the_header_that_is_too_long_is_a_warning(tmp_path, lite, painting, caplog):
    clip, output = write(tmp_path / "clip.mkv", noise(5), rate=Fraction(10)), tmp_path / "out.mkv"
    data = bytearray(clip.read_bytes())
    struct.pack_into(">d", data, data.index(b"\x44\x89\x88") + 3, 20_000.0)  # the duration in milliseconds
    clip.write_bytes(data)
    stylize(clip, output, lite, painting, size=16)
    assert len(times(output)) == 5
    assert "earlier than its header says" in caplog.text


@pytest.mark.parametrize(
    ("suffix", "more"), [(".mkv", {}), (".mp4", {}), (".avi", {"codec": "mpeg4", "pixels": "yuv420p"})]
)
def test_truncated_files_are_detected_by_their_size(tmp_path, suffix, more):
    clip = write(tmp_path / f"clip{suffix}", noise(5), rate=Fraction(10), **more)
    assert not formats.is_truncated(clip)
    clip.write_bytes(clip.read_bytes()[:-100])
    assert formats.is_truncated(clip)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--content": "sound.mp4"}, "sound.mp4 is not a video: it contains no moving images"),
        ({"--content": "garbage.mp4"}, "garbage.mp4 is not a readable video"),
        ({"--content": "still.png"}, "still.png is not a video: it contains no moving images"),
        ({"--output": "out.xyz"}, "cannot write out.xyz: the file name of a video must end in one of .mp4"),
        ({"--output": "out.png"}, "cannot write out.png: the file name of a video must end in one of .mp4"),
        ({"--output": "-"}, "cannot write -: the file name of a video must end in"),
        ({"--output": "clip.mp4"}, "is an input and would be overwritten"),
        ({"--steady": "1.5"}, "steady must be between 0 (each frame alone) and 1, got 1.5"),
        ({"--method": "gatys"}, "takes minutes for a frame"),
        ({"--pairs": "all"}, "with --pairs"),
        ({"--max-pixels": "100"}, "the limit of 100 pixels"),
        ({"--size": "0"}, "at least 1 pixel"),
        ({"--content": "still.png", "--output": "out.png", "--steady": "0.5"}, "with --steady"),
    ],
    ids=lambda value: "".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_wrong_input_is_reported_in_one_line_with_exit_code_2(tmp_path, capsys, monkeypatch, changes, message):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "clip.mp4", noise(2))
    Image.fromarray(noise(1)[0]).save("still.png")
    (tmp_path / "garbage.mp4").write_bytes(bytes(range(256)) * 9)
    with av.open("sound.mp4", "w") as output:
        voice = output.add_stream("aac", 48000, layout="mono")
        part = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        part.sample_rate = 48000
        output.mux([*voice.encode(part), *voice.encode()])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    flags = {
        "--content": "clip.mp4",
        "--style": "still.png",
        "--output": "out.mp4",
        "--method": "adain-lite",
        **changes,
    }
    assert main.main(["stylize", *(word for pair in flags.items() for word in pair)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_command_line_stylizes_images_and_videos_into_a_folder(tmp_path, capsys):
    one, two = (write(tmp_path / name, noise(2)) for name in ("one.mp4", "two.avi"))
    nameless = write(tmp_path / "three.mkv", noise(2)).rename(tmp_path / "three")
    still = tmp_path / "still.png"
    Image.fromarray(noise(1)[0]).save(still)
    contents = [str(path) for path in (one, two, nameless, still)]
    flags = ["--style", str(still), "--method", "adain-lite", "--output", str(tmp_path / "out"), "--quiet"]
    assert main.main(["stylize", "--content", *contents, *flags]) == 0
    names = {"one__still.mp4", "two__still.mp4", "three__still.mp4", "still__still.png"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("name", ["./clip.mp4", "folder//clip.mp4", "folder/./clip.mp4"])
def test_a_video_is_one_under_any_spelling_of_its_name(tmp_path, monkeypatch, capsys, name):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    clip = write(tmp_path / Path(name), noise(2))
    Image.fromarray(noise(1)[0]).save("s.png")
    flags = ["--method", "adain-lite", "--size", "16", "--steady", "0", "--quiet", "--device", "cpu"]
    assert main.main(["stylize", name, "s.png", *flags]) == 0, capsys.readouterr().err
    assert len(list(decoding.frames(clip.with_name("clip__s.mp4")))) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="names have no colons")
@pytest.mark.parametrize("name", ["2024-01-01T12:30:00.mp4", "concat:x.mp4"])
def test_names_with_a_colon_are_read_and_written(tmp_path, monkeypatch, lite, painting, name):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / name, noise(2))
    runner.stylize_video(name, painting, "12:30.mkv", lite, steady=0, size=16)
    assert len(list(decoding.frames("12:30.mkv"))) == 2


def test_an_animated_image_is_a_video_if_the_output_is_one():
    assert detection.videos(["a.gif", "b.mp4", "c.jpg"]) == {Path("b.mp4")}
    assert detection.videos(["a.gif", "b.mp4"], "out.mp4") == {Path("a.gif"), Path("b.mp4")}
    assert detection.videos(["a.gif"], "out.gif") == {Path("a.gif")}
    assert detection.videos(["a.gif"], "out.png") == set()


def test_without_the_extra_the_error_says_what_to_install(tmp_path):
    code = "import sys; sys.modules['av'] = None; from adain.cli import main; "
    code += "sys.exit(main.main(['stylize', '--content', 'clip.mp4', '--style', 'clip.mp4']))"
    write(tmp_path / "clip.mp4", noise(1))
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert process.returncode == 2
    assert "pip install '.[video]' in the repository" in process.stderr
    assert process.stderr.count("\n") == 1


def test_the_help_says_the_default():
    assert f"(default: {flicker.default_steadiness():g})." in " ".join(inspect.getdoc(commands.stylize).split())


def test_evaluate_prints_flicker_and_writes_the_sheet(tmp_path, capsys):
    (tmp_path / "in").mkdir()
    photo = np.asarray(Image.open(ROOT / "examples" / "content" / "chelsea.png").convert("RGB"))
    write(tmp_path / "in" / "clip.mp4", [photo[i : i + 128, 2 * i : 2 * i + 160] for i in range(4)])
    style = ROOT / "examples" / "style" / "shipwreck.jpg"
    flags = ["--content", str(tmp_path / "in"), "--style", str(style), "--output", str(tmp_path / "out")]
    assert main.main(["evaluate", "--flicker", "--method", "adain-lite", *flags]) == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header == "| method | pairs | S | C | flicker | seconds | S ratio | flicker ratio |"
    content, alone, smoothed = ([cell.strip() for cell in row.split("|")[1:-1]] for row in rows)
    assert content[0] == "content"
    assert float(smoothed[4]) < float(alone[4])
    for column, ratio in ((2, 6), (4, 7)):
        assert content[ratio] == alone[ratio] == ""
        assert float(smoothed[ratio]) == pytest.approx(float(smoothed[column]) / float(alone[column]), rel=0.03), (
            "three digits"
        )
    assert (tmp_path / "out" / "sheet.png").exists()


@pytest.mark.parametrize("given", ["method", "config"])
def test_flicker_of_a_method_with_settings_and_from_a_configuration(given, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(flicker.metrics, "EVAL_SIZE", 64)
    (tmp_path / "in").mkdir()
    photo = np.asarray(Image.open(ROOT / "examples" / "content" / "chelsea.png").convert("RGB"))
    write(tmp_path / "in" / "clip.mp4", [photo[i : i + 64, i : i + 80] for i in range(3)])
    Image.fromarray(photo[:64, -64:]).save(tmp_path / "style.png")
    flags = [
        "--content",
        str(tmp_path / "in"),
        "--style",
        str(tmp_path / "style.png"),
        "--output",
        str(tmp_path / "out"),
    ]
    if given == "method":
        flags += ["--flicker", "--method", "wct", "--wct.decoder", "adain"]
    else:
        (tmp_path / "evaluate.yaml").write_text("flicker: true\nmethod: [adain-lite]\n")
        flags += ["--config", str(tmp_path / "evaluate.yaml")]
    assert main.main(["evaluate", *flags]) == 0
    name = "wct" if given == "method" else "adain-lite"
    assert f"| {name}, steady 0 |" in capsys.readouterr().out


def test_settings_reach_the_method_whose_flicker_is_evaluated(tmp_path, capsys):
    Image.new("RGB", (64, 64), "red").save(tmp_path / "picture.png")
    flags = ["--content", str(tmp_path), "--style", str(tmp_path / "picture.png"), "--output", str(tmp_path / "out")]
    assert main.main(["evaluate", "--flicker", "--method", "wct", "--wct.decoder", "missing.pth", *flags]) == 2
    assert "missing.pth" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("lines", "matrix"), [(576, Colorspace.ITU601), (578, Colorspace.ITU709)])
def test_the_color_matrix_of_an_untagged_video_follows_its_lines(tmp_path, lines, matrix):
    frame = np.full((lines, 16, 3), (200, 60, 90), np.uint8)
    clip = write(tmp_path / "clip.mkv", [frame], codec="ffv1", matrix=matrix)
    color = next(iter(decoding.frames(clip)))[0, :, lines // 2, 8] * 255
    assert (color - torch.tensor([200, 60, 90])).abs().max() < 4, "the other matrix is 15 off"


@pytest.mark.parametrize(("sides", "expected"), [((32, 48), "yuv420p"), ((33, 48), "yuv444p"), ((32, 47), "yuv444p")])
def test_only_odd_sizes_keep_the_full_resolution_of_colors(tmp_path, lite, painting, sides, expected):
    output = stylize(write(tmp_path / "clip.mkv", noise(2, *sides)), tmp_path / "out.mp4", lite, painting)
    with av.open(str(output)) as file:
        assert file.streams.video[0].codec_context.pix_fmt == expected
