"""Reading of checkpoint files without running code from them, and the location of the embedded checkpoints."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from adain.utils.errors import shortened

_INSTALLED = Path(__file__).parents[1] / "checkpoints"

CHECKPOINTS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "checkpoints"
"""Folder of the embedded weights: inside the installed package, or at the top of a clone."""


def read_file(path: str | Path) -> tuple[Any, dict[str, str]]:
    """Read a safetensors file, or a file of `torch.save`, without running code from it.

    Returns:
        The content of the file, and its metadata, which only safetensors files have.

    Raises:
        OSError: there is no such file.
        ValueError: the file is damaged, or holds more than plain data.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: there is no such file")
    try:
        if path.suffix != ".safetensors":
            return torch.load(path, map_location="cpu", weights_only=True), {}
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, EOFError, KeyError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} holds no weights that can be read ({shortened(reason, 200)})") from error
