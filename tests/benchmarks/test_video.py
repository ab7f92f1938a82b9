"""The benchmark of videos writes the clip that it stylizes."""

import av

from adain.imaging import listing
from benchmarks import video
from tests.conftest import ROOT


def test_the_clip_has_its_frames_and_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(video, "FRAMES", {64: 3})
    photos = listing.files(ROOT / "examples" / "content")
    path = video.write(tmp_path / "clip.mp4", photos, 64)
    with av.open(str(path)) as clip:
        frames = [(frame.width, frame.height) for frame in clip.decode(video=0)]
    assert frames == [(96, 64)] * 3
