"""Which floating-point type a device computes fast: one decision for inference and training."""

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
    """The 16-bit type in which the device is faster than in float32; None if there is none.

    bf16 on CUDA devices from Ampere on and on CPUs with AVX-512 bf16 or AMX; fp16 on older CUDA devices.
    """
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and _cpu_has("avx512_bf16", "amx_tile"):
        return "bf16"
    return None


def is_emulated(half: Half, device: torch.device) -> bool:
    """Whether a CPU or CUDA device lacks the type, so that PyTorch converts to float32 and back."""
    if device.type == "cuda":
        return half == "bf16" and fast_half(device) != "bf16"
    if device.type == "cpu":
        return not (fast_half(device) == "bf16" if half == "bf16" else _cpu_has("amx_fp16"))
    return False


def warn_if_emulated(half: Half, device: torch.device) -> None:
    """Log a warning with the expected slowdown."""
    if is_emulated(half, device):
        machine = "GPU" if device.type == "cuda" else "processor"
        log.warning("this %s emulates %s: %s; precision auto chooses the fastest type", machine, half, SLOWDOWN)


def _cpu_has(*features: str) -> bool:
    """Whether the CPU has any of these features; torch has no public function for the question yet."""
    return any(getattr(torch.cpu, f"_is_{feature}_supported", bool)() for feature in features)
