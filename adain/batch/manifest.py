"""The manifest of a folder run: which results are complete, and what each depends on."""

import json
import threading
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image

from adain.batch.jobs import Job
from adain.imaging import reader, writer
from adain.imaging.photo import Photo
from adain.inference import full_size
from adain.utils.files import sha256_of

EARLIER = {"work_size": "content", "detail": 0.0}
"""Settings of versions that did not record them."""

MANIFEST = "manifest"
"""How the names of the manifests of a folder begin."""


class Manifest:
    """The complete results of a run. Each has a line of JSON with all that it depends on, and the hash of its file.

    Args:
        path: The file that lines are appended to. Those in files of other processes, beside it, count as well.
        settings: All settings that the results depend on.
        seed: Recorded for information: each line names the style that was drawn.
        verify: Compare the hashes of results, even if their size and modification time are as recorded.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], seed: int, verify: bool = False):
        self.path = path
        self.settings = settings
        self.seed = seed
        self.verify = verify
        self.lock = threading.Lock()
        self.wanted = dict[Job, dict[str, Any]]()
        self.entries = defaultdict[str, list[dict[str, Any]]](list)
        for other in path.parent.glob(f"{MANIFEST}*.jsonl"):
            data = other.read_bytes()
            self._add_entries(data)
            if other == path and data and not data.endswith(b"\n"):
                with path.open("ab") as file:  # writing all of it again could lose it on a full disk
                    file.write(b"\n")

    def _add_entries(self, data: bytes) -> None:
        for line in data.splitlines():
            with suppress(ValueError, KeyError, TypeError):  # half a line, of a run that was killed
                entry = json.loads(line)
                self.entries[entry["output"]].append({**EARLIER, **entry})

    def missing(self, jobs: Iterable[Job]) -> list[Job]:
        """Return the jobs whose results are missing, or were made with other settings or inputs."""
        # Recorded now: an input that is replaced before its turn is stylized again in the next run.
        self.wanted = {job: self._dependencies(job) for job in jobs}
        with ThreadPoolExecutor() as pool:
            complete = pool.map(self._is_complete, self.wanted)
            return [job for job, done in zip(self.wanted, complete, strict=True) if not done]

    def _dependencies(self, job: Job) -> dict[str, Any]:
        """Return all that a result depends on: paths, sizes and modification times of its inputs, and the settings."""
        found: dict[str, Any] = dict(zip(("content", "style"), job.places, strict=False))
        found |= {"output": job.output.as_posix(), "alpha": job.alpha, **self.settings}
        if job.alpha == 1:
            found.pop("alpha_blend", None)  # it has no effect, and earlier versions did not record it
        for name, path in (("content", job.content), ("style", job.style)):
            if path and path.exists():
                stat = path.stat()
                found[f"{name}_stamp"] = [stat.st_size, int(stat.st_mtime)]
        return found

    def _is_complete(self, job: Job) -> bool:
        wanted = self.wanted[job]
        path = self.path.parent / job.output
        entries = [entry for entry in self.entries.get(wanted["output"], ()) if _fits(entry, wanted, job.content)]
        if not entries or not path.is_file():
            return False
        stamp = _stamp(path)
        if not self.verify and any(entry.items() >= stamp.items() for entry in entries):
            return True
        digest = file_digest(path)  # the file may have been copied, or its line is of an earlier version
        return any(entry.items() >= digest.items() for entry in entries)

    def write(self, job: Job, photo: Photo, seconds: float) -> None:
        """Save the result, and then append its line."""
        path = self.path.parent / job.output
        writer.save(photo.pixels, path, like=photo)
        result = {"seed": self.seed, "seconds": round(seconds, 4), **file_digest(path), **_stamp(path)}
        line = json.dumps({**self.wanted[job], **result})
        with self.lock, self.path.open("a") as file:
            file.write(line + "\n")


def _fits(entry: Mapping[str, Any], wanted: Mapping[str, Any], content: Path) -> bool:
    """Return whether an entry has all the settings that are wanted.

    Earlier versions had no work size and always used the content's own. That is also the default where results have
    their content's size and it is not large.
    """
    by_default = wanted["work_size"] is None and wanted["size"] is None
    if by_default and entry["work_size"] == "content" and not _is_large(content):
        entry = {**entry, "work_size": None}
    return entry.items() >= wanted.items()


def _is_large(content: Path) -> bool:
    """Return whether the default work size applies to an image at its own size; True if that cannot be read."""
    try:
        with Image.open(content) as image:
            return min(image.size) > full_size.LARGEST_CONTENT
    except reader.UNREADABLE:
        return True


def _stamp(path: Path) -> dict[str, Any]:
    """Return the size and modification time of a result."""
    stat = path.stat()
    return {"bytes": stat.st_size, "modified_ns": stat.st_mtime_ns}


def file_digest(path: Path) -> dict[str, Any]:
    """Return the size and hash of a file, which identify its content."""
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
