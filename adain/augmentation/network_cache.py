"""The network of a transform, loaded where it is used."""

from pathlib import Path
from typing import Any

import torch

from adain.inference.preparation import prepare
from adain.methods import Method
from adain.utils.precision import Precision


class NetworkCache:
    """Loads a method on first use, once for each process and device.

    Pickles contain the name or the file of the method, not its weights: a worker of a `DataLoader` reads them itself.
    Only a method that was given as an instance is pickled with its weights.
    """

    def __init__(self, method: str | Path | Method, precision: Precision):
        self._method = method
        self._precision = precision
        self._loaded: dict[torch.device, Method] = {}

    def on(self, device: torch.device) -> Method:
        """Return the method, ready to stylize on `device`."""
        if device not in self._loaded:
            self._loaded[device] = prepare(self._method, str(device), self._precision)
        return self._loaded[device]

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_loaded": {}}
