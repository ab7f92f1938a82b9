"""Atomic writing of files: a file is written completely or not at all."""

import csv
import hashlib
import os
import platform
import re
import stat
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

HASHED_AT_A_TIME = 2**20
"""Bytes."""


FILE_NAMES: Any = {"encoding": "utf-8", "errors": "surrogateescape"}
"""How text with file names is written: on Linux, they may be any bytes."""


def sha256_of(*paths: Path) -> str:
    """Return the sha256 of the contents of files, one after the other, in hexadecimal digits.

    Raises:
        OSError: A path is not a file, or cannot be read.
    """
    digest = hashlib.sha256()
    for path in paths:
        check_regular(path)
        with path.open("rb") as file:
            while part := file.read(HASHED_AT_A_TIME):
                digest.update(part)
    return digest.hexdigest()


def short_hash(text: str) -> str:
    """Return eight hexadecimal digits that distinguish file names which would otherwise be equal."""
    return hashlib.sha256(name_bytes(text)).hexdigest()[:8]


def name_bytes(name: str) -> bytes:
    """Encode a file name in UTF-8, even if it is not valid text.

    Python has lone surrogates for bytes that are not UTF-8.
    """
    return name.encode(errors="surrogatepass")


def as_text(name: str) -> str:
    """Return a file name for formats that hold text only, with question marks for bytes that are not UTF-8."""
    return name.encode(errors="replace").decode()


def truncated(name: str, length: int) -> str:
    """Truncate a file name to at most `length` bytes, as file systems count, without splitting a character."""
    name = name[:length]
    while len(name_bytes(name)) > length:
        name = name[:-1]
    return name


def check_not_inputs(outputs: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Check that no output would replace an input, under whatever spelling, or through a link.

    Raises:
        ValueError: An output is an input.
        OSError: An output cannot be written, because of its name or the permissions of its folder.
    """
    known = set()
    for path in inputs:
        with suppress(OSError):  # what cannot be read is reported by those who read it
            known.add(_identity(path))
    for output in outputs:
        if Path(output).exists() and _identity(output) in known:
            raise ValueError(f"{output} is an input and would be overwritten; name another output")


def _identity(path: str | Path) -> tuple[int, int]:
    """Return the device and inode of a file, which are the same for all of its names."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


def write_csv(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Write rows to a CSV file with a header, in UTF-8. Bytes of file names that are not UTF-8 stay as they are.

    Args:
        rows: At least one row. All rows have the columns of the first.
        path: The file to write.
    """
    with atomic_path(path) as temporary, temporary.open("w", newline="", **FILE_NAMES) as file:
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
    # The same folder makes the rename atomic. Writers infer the format from the suffix. `tempfile` would create a file
    # that only its owner can read, and the default permissions cannot be read without changing them for all threads.
    name = f".adain-{_host()}-{os.getpid()}-{threading.get_ident()}{Path(path).suffix}"
    temporary = target.with_name(name)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch()
    except OSError as error:
        raise type(error)(f"cannot write {path} ({_reason(error, Path(path))}); choose another output") from error
    try:
        yield temporary
        if target.exists():
            temporary.chmod(stat.S_IMODE(target.stat().st_mode))
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _reason(error: OSError, path: Path) -> str | None:
    """Say why a file cannot be written: the system's reason, unless one of its parents is a file."""
    for parent in path.parents:
        if parent.is_file():
            return f"{parent} is a file, not a folder"
    return error.strerror


def check_regular(path: str | Path) -> None:
    """Raise OSError for a named pipe, a socket, or a device: reading it could wait forever or never end.

    Nothing is raised for a path that cannot be found or reached. Opening it says why.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise OSError("expected a file, got a named pipe or a device; for pipes, use - and standard input")


def remove_stale(folder: Path) -> None:
    """Delete the temporary files in `folder` that `atomic_path` left behind in dead processes of this host."""
    import psutil  # slow to import, and not needed for --help

    pattern = re.compile(rf"\.adain-{_host()}-(\d+)-\d+(\.\w+)?")
    for path in folder.glob(".adain-*"):
        match = pattern.fullmatch(path.name)
        if match and not psutil.pid_exists(int(match[1])):
            path.unlink(missing_ok=True)


def _host() -> str:
    """Return the name of this machine without dashes. Several machines may write to a shared folder."""
    return re.sub(r"\W", "_", platform.node())
