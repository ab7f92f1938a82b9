"""Reading the contents of a folder run in advance, in other processes."""

import itertools
import logging
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch.utils.data import DataLoader, Dataset

from adain.imaging import reader
from adain.imaging.options import ReadOptions
from adain.imaging.photo import Photo
from adain.utils.errors import INPUT_ERRORS, one_line

log = logging.getLogger(__name__)

LARGE = 2**23
"""Pixels from which on an image is neither decoded in advance nor kept in memory until it is written."""

ReadImage = Callable[[Path], Photo | str]
"""Reads a content, or returns the reason why it cannot be read."""


def pixel_count(photo: Photo) -> int:
    """Return the number of pixels of an image."""
    return photo.pixels[0, 0].numel()


def read_content(path: Path, size: int | None, options: ReadOptions) -> Photo | str:
    """Return the content, or the reason why it cannot be read."""
    try:
        return reader.load(path, size, options)
    except INPUT_ERRORS as error:
        return one_line(error)


class _Contents(Dataset):
    """Contents for the workers of a `DataLoader`: each one, or why it cannot be read; None for a large one."""

    def __init__(self, paths: Sequence[Path], read: ReadImage):
        self.paths = paths
        self.read = read

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Photo | str | None:
        photo = self.read(self.paths[index])
        return None if isinstance(photo, Photo) and pixel_count(photo) > LARGE else photo


def read_in_advance(paths: Sequence[Path], read: ReadImage, workers: int) -> Iterator[Photo | str]:
    """Read the images in order, in other processes and in advance; large ones in this process, at their turn."""
    with warnings.catch_warnings():
        # There may be more workers than cores, as the user asked for.
        warnings.filterwarnings("ignore", "This DataLoader will create")
        workers = min(workers, len(paths))
        # A forked process would lack the threads of libvips, and wait for them forever. A fork server and its workers
        # would survive this process if it is killed.
        start = "spawn" if workers else None
        loader = DataLoader(_Contents(paths, read), batch_size=None, num_workers=workers, multiprocessing_context=start)
        with _child_signal_unchanged():
            decoded: Iterator[Photo | str | None] = iter(loader)
    for path in paths:
        try:
            content = next(decoded)
        except RuntimeError as error:  # the system may kill a worker, for example to free memory
            log.warning("A process that reads images ended; this process reads the others (%s)", error)
            decoded = itertools.repeat(None)
            content = None
        yield read(path) if content is None else content


@contextmanager
def _child_signal_unchanged() -> Iterator[None]:
    """Restore the handler of SIGCHLD after the `with` block.

    PyTorch's raises an error wherever the main thread is when a worker is killed. The iterator raises it as well.
    """
    if not hasattr(signal, "SIGCHLD") or threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, previous)
