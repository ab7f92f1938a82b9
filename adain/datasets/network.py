"""The network of a dataset run: batches of photos in the styles of a bank."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from adain.augmentation.batch_stylization import MAX_PIXELS, stylize_batch
from adain.augmentation.network_cache import NetworkCache
from adain.augmentation.style_bank import StyleBank
from adain.datasets.options import ResultOptions
from adain.datasets.pending import Pending, batches, pixel_count
from adain.imaging.photo import Photo
from adain.inference import pipeline
from adain.inference.memory_budget import LARGEST_TILE
from adain.inference.tiling import to_dtype
from adain.methods import Method, StyleCode
from adain.utils.errors import INPUT_ERRORS, one_line


class Network:
    """Stylizes photos. It is sent to other processes without its weights, which each of them loads.

    Args:
        networks: The method.
        bank: The styles.
        options: What is made of each image.
    """

    def __init__(self, networks: NetworkCache, bank: StyleBank, options: ResultOptions):
        self.networks = networks
        self.bank = bank
        self.options = options

    def stylize(self, window: list[Pending], device: str) -> list[Photo | str]:
        """Stylize the photos of a window as drawn: each result, or why there is none, in their order.

        Those that are not to be stylized are returned as they are.
        """
        results: list[Photo | str] = [one.photo for one in window]
        for positions in batches(window, self.options.batch_size):
            stylized = self._stylize_fitting([window[position] for position in positions], device)
            for position, result in zip(positions, stylized, strict=True):
                results[position] = result
        return results

    def _stylize_fitting(self, batch: list[Pending], device: str) -> Sequence[Photo | str]:
        """Stylize photos of one size; if that fails, as for lack of memory, one by one."""
        try:
            return self._stylize(batch, device)
        except INPUT_ERRORS as error:
            if len(batch) == 1:
                return [one_line(error)]
        found: list[Photo | str] = []
        for one in batch:
            found += self._stylize_fitting([one], device)
        return found

    def _stylize(self, batch: list[Pending], device: str) -> list[Photo]:
        method: Any = self.networks.on(torch.device(device))
        if pixel_count(batch[0]) > MAX_PIXELS:
            return [self._stylize_large(one, method) for one in batch]
        pixels = torch.cat([one.photo.pixels for one in batch])
        alphas = torch.tensor([one.draw.alpha for one in batch])
        with torch.inference_mode(), torch.autocast(method.device.type, enabled=False):
            residual = self.options.alpha_blend == "residual"
            stylized = stylize_batch(method, pixels, self._codes(batch), alphas, residual=residual)
            parts = to_dtype(stylized, pixels.dtype).cpu().split(1)
        return [replace(one.photo, pixels=part) for one, part in zip(batch, parts, strict=True)]

    def _stylize_large(self, one: Pending, method: Method) -> Photo:
        """Stylize a large photo in tiles, whose size does not depend on the memory that is free."""
        return pipeline.stylize(
            one.photo,
            self._codes([one]),
            method,
            alpha=one.draw.alpha,
            alpha_blend=self.options.alpha_blend,
            tile=LARGEST_TILE,
        )

    def _codes(self, batch: Sequence[Pending]) -> StyleCode:
        rows = torch.tensor([one.draw.style for one in batch])
        return {name: part[rows].float() for name, part in self.bank.code.items()}


@contextmanager
def reproducible() -> Iterator[None]:
    """Compute in one thread, and with algorithms of a GPU that repeat their results, in the `with` block.

    The number of threads may change the last bit of a result, and machines have different numbers of them.
    """
    threads = torch.get_num_threads()
    deterministic = torch.backends.cudnn.deterministic
    torch.set_num_threads(1)
    torch.backends.cudnn.deterministic = True
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.backends.cudnn.deterministic = deterministic
