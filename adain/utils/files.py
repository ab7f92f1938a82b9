"""Files that are written whole or not at all."""

import csv
import os
import platform
import re
import stat
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Rows, which all have the columns of the first, into a file below their names."""
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary file to write in a `with` block, which becomes `path` if the block succeeds.

    A symbolic link stays one: the file that it points to is written. A file that is replaced passes on its permissions.

    Raises:
        OSError: a path that cannot be written; the message names it.
    """
    target = Path(os.path.realpath(path))
    # Same folder, so that the rename is atomic; same suffix, from which writers tell the format.
    temporary = target.with_name(f".adain-{_host()}-{os.getpid()}-{threading.get_ident()}{Path(path).suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise type(error)(f"cannot write {path} ({error.strerror}); choose another output") from error
    try:
        yield temporary
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def remove_stale(folder: Path) -> None:
    """Delete the temporary files of `atomic_path` in `folder` that dead processes of this host left behind."""
    ours = re.compile(rf"\.adain-{_host()}-(\d+)-\d+(\.\w+)?")
    for path in folder.glob(".adain-*"):
        found = ours.fullmatch(path.name)
        if found and not psutil.pid_exists(int(found[1])):
            path.unlink(missing_ok=True)


def _host() -> str:
    """The name of this machine, without dashes; several may share the folder that is written to."""
    return re.sub(r"\W", "_", platform.node())
