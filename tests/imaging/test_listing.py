"""Listing the images of a folder."""

import os
import sys

import pytest

from adain.imaging import listing
from adain.utils.files import sha256_of


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


def test_images_in_a_hidden_folder_that_is_named(tmp_path):
    folder = tmp_path / ".cache"
    folder.mkdir()
    (folder / "a.png").touch()
    assert listing.files(folder) == [folder / "a.png"]


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
