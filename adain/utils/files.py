"""Atomic writing of files: a file is written completely or not at all."""

import csv
import os
import platform
import re
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

_UMASK = os.umask(0)
os.umask(_UMASK)

NEW_FILE_MODE = 0o666 & ~_UMASK
"""Permissions of new files. Those of `tempfile` are readable by their owner only."""


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows to a CSV file with a header.

    Args:
        rows: at least one row. All rows have the columns of the first.
        path: the file to write.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary file to write, which replaces `path` if the `with` block succeeds.

    A symbolic link stays a link: the file that it points to is replaced. The permissions of an existing file are
    preserved.

    Raises:
        OSError: `path` cannot be written. The message names it.
    """
    target = Path(os.path.realpath(path))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        # The same folder makes the rename atomic. Writers infer the format from the suffix.
        prefix = f".adain-{_host()}-{os.getpid()}-"
        descriptor, name = tempfile.mkstemp(Path(path).suffix, prefix, target.parent)
    except OSError as error:
        raise type(error)(f"cannot write {path} ({error.strerror}); choose another output") from error
    os.close(descriptor)
    temporary = Path(name)
    try:
        yield temporary
        mode = target.stat().st_mode if target.exists() else NEW_FILE_MODE
        temporary.chmod(stat.S_IMODE(mode))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale(folder: Path) -> None:
    """Delete the temporary files in `folder` that `atomic_path` left behind in dead processes of this host."""
    pattern = re.compile(rf"\.adain-{_host()}-(\d+)-\w+(\.\w+)?")
    for path in folder.glob(".adain-*"):
        match = pattern.fullmatch(path.name)
        if match and not psutil.pid_exists(int(match[1])):
            path.unlink(missing_ok=True)


def _host() -> str:
    """Return the name of this machine without dashes. Several machines may write to a shared folder."""
    return re.sub(r"\W", "_", platform.node())
