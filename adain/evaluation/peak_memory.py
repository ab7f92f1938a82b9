"""The peak memory of stylizing one pair, measured in a process of its own."""

import logging
import sys
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path

import torch

from adain.evaluation.grid import Variant, stylize_variants

log = logging.getLogger(__name__)


def peak_memory(variant: Variant, content: Path, style: Path, device: str) -> float | None:
    """Measure the peak in MiB of stylizing one pair, in a new process: in this one, earlier peaks would hide it.

    None if that process dies or fails, for example for lack of memory: the other results count nevertheless.
    """
    try:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            peak = pool.submit(_stylize_one, variant, content, style, device).result()
    except (BrokenProcessPool, OSError, MemoryError, RuntimeError) as error:
        log.warning("The memory of %s was not measured (%s)", variant.label, " ".join(str(error).split()))
        return None
    return peak and peak / 2**20


def _stylize_one(variant: Variant, content: Path, style: Path, device: str) -> int | None:
    """Return the bytes at the peak of this process, or of its accelerator, after one image."""
    next(stylize_variants([variant], [(content, style)], device))
    if torch.cuda.is_available() and device != "cpu":
        return torch.cuda.max_memory_allocated(None if device == "auto" else device)
    if sys.platform == "linux":
        return _linux_peak()
    if sys.platform == "win32":
        return None
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS


def _linux_peak() -> int:
    """Return the peak in bytes. `getrusage` would count the parent's pages, which are inherited until exec."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024 * int(line.split()[1])
    raise OSError("Expected VmHWM in /proc/self/status, found none")
