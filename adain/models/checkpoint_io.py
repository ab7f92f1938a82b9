"""Reading of checkpoint files without running code from them, and the location of the embedded checkpoints."""

import hashlib
import pickle
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from adain.utils.caught_warnings import caught_warnings
from adain.utils.errors import DECODING_ERRORS, shortened

_INSTALLED = Path(__file__).parents[1] / "checkpoints"

CHECKPOINTS = _INSTALLED if _INSTALLED.is_dir() else Path(__file__).parents[2] / "checkpoints"
"""Folder of the embedded weights: inside the installed package, or at the top of a clone."""

CHECKSUMS = "SHA256SUMS"
"""File in `CHECKPOINTS` with the SHA-256 of each file of weights, as the command sha256sum writes it."""


def read_file(path: str | Path) -> tuple[Any, dict[str, str]]:
    """Read a safetensors file, or a file of `torch.save`, without running code from it.

    Returns:
        The content of the file, and its metadata, which only safetensors files have.

    Raises:
        OSError: There is no such file.
        ValueError: The file is damaged, contains more than plain data, or is an embedded file that does not match its
            checksum.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no weights at {path}: there is no such file")
    if path.parent == CHECKPOINTS:
        _verify(path)
    try:
        if path.suffix != ".safetensors":
            with caught_warnings():  # of old formats: what cannot be read is an error
                return torch.load(path, map_location="cpu", weights_only=True), {}
        with safe_open(path, "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except pickle.UnpicklingError as error:  # PyTorch's text is advice about its own arguments
        raise ValueError(
            f"{path} holds no weights that can be read; expected a .safetensors file, or a state dict of torch.save"
        ) from error
    except (SafetensorError, ImportError, *DECODING_ERRORS) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"{path} holds no weights that can be read ({shortened(reason, 200)})") from error


def _verify(path: Path) -> None:
    """Raise ValueError unless an embedded file has the SHA-256 that is recorded for it."""
    expected = _checksums(path.parent / CHECKSUMS).get(path.name)
    if expected != hashlib.sha256(path.read_bytes()).hexdigest():
        raise ValueError(
            f"Expected {path} to match its checksum in {CHECKSUMS}, got another file; install adain again, "
            f"or after training new weights run sha256sum *.safetensors > {CHECKSUMS} in that folder"
        )


@lru_cache(maxsize=1)
def _checksums(table: Path) -> dict[str, str]:
    """Return the checksums in a file of sha256sum by file name."""
    found = {}
    for line in table.read_text().splitlines():
        digest, name = line.split(maxsplit=1)
        found[name] = digest
    return found
