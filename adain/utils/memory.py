"""Available and used memory, and how the C library handles freed memory. Only glibc has settings for it."""

import ctypes
import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

RETAINED_BYTES = 2**28
"""Limit, in bytes, on the freed memory at the end of the heap, and on the size of the blocks allocated there."""

RETURNED_BYTES = 2**20
"""Size, in bytes, from which freed blocks are returned to the system under a memory limit."""

M_TRIM_THRESHOLD = -1  # as in malloc.h
M_MMAP_THRESHOLD = -3


def keep_freed() -> None:
    """Retain freed memory in the process for reuse.

    By default, glibc returns large blocks to the system, and every new block waits for the system to zero it.
    """
    library = _glibc()
    if library:
        library.mallopt(M_TRIM_THRESHOLD, RETAINED_BYTES)
        library.mallopt(M_MMAP_THRESHOLD, RETAINED_BYTES)


def return_freed() -> None:
    """Return freed blocks above `RETURNED_BYTES` to the system from now on.

    The process then holds little more than the memory in use, as retained blocks leave gaps, but it takes longer.
    """
    library = _glibc()
    if library:
        library.mallopt(M_TRIM_THRESHOLD, RETURNED_BYTES)
        library.mallopt(M_MMAP_THRESHOLD, RETURNED_BYTES)


def free(device: "torch.device") -> int:
    """Return the number of bytes that can still be allocated on the device.

    Accelerators other than CUDA share the memory of the CPU. On CUDA, the result includes the memory that PyTorch's
    allocator has reserved but not given to tensors, which the driver counts as used.
    """
    import psutil  # slow to import, and not needed for --help
    import torch

    if device.type != "cuda":
        return psutil.virtual_memory().available
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached


def held() -> int:
    """Return the resident memory of this process in bytes, after returning retained memory to the system."""
    import psutil  # slow to import, and not needed for --help

    library = _glibc()
    if library:
        library.malloc_trim(0)
    return psutil.Process().memory_info().rss


def _glibc() -> ctypes.CDLL | None:
    if platform.libc_ver()[0] != "glibc":
        return None
    return ctypes.CDLL(None)
