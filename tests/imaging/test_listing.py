"""Listing the images of a folder."""

import os
import sys

import pytest

from adain.batch.jobs import ImageFolder
from adain.imaging import listing
from adain.utils.files import sha256_of
from tests.conftest import exit_code, picture


def test_it_lists_images_and_nothing_else(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "directory.png").mkdir()
    names = [
        "b.png",
        "a.JPG",
        "folder/c.tiff",
        "notes.txt",
        "clip.mpg",
        "data.h5",
        "page.eps",
        ".d.png",
        ".hidden/e.png",
    ]
    for name in names:
        (tmp_path / name).touch()
    found = [path.relative_to(tmp_path).as_posix() for path in listing.files(tmp_path)]
    assert found == ["a.JPG", "b.png", "folder/c.tiff"]


def test_files_of_another_kind(tmp_path):
    for name in ("b.txt", "a.txt", ".hidden.txt", "c.png"):
        (tmp_path / name).touch()
    found = listing.files(tmp_path, accepts=lambda path: path.suffix == ".txt", expected="texts")
    assert found == [tmp_path / "a.txt", tmp_path / "b.txt"]
    with pytest.raises(ValueError, match="Expected films in"):
        listing.files(tmp_path, accepts=lambda path: False, expected="films")


def test_images_in_a_hidden_folder_that_is_named(tmp_path):
    folder = tmp_path / ".cache"
    folder.mkdir()
    (folder / "a.png").touch()
    assert listing.files(folder) == [folder / "a.png"]


@pytest.fixture
def locked(tmp_path, monkeypatch):
    """A folder whose subfolder cannot be read, by whoever runs the tests."""
    for name in ("a.png", "sub/b.png", "sub/.hidden/c.png", ".hidden/d.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    refused = {str(tmp_path / "sub"), str(tmp_path / ".hidden")}
    scandir = os.scandir

    def refusing(path):
        if str(path) in refused:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    return tmp_path


def test_subfolders_that_cannot_be_read_are_reported(locked, caplog):
    assert listing.files(locked) == [locked / "a.png"]
    assert caplog.messages == [f"{locked / 'sub'} cannot be read (permission denied); its images are left out"]
    failures = []
    listing.files(locked, lambda *failure: failures.append(failure))
    assert failures == ImageFolder(locked).unreadable == [(locked / "sub", "cannot be read (permission denied)")]
    with pytest.raises(PermissionError, match=r"sub cannot be read \(permission denied\)$"):
        listing.files(locked / "sub")


def test_a_folder_run_fails_for_subfolders_that_cannot_be_read(locked, make_picture, capsys):
    picture(locked / "a.png")
    words = ["--content", locked, "--style", make_picture("s.jpg"), "--output", locked / "out", "--method"]
    assert exit_code("stylize", *words, "adain-lite", "--size", 16, "--workers", 0, "--device", "cpu") == 1
    assert capsys.readouterr().err == f"adain: error: {locked / 'sub'} cannot be read (permission denied)\n"


def test_links_to_folders_are_not_followed(tmp_path, caplog):
    picture(tmp_path / "photos" / "a.png")
    picture(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "photos" / "circle").symlink_to(tmp_path / "photos", target_is_directory=True)
    (tmp_path / "photos" / "away").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "photos" / ".hidden").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    (tmp_path / "photos" / "c.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    photos = tmp_path / "photos"
    assert listing.files(photos) == [photos / "a.png", photos / "c.png"]
    expected = "(and 1 more): links to folders are not followed; name the folders themselves"
    assert caplog.messages == [f"{photos / 'away'} {expected}"]
    (tmp_path / "link").symlink_to(photos, target_is_directory=True)
    assert len(listing.files(tmp_path / "link")) == 2, "a link that is named is followed"


def test_no_folder_and_a_folder_without_images(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing: no such folder"):
        listing.files(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"Expected images in .* or its subfolders, found none"):
        listing.files(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes in folders")
def test_a_pipe_has_no_checksum(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    writer = os.open(tmp_path / "pipe.png", os.O_RDWR)  # so that opening the pipe would not wait
    os.write(writer, b"data")
    with pytest.raises(OSError, match="expected a file, got a named pipe"):
        sha256_of(tmp_path / "pipe.png")
    os.close(writer)
