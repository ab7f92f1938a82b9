import json
import sys

import numpy as np
import pytest
from datasets import Dataset, Image
from PIL import Image as Pillow

from adain.imaging import jpeg, listing, photo, reader
from adain.training import prepare
from adain.training.crops import Crop
from adain.training.sources import Source
from tests.conftest import exit_code, picture, picture_of_bytes


@pytest.fixture
def photos(tmp_path):
    """Seven images: larger, smaller, gray, rotated, with transparency, and one that cannot be read."""
    folder = tmp_path / "photos"
    sizes = [(200, 150), (90, 140), (50, 40), (128, 128)]
    for i, size in enumerate(sizes):
        picture(folder / f"{i}.png", size, i)
    Pillow.open(folder / "0.png").convert("L").save(folder / "4.jpg")
    exif = Pillow.Exif()
    exif[0x0112] = 6
    Pillow.open(folder / "0.png").save(folder / "nested.jpg", exif=exif)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    return folder


def prepared(folder):
    """The images in a prepared folder."""
    images = Source(str(folder), "train", "image", False, 0, (0, 0)).images()
    return {cell["path"]: cell["bytes"] for cell in images}


def test_a_folder(photos, tmp_path, capsys):
    words = "--source", photos, "--output", tmp_path / "out", "--size", 64, "--quiet"
    assert exit_code("prepare-data", *words) == 1, "one cannot be read"
    output = capsys.readouterr()
    assert output.out.startswith(f"{tmp_path / 'out'}: 6 images, ")
    assert output.err.count("\n") == 1
    assert "broken.jpg is not a readable image" in output.err
    found = prepared(tmp_path / "out")
    assert sorted(found) == ["0.png", "1.png", "2.png", "3.png", "4.jpg", "nested.jpg"]
    for name, data in found.items():
        original = reader.read(photos / name)
        exact = photo.resize(original, 64)
        image = reader.read(data)
        assert image.size == exact.size
        assert np.abs(np.asarray(image).astype(int) - np.asarray(exact)).mean() < 4
        assert jpeg._cut_blocks(data, image.size, (0, 0, 8, 8)), "a crop needs a part of the file only"
    assert Crop((64, 64), 32)(found["0.png"], np.random.default_rng(0)).shape == (3, 32, 32)


@pytest.mark.skipif(sys.platform != "linux", reason="names are text")
def test_a_name_that_is_no_text(tmp_path):
    picture_of_bytes(tmp_path / "in" / "caf\udce9.png")
    assert exit_code("prepare-data", "--source", tmp_path / "in", "--output", tmp_path / "out", "--size", 16) == 0
    assert [*prepared(tmp_path / "out")] == ["caf?.png"]


@pytest.mark.parametrize("streaming", [False, True])
def test_a_dataset(photos, tmp_path, streaming, monkeypatch):
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    cells = [{"bytes": path.read_bytes(), "path": path.name} for path in listing.files(photos)]
    rows = Dataset.from_dict({"photo": [*cells, None], "label": list(range(len(cells) + 1))})
    rows.cast_column("photo", Image()).to_parquet(tmp_path / "data.parquet")
    words = ["--source", tmp_path / "data.parquet", "--column", "photo", "--output", tmp_path / "out", "--size", 64]
    assert exit_code("prepare-data", *words, "--quiet", *["--streaming"] * streaming) == 1
    assert exit_code("prepare-data", "--source", photos, "--output", tmp_path / "same", "--size", 64, "--quiet") == 1
    assert prepared(tmp_path / "out") == prepared(tmp_path / "same")


def test_an_interrupted_run_continues(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prepare, "SHARD_IMAGES", 2)
    words = "prepare-data", "--source", photos, "--size", 64, "--quiet", "--output"
    assert exit_code(*words, tmp_path / "whole") == 1
    encoded = []

    def encode(image, size, quality, at=None):
        encoded.append(image.name)
        if len(encoded) == 5 and at:
            raise KeyboardInterrupt
        return original(image, size, quality)

    original = prepare.encode_jpeg
    monkeypatch.setattr(prepare, "encode_jpeg", lambda *options: encode(*options, at=5))
    monkeypatch.setattr(prepare, "PREFETCH", 0)
    assert exit_code(*words, tmp_path / "out", "--workers", 1) == 130
    assert not (tmp_path / "out").exists()
    partial = tmp_path / "out.partial"
    shards = sorted(path.name for path in partial.iterdir())
    assert shards == ["prepared.json", "train-00000.parquet", "train-00001.parquet"], "nothing is half-written"
    capsys.readouterr()
    assert exit_code(*words, tmp_path / "out", "--quality", 80) == 2
    assert "Expected the settings of the interrupted run" in capsys.readouterr().err
    encoded.clear()
    monkeypatch.setattr(prepare, "encode_jpeg", encode)
    assert exit_code(*words, tmp_path / "out") == 1
    assert len(encoded) == 3, "the first four are not converted again"
    assert "broken.jpg" in capsys.readouterr().err, "failures before the interruption are listed, too"
    assert not partial.exists()
    assert prepared(tmp_path / "out") == prepared(tmp_path / "whole")
    assert json.loads((tmp_path / "out" / "prepared.json").read_text())["source"] == str(photos)


def test_what_is_refused(photos, tmp_path, capsys):
    def error(*words):
        assert exit_code("prepare-data", "--quiet", *words) == 2
        return capsys.readouterr().err

    out = tmp_path / "out"
    assert "which is not empty; choose another --output" in error("--source", photos, "--output", photos)
    assert "Expected --quality between 1 and 95" in error("--source", photos, "--output", out, "--quality", 96)
    assert "Expected --size of at least 1" in error("--source", photos, "--output", out, "--size", 0)
    missing = error("--source", "missing", "--output", out)
    assert "got missing (no such folder or file, and none found on the Hub: " in missing
    bad = tmp_path / "bad"
    empty = tmp_path / "empty.parquet"
    Dataset.from_dict({"image": [None]}).cast_column("image", Image()).select([]).to_parquet(empty)
    assert "got 0 that cannot be read" in error("--source", empty, "--output", out, "--streaming")
    empty.unlink()
    bad.mkdir()
    assert "Expected images in" in error("--source", bad, "--output", out)
    (bad / "a.jpg").write_bytes(b"no")
    assert "got 1 that cannot be read; the first one: " in error("--source", bad, "--output", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad", "photos"], "nothing is left behind"
