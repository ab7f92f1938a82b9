"""The floating-point types that a device computes fast. Inference and training share this decision."""

import logging
from typing import Literal

import torch

log = logging.getLogger(__name__)

Half = Literal["bf16", "fp16"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

SLOWDOWN = "it takes up to 15 times as long as fp32"
"""Measured for training on a CPU with AVX2."""


def fast_half(device: torch.device) -> Half | None:
    """Return the 16-bit type that is faster than float32 on the device, or None if there is none.

    This is bf16 on CUDA devices since Ampere, on CPUs with AMX, and on AMD CPUs with AVX-512 bf16. It is fp16 on older
    CUDA devices. Intel CPUs without AMX, which are common in virtual machines, have AVX-512 bf16 too. They multiply
    in bf16 no faster than in float32, and Winograd's algorithm makes float32 faster.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and (_cpu_has("amx_tile") or (_cpu_has("avx512_bf16") and not _is_intel())):
        return "bf16"
    return None


def is_emulated(half: Half, device: torch.device) -> bool:
    """Return whether a CPU or CUDA device lacks the type, so that PyTorch converts to float32 and back."""
    if device.type == "cuda":
        return half == "bf16" and fast_half(device) != "bf16"
    if device.type == "cpu":
        if half == "bf16":
            return not _cpu_has("avx512_bf16", "amx_tile")
        return not _cpu_has("amx_fp16")
    return False


def warn_if_emulated(half: Half, device: torch.device) -> None:
    """Log a warning with the expected slowdown if the device emulates the type."""
    if is_emulated(half, device):
        hardware = "GPU" if device.type == "cuda" else "processor"
        log.warning("this %s emulates %s: %s; precision auto selects the fastest type", hardware, half, SLOWDOWN)


def _cpu_has(*features: str) -> bool:
    """Return whether the CPU has any of these features. PyTorch has no public function for this yet."""
    for feature in features:
        is_supported = getattr(torch.cpu, f"_is_{feature}_supported", bool)
        if is_supported():
            return True
    return False


def _is_intel() -> bool:
    """Return whether this is known to be a CPU of Intel. Older versions of PyTorch do not know."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    return "Intel" in torch.cpu.get_capabilities().get("cpu_name", "")
