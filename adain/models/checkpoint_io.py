"""Reading checkpoint files without running code from them, and where the embedded ones are."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from adain.utils.errors import shortened

_INSTALLED = Path(__file__).parents[1] / "checkpoints"

CHECKPOINTS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "checkpoints"
"""Where the embedded weights lie: inside the installed package, or at the top of a clone."""


def read_file(path: str | Path) -> tuple[Any, dict[str, str]]:
    """What a safetensors file holds and its metadata, or what a file of `torch.save` holds, never running its code.

    Raises OSError if the file is missing, ValueError if it is damaged or holds more than plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: there is no such file")
    try:
        if path.suffix != ".safetensors":
            return torch.load(path, map_location="cpu", weights_only=True), {}
        with safe_open(path, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} holds no weights that can be read ({shortened(reason, 200)})") from error
