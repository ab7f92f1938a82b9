"""Preparing a method for inference: weights, device, and precision."""

import copy
from pathlib import Path
from typing import Any

import torch

from adain.methods import Method, weights
from adain.utils.checks import check_choice
from adain.utils.errors import shortened
from adain.utils.precision import DTYPES, Precision, fast_half, warn_if_emulated


def prepare(
    method: str | Path | Method = "adain", device: str = "auto", precision: Precision = "auto", **settings: Any
) -> Method:
    """A method ready to stylize.

    Args:
        method: a name (its embedded weights), a file of weights, or a method already built, which is copied and stays
            as it is.
        device: any of torch's; `auto` is the first of cuda, mps and cpu that there is.
        precision: of the network; statistics are float32 in all. `auto` is bf16 where the hardware computes it
            (`adain.utils.precision.fast_half`) and the method's pictures stay within 1/255 on average, else fp32; gatys
            then takes all but its last steps in bf16.
        settings: arguments of a method without weights, such as `adain.methods.Gatys`.

    Raises:
        ValueError: unknown name or choice, weights that do not fit, a device that is not there.
        OSError: no such file.
    """
    check_choice("precision", precision, ("auto", *DTYPES))
    if settings and isinstance(method, Method):
        raise ValueError(f"a method already built takes no {', '.join(settings)}; give them when it is built")
    target = find_device(device)
    built = _copied(method) if isinstance(method, Method) else weights.load(method, **settings)
    built.eval()  # batch norm leaves its running statistics as they are
    built.bf16_warmup = precision == "auto" and fast_half(target) == "bf16"
    if precision == "auto":
        precision = "bf16" if built.bf16_safe and built.bf16_warmup else "fp32"
    elif precision != "fp32":
        warn_if_emulated(precision, target)
    return built.to(target, DTYPES[precision]).to(memory_format=torch.channels_last)


def _copied(method: Method) -> Method:
    """A copy with weights of its own; the callback is shared, since it may record to where its owner looks."""
    callback = getattr(method, "callback", None)
    return copy.deepcopy(method, {id(callback): callback})


def find_device(name: str) -> torch.device:
    """The device of that name; `auto` is the best that is available. Raises ValueError if it cannot be used."""
    if name == "auto":
        available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
        name = next((backend for backend, there in available.items() if there), "cpu")
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"device {name} cannot be used here ({shortened(reason, 100)}); choose auto, cpu, or another"
        ) from error
