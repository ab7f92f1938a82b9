"""The lock of a folder run, so that two runs do not write to one output folder at once."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def locked(manifest: Path, other_runs: str) -> Iterator[None]:
    """Hold the lock of a manifest in the `with` block.

    The lock is one of the system on the open file, and not a file of its own: it ends with its process, however that
    ends. Where the system or the file system has no such locks, as on Windows, nothing is checked.

    Args:
        manifest: The file that this process will write. It is created if it is missing.
        other_runs: Pattern of the names of manifests that no other process may be writing.

    Raises:
        OSError: Another process writes to the folder, or the manifest cannot be written.
    """
    try:
        manifest.parent.mkdir(parents=True, exist_ok=True)
        own = _open_locked(manifest)
    except OSError as error:
        if error.strerror is None:  # ours
            raise
        raise type(error)(f"cannot write {manifest} ({error.strerror}); choose another output") from error
    with own:
        for path in manifest.parent.glob(other_runs):
            if path != manifest:
                with path.open("ab") as other:  # closing it releases the lock
                    _lock(other, path)
        try:
            yield
        finally:
            with suppress(OSError):  # Windows deletes no open file
                if manifest.stat().st_size == 0:
                    manifest.unlink()


def _open_locked(path: Path) -> IO[bytes]:
    while True:
        file = path.open("ab")
        try:
            _lock(file, path)
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        except OSError:
            file.close()
            raise
        file.close()  # a run that ended at this moment deleted it


def _lock(file: IO[bytes], path: Path) -> None:
    if fcntl is None:
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OSError(f"another run writes to {path.parent}; wait for its end, or choose another output") from None
    except OSError:
        return  # this file system has no locks
