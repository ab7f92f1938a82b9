import os
import subprocess
import sys

import pytest

from adain.utils import files


@pytest.fixture
def dead():
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_only_temporary_files_of_dead_processes_of_this_program_and_host_are_removed(tmp_path, dead):
    host = files._host()
    stale = f".adain-{host}-{dead}-1.png", f".adain-{host}-{dead}-1"
    others = (
        f".adain-{host}-{os.getpid()}-1.png",  # of a living process
        f".adain-another_host-{dead}-1.png",
        f".adain-{host}-{dead}.png",  # not of this form
        f".adain-{host}-{dead}-1.png.bak",
        ".adain-notes.txt",
        f"adain-{host}-{dead}-1.png",
        ".hidden",
    )
    for name in (*stale, *others):
        (tmp_path / name).touch()
    files.remove_stale(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*others}


def test_temporary_files_have_the_form_that_is_removed(tmp_path, dead, monkeypatch):
    monkeypatch.setattr(os, "getpid", lambda: dead)
    with files.atomic_path(tmp_path / "a.png") as temporary:
        files.remove_stale(tmp_path)
        assert not temporary.exists()
        temporary.write_text("new")
    assert (tmp_path / "a.png").read_text() == "new"


@pytest.mark.parametrize("name", ["file/a.png", "file/new/a.png"])
def test_a_file_in_place_of_a_folder_is_named(name, tmp_path):
    (tmp_path / "file").touch()
    expected = rf"^cannot write .*/a\.png \({tmp_path / 'file'} is a file, not a folder\); choose another output$"
    with pytest.raises(OSError, match=expected):
        files.atomic_path(tmp_path / name).__enter__()


def test_a_folder_without_permission_is_named(tmp_path, monkeypatch):
    def touch(self, *_):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(files.Path, "touch", touch)
    writing = files.atomic_path(tmp_path / "a.png")
    with pytest.raises(PermissionError, match=r"^cannot write .*/a\.png \(Permission denied\); choose another output$"):
        writing.__enter__()


@pytest.mark.parametrize(("length", "expected"), [(9, "a写真b"), (8, "a写真b"), (7, "a写真"), (6, "a写"), (3, "a")])
def test_a_name_is_truncated_by_bytes_between_characters(length, expected):
    assert files.truncated("a写真b", length) == expected


BYTES = "caf\udce9"
"""A name that is not UTF-8, as Python has it: the last letter is a byte."""


def test_names_that_are_no_text_are_hashed_and_cut():
    assert files.short_hash("café") == "850f7dc4", "as it has always been"
    assert files.short_hash(BYTES) != files.short_hash("caf\udce8")
    assert files.truncated("é" * 5, 7) == "é" * 3
    assert files.truncated(BYTES * 9, 7) == f"{BYTES}c"
    assert files.as_text(f"{BYTES}é") == "caf?é"


def test_tables_hold_names_that_are_no_text(tmp_path):
    table = tmp_path / "t.csv"
    files.write_csv([{"content": f"{BYTES}.png", "style": "é.png"}], table)
    assert table.read_bytes() == b"content,style\r\ncaf\xe9.png,\xc3\xa9.png\r\n"
