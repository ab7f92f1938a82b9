"""The records of a run in its output folder: its options, and which units are complete.

The files are hidden, so that readers of datasets do not take them for data.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from adain.datasets.unit_run import Status
from adain.utils.files import atomic_path, sha256_of
from adain.utils.flags import flag_name

OPTIONS = ".options.json"
"""File with the options of the first run."""

MANIFEST = ".manifest"
"""How the names of the files begin that have a line for each complete unit; each rank writes one."""


def check_options(folder: Path, options: Mapping[str, Any]) -> None:
    """Record the options of a run, or compare them with those of the first one.

    Raises:
        ValueError: They differ, or the folder has other contents.
        OSError: The folder cannot be written.
    """
    path = folder / OPTIONS
    wanted = json.loads(json.dumps(options))
    if path.exists():
        _compare(json.loads(path.read_text()), wanted, folder)
        return
    if folder.exists() and any(not file.name.startswith(".") for file in folder.iterdir()):
        raise ValueError(f"Expected a new folder, or that of an interrupted run, got {folder}; choose another --output")
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(wanted, indent=2) + "\n")


def _compare(earlier: Mapping[str, Any], wanted: Mapping[str, Any], folder: Path) -> None:
    differing = [name for name in wanted if earlier.get(name) != wanted[name]]
    if not differing:
        return
    name = differing[0]
    if name == "units":
        what = "the files and the options of the source"
        raise ValueError(f"Expected {what} as in the first run in {folder}, got others; choose another --output")
    first, now = _as_text(earlier.get(name)), _as_text(wanted[name])
    raise ValueError(
        f"Expected {flag_name(name)} {first} as in the first run in {folder}, got {now}; "
        "repeat it, or choose another --output"
    )


def _as_text(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "none" if value is None else str(value)


class Records:
    """The units that are complete. Those of all ranks and earlier runs count.

    Args:
        folder: The output folder.
        file: The file that this process appends to.
    """

    def __init__(self, folder: Path, file: Path):
        self.folder = folder
        self.file = file
        self.statuses = dict[str, Status]()
        for path in sorted(folder.glob(f"{MANIFEST}*.jsonl")):
            data = path.read_bytes()
            for status in _statuses(data):
                self.statuses[status.unit] = status
            if path == file and data and not data.endswith(b"\n"):
                with file.open("ab") as opened:  # after half a line, of a run that was killed
                    opened.write(b"\n")

    def complete(self, unit: str, verify: bool, retry: bool) -> Status | None:
        """Return the status of a unit, if it is complete: its files exist, with the recorded sizes.

        Args:
            unit: Name of the unit.
            verify: Compare the contents of its files as well.
            retry: Units in which images failed count as not complete.
        """
        status = self.statuses.get(unit)
        if status is None or (retry and status.failures):
            return None
        for name, size in status.files.items():
            path = self.folder / name
            if not path.is_file() or path.stat().st_size != size:
                return None
        if verify and sha256_of(*(self.folder / name for name in status.files)) != status.sha256:
            return None
        return status

    def add(self, status: Status) -> None:
        """Append a complete unit."""
        self.statuses[status.unit] = status
        with self.file.open("a") as file:
            file.write(json.dumps(asdict(status)) + "\n")


def _statuses(data: bytes) -> Iterator[Status]:
    for line in data.splitlines():
        with suppress(ValueError, TypeError):  # half a line
            yield Status(**json.loads(line))
