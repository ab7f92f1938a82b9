import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
import torch

from adain.batch import manifest
from adain.batch.jobs import Job
from adain.batch.manifest import Manifest
from adain.imaging.photo import Photo
from adain.inference import full_size
from adain.utils import files
from tests.conftest import picture

SETTINGS = {"method": "AdaIN", "size": None, "work_size": None, "alpha_blend": "residual", "detail": 0.0}


@pytest.fixture
def job(tmp_path):
    content, style = picture(tmp_path / "c.png", (20, 24)), picture(tmp_path / "s.png")
    return Job(content, style, 0.5, Path("sub/c__s.png"), ("c.png", "s.png"))


@pytest.fixture
def opened(tmp_path, job):
    """A manifest with these settings, and whether it misses the result of the job."""
    (tmp_path / "out").mkdir()

    def call(name="manifest.jsonl", job=job, verify=False, **changes):
        found = Manifest(tmp_path / "out" / name, {**SETTINGS, **changes}, 3, verify)
        return found, found.missing([job]) == [job]

    return call


def write(opened, job, **changes):
    found, is_missing = opened(job=job, **changes)
    assert is_missing
    found.write(job, Photo(torch.rand(1, 3, 6, 5)), 0.123456)
    return found.path


def entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_a_line_has_all_that_a_result_depends_on(opened, job, tmp_path):
    path = write(opened, job)
    (line,) = entries(path)
    result = tmp_path / "out" / "sub" / "c__s.png"
    data, stat = result.read_bytes(), result.stat()
    stamps = {
        f"{name}_stamp": [file.stat().st_size, int(file.stat().st_mtime)]
        for name, file in (("content", job.content), ("style", job.style))
    }
    assert line == {
        **SETTINGS,
        **stamps,
        "content": "c.png",
        "style": "s.png",
        "output": "sub/c__s.png",
        "alpha": 0.5,
        "seed": 3,
        "seconds": 0.1235,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "modified_ns": stat.st_mtime_ns,
    }
    assert not opened()[1]


@pytest.mark.parametrize(
    "changes", [{"method": "WCT"}, {"size": 5}, {"alpha_blend": "features"}, {"detail": 0.5}], ids=str
)
def test_other_settings_need_other_results(opened, job, changes):
    write(opened, job)
    assert opened(**changes)[1]


def test_the_blend_does_not_matter_at_full_strength(opened, job):
    strong = Job(job.content, job.style, 1.0, job.output, job.places)
    path = write(opened, strong)
    assert "alpha_blend" not in entries(path)[0]
    assert not opened(job=strong, alpha_blend="features")[1]
    assert opened(job=job)[1], "another alpha does"


def test_lines_of_other_processes_count(opened, job):
    write(opened, job, name="manifest-1.jsonl")
    found, is_missing = opened()
    assert not is_missing
    assert not found.path.exists(), "nothing is copied"
    found.path.with_name("manifest-1.jsonl").rename(found.path.with_name("notes.jsonl"))
    assert opened()[1]


def test_half_a_line_is_completed_and_passed_over(opened, job):
    path = write(opened, job)
    whole = path.read_bytes()
    other = path.with_name("manifest-1.jsonl")
    for file in (path, other):
        file.write_bytes(b'{"output": "su')
    found, is_missing = opened()
    assert is_missing
    assert path.read_bytes().endswith(b"su\n"), "the next line starts at the beginning of a line"
    assert other.read_bytes().endswith(b"su"), "another process may be writing it"
    found.write(job, Photo(torch.rand(1, 3, 6, 5)), 1.0)
    assert not opened()[1]
    path.write_bytes(b"7\n[]\n{}\n" + whole)
    opened()  # lines that are no objects, or name no output


def test_a_result_is_recognized_by_its_stamp_or_by_its_hash(opened, job, tmp_path):
    write(opened, job)
    result = tmp_path / "out" / job.output
    data, stat = result.read_bytes(), result.stat()
    os.utime(result, ns=(0, 0))
    assert not opened()[1], "a copy"
    result.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert opened()[1], "other bytes at another time"
    os.utime(result, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not opened()[1], "the size and time that were recorded"
    assert opened(verify=True)[1]
    result.unlink()
    assert opened()[1]


def test_a_changed_input_needs_another_result(opened, job):
    write(opened, job)
    for path in (job.content, job.style):
        before = path.stat()
        os.utime(path, (1, 1))
        assert opened()[1]
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert not opened()[1]


@pytest.mark.parametrize(
    ("recorded", "wanted", "largest", "is_missing"),
    [
        ("content", {}, 20, False),  # the default is the content's own size, as it was in earlier versions
        (None, {}, 20, False),  # the earliest lines have no work size
        ("content", {}, 19, True),  # the content is large now
        ("content", {"size": 30}, 20, True),
        ("content", {"work_size": 64}, 20, True),
        (64, {}, 20, True),
    ],
)
def test_lines_of_earlier_versions(opened, job, monkeypatch, recorded, wanted, largest, is_missing):
    monkeypatch.setattr(full_size, "LARGEST_CONTENT", largest)  # the content's shorter side is 20
    path = write(opened, job, **wanted)
    (line,) = entries(path)
    del line["work_size"], line["detail"]
    if recorded is not None:
        line["work_size"] = recorded
    path.write_text(json.dumps(line) + "\n")
    assert opened(**wanted)[1] == is_missing


def test_the_hash_of_a_file_that_is_read_in_parts(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "HASHED_AT_A_TIME", 3)
    path = tmp_path / "file"
    path.write_bytes(b"12345678")
    assert manifest.file_digest(path) == {"bytes": 8, "sha256": hashlib.sha256(b"12345678").hexdigest()}


def test_half_a_line_survives_a_full_disk(opened, job, monkeypatch):
    path = write(opened, job)
    path.write_bytes(path.read_bytes() + b'{"output": "half')
    before, unchanged = path.read_bytes(), Path.open

    def full(self, mode="r", *args, **kwargs):
        file = unchanged(self, mode, *args, **kwargs)  # "w" would empty the file
        if not {*mode} & {*"wa"}:
            return file
        file.close()
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        with pytest.raises(OSError, match="No space"):
            opened()
    assert path.read_bytes() == before
