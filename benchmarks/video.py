"""Videos stylized with temporal stability and frame by frame: `python -m benchmarks.video [CONTENT STYLE]`.

CONTENT and STYLE are folders. Reading, stylizing, and writing are included, and both ways take turns. The clips are
generated from the photos of CONTENT and encoded as H.264 first. Seconds are medians over `ROUNDS`.
"""

import sys
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import av
import numpy as np

from adain.evaluation import flicker, synthetic_clips
from adain.evaluation.report import markdown
from adain.imaging import listing, photo, reader
from adain.inference import preparation, style_encoding
from adain.video.runner import stylize_video
from benchmarks.timing import machine

ROUNDS = 3
FRAMES = {256: 32, 512: 12}
METHODS = ("adain-lite", "adain")


def write(path: Path, photos: list[Path], side: int) -> Path:
    background, figure = (reader.load_image(path) for path in photos[:2])
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", Fraction(25), {"crf": "18"}, width=side * 3 // 2, height=side)
        for frame in islice(synthetic_clips.generate(background, figure, FRAMES[side], side), FRAMES[side]):
            values = np.asarray(photo.to_image(frame.pixels))
            output.mux(stream.encode(av.VideoFrame.from_ndarray(values, "rgb24")))
        output.mux(stream.encode())
    return path


def seconds(clip: Path, style: dict, method, steady: float) -> np.ndarray:
    """Of the clock, and of all processors together, which other programs disturb less."""
    start = np.array([time.perf_counter(), time.process_time()])
    stylize_video(clip, style, clip.with_name("out.mp4"), method, steady=steady)
    return np.array([time.perf_counter(), time.process_time()]) - start


def main(content: str = "examples/content", style: str = "examples/style") -> None:
    photos, painting = listing.files(Path(content)), listing.files(Path(style))[-1]
    steady = flicker.default_steadiness()
    rows = []
    with TemporaryDirectory() as folder:
        for side, frames in FRAMES.items():
            clip = write(Path(folder) / "clip.mp4", photos, side)
            for name in METHODS:
                method = preparation.prepare(name)
                code = style_encoding.encode_style(method, painting)
                seconds(clip, code, method, steady)  # to warm up
                runs = [(seconds(clip, code, method, 0), seconds(clip, code, method, steady)) for _ in range(ROUNDS)]
                (alone, _), (steadied, _) = (frames / np.median(times, 0) for times in zip(*runs, strict=True))
                ratios = np.median([a / b for a, b in runs], 0)
                labels = f"{name}, {side} px", float(alone), float(steadied), *map(float, ratios)
                columns = "method", "frame by frame, frames/s", f"steady {steady:g}, frames/s", "ratio", "of CPU time"
                rows.append(dict(zip(columns, labels, strict=True)))
                print(labels, flush=True)
        print(machine())
        print(markdown(rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
