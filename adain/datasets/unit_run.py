"""The work on one unit: read, stylize in batches, and write. All engines run it."""

from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from adain.datasets.formats import split_suffix
from adain.datasets.network import Network, reproducible
from adain.datasets.options import ResultOptions
from adain.datasets.pending import Pending, prepare, windows
from adain.datasets.samples import Result, Sample, Source, Unit
from adain.datasets.targets import Target
from adain.imaging import writer
from adain.imaging.options import ReadOptions
from adain.imaging.photo import Photo
from adain.utils.errors import INPUT_ERRORS, one_line
from adain.utils.files import sha256_of
from adain.utils.prefetch import prefetch_map

GPU_THREADS = 8
"""Threads that decode and encode while a GPU stylizes."""

READ_AHEAD = 32
"""Images that these threads prepare in advance."""


@dataclass(frozen=True)
class Status:
    """What became of a unit."""

    unit: str
    results: int = 0
    """Number of results."""
    files: dict[str, int] = field(default_factory=dict)
    """Sizes in bytes of all files, by path in the target."""
    sha256: str = ""
    """Digest of the contents of all files, in this order."""
    failures: list[str] = field(default_factory=list)
    """Why images, or the whole unit, could not be read or stylized."""
    is_complete: bool = True
    """Whether its files were written."""
    fatal: str = ""
    """Why this and other units cannot be written."""


Statuses = Generator[Status, None, None]
"""The statuses of units, in the order in which they are made. Closing it ends the work."""


class UnreadableUnitError(OSError):
    """A unit cannot be read. Others may be readable."""


class UnitRun:
    """Makes units. The files of a unit depend on the unit and these arguments only, not on other units or their order.

    Args:
        source: Where samples come from.
        target: Where results are written.
        options: What is made of each image.
        read_options: Which images are accepted.
        network: The network with the styles.
    """

    def __init__(
        self, source: Source, target: Target, options: ResultOptions, read_options: ReadOptions, network: Network
    ):
        self.source = source
        self.target = target
        self.options = options
        self.read_options = read_options
        self.network = network

    def __call__(self, unit: Unit, device: str) -> Status:
        """Make a unit on a device. What concerns single images, or the unit alone, is in the status and not raised."""
        making = _Making(self, unit, device)
        try:
            with reproducible():
                files = making.write()
        except UnreadableUnitError as error:
            return Status(unit.name, failures=[f"{unit.name}: {one_line(error)}"], is_complete=False)
        except (OSError, ValueError) as error:
            return Status(unit.name, is_complete=False, fatal=one_line(error))
        folder = self.target.folder
        sizes = {path.as_posix(): (folder / path).stat().st_size for path in files}
        return Status(unit.name, making.count, sizes, sha256_of(*(folder / path for path in sizes)), making.failures)


class _Making:
    """The work on one unit, with what it counts."""

    def __init__(self, run: UnitRun, unit: Unit, device: str):
        self.run = run
        self.unit = unit
        self.device = device
        self.count = 0
        self.failures: list[str] = []

    def write(self) -> list[Path]:
        threads = threads_for(self.device)
        with ThreadPoolExecutor(threads) if threads else nullcontext() as pool:
            return self.run.target.write(self.unit, self._results(pool))

    def _results(self, pool: Executor | None) -> Iterator[Result]:
        """Yield the results in the order of their samples. Failures are left out and noted."""
        for (one, _), data in prefetch_map(_encode, self._stylized(pool), pool, READ_AHEAD):
            self.count += 1
            yield Result(one.sample, one.name, one.suffix, data)

    def _stylized(self, pool: Executor | None) -> Iterator[tuple[Pending, Photo]]:
        for window in windows(self._pending(pool), self.run.options.batch_size):
            for one, stylized in zip(window, self.run.network.stylize(window, self.device), strict=True):
                if isinstance(stylized, str):
                    self._fail(one.sample, stylized)
                else:
                    yield one, stylized

    def _pending(self, pool: Executor | None) -> Iterator[Pending]:
        for sample, found in prefetch_map(self._prepare, self._samples(), pool, READ_AHEAD):
            if isinstance(found, str):
                self._fail(sample, found)
            else:
                yield from found

    def _samples(self) -> Iterator[Sample]:
        samples = self.run.source.read(self.unit)
        while True:
            try:
                sample = next(samples)
            except StopIteration:
                return
            except OSError as error:
                raise UnreadableUnitError(str(error)) from error
            yield sample

    def _prepare(self, sample: Sample) -> Sequence[Pending] | str:
        """Return the photos of a sample, or why it cannot be read."""
        try:
            return prepare(sample, len(self.run.network.bank), self.run.options, self.run.read_options)
        except INPUT_ERRORS as error:
            return one_line(error)

    def _fail(self, sample: Sample, reason: str) -> None:
        name = str(sample.image) if isinstance(sample.image, Path) else f"{self.unit.name}, {sample.key}"
        self.failures.append(reason if reason.startswith(name) else f"{name}: {reason}")


def threads_for(device: str) -> int:
    """Return the number of threads that decode and encode.

    A GPU would wait for a single one; on a CPU, processes share the cores.
    """
    return 0 if device == "cpu" else GPU_THREADS


def _encode(stylized: tuple[Pending, Photo]) -> bytes:
    one, photo = stylized
    return one.original or writer.encode(photo.pixels, split_suffix(one.suffix)[1], photo)
