"""Preparing a method for inference: weights, device, and precision."""

import copy
from pathlib import Path
from typing import Any

import torch

from adain.methods import Method, weights
from adain.utils.checks import check_choice
from adain.utils.errors import first_line, shortened
from adain.utils.precision import DTYPES, Precision, fast_half, warn_if_emulated


def prepare(
    method: str | Path | Method = "adain", device: str = "auto", precision: Precision = "auto", **settings: Any
) -> Method:
    """Prepare a method to stylize: load its weights, and move it to the device in the precision.

    >>> method = adain.prepare("adain-lite", device="cpu")
    >>> image = adain.stylize("photo.jpg", "painting.jpg", method)

    Args:
        method: A name (its embedded weights), a file of weights, or an instance, which is copied and left unchanged.
        device: A device name of torch; `auto` is the first of cuda, mps, and cpu that is available.
        precision: Type of the network; statistics are float32 in all cases. `auto` is bf16 where it is fast
            (`adain.utils.precision.fast_half`) and the method's results stay within 1/255 on average, else fp32;
            gatys then runs all but its last steps in bf16.
        settings: Arguments of a method without weights, such as `adain.methods.Gatys`.

    Raises:
        ValueError: Unknown name or choice, weights that do not fit, or a device that is not available.
        OSError: No such file.
    """
    check_choice("precision", precision, ("auto", *DTYPES))
    if settings and isinstance(method, Method):
        names = ", ".join(settings)
        raise ValueError(f"Expected no settings with a method that is already built, got {names}; set them there")
    target = find_device(device)
    built = _copied(method) if isinstance(method, Method) else weights.load(method, **settings)
    built.eval()  # batch norm then uses its running statistics and leaves them unchanged
    built.bf16_warmup = precision == "auto" and fast_half(target) == "bf16"
    if precision == "auto":
        precision = "bf16" if built.bf16_safe and built.bf16_warmup else "fp32"
    elif precision != "fp32":
        warn_if_emulated(precision, target)
    return built.to(target, DTYPES[precision]).to(memory_format=torch.channels_last)


def prepare_once(
    method: str | Path | Method, device: str = "auto", precision: Precision = "auto", **settings: Any
) -> Method:
    """Return a method that is already prepared as it is, and prepare any other; arguments and errors as of `prepare`.

    Settings with a method that is already built are refused, as by `prepare`.
    """
    if isinstance(method, Method) and not settings:
        return method
    return prepare(method, device, precision, **settings)


def _copied(method: Method) -> Method:
    """Return a copy with its own weights. The callback is shared, so that its owner sees what it records."""
    callback = getattr(method, "callback", None)
    return copy.deepcopy(method, {id(callback): callback})


def find_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is the best that is available. Raise ValueError if it cannot be used."""
    if name == "auto":
        name = _best_device()
    try:
        device = torch.empty(0, device=name).device
        if device.type == "meta":
            raise NotImplementedError("it computes no values")
    except (RuntimeError, AssertionError, NotImplementedError, ImportError) as error:  # by type of device
        reason = shortened(first_line(error), 100)
        choices = ", ".join(dict.fromkeys(["auto", "cpu", _best_device()]))
        raise ValueError(f"device {name} cannot be used here ({reason}); choose {choices}") from error
    return device


def _best_device() -> str:
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"
