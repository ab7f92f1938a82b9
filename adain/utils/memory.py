"""What becomes of memory that tensors free: GNU's C library is told, others do as they like."""

import ctypes
import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

KEPT = 2**28
"""Bytes that a process may keep at the end of its heap, and of the largest block that it takes from there."""

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # as malloc.h has them


def keep_freed() -> None:
    """Use again what was freed. Large blocks would be given back, and new ones wait for the system to zero them."""
    if library := _library():
        for parameter in (TRIM_THRESHOLD, MMAP_THRESHOLD):
            library.mallopt(parameter, KEPT)


def free(device: "torch.device") -> int:
    """The bytes of memory that can still be allocated on the device; other accelerators than CUDA share the CPU's.

    On CUDA this includes what PyTorch's allocator has reserved but not given to tensors: the driver counts it as used.
    """
    import psutil  # not needed to answer --help
    import torch

    if device.type != "cuda":
        return psutil.virtual_memory().available
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached


def held() -> int:
    """The bytes of memory that this process holds, once it has given back what it keeps."""
    import psutil  # not needed to answer --help

    if library := _library():
        library.malloc_trim(0)
    return psutil.Process().memory_info().rss


def _library() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None
