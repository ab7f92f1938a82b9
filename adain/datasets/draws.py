"""What is drawn for a result: a function of the seed, the key of its image, and its number alone."""

import hashlib
import json
from dataclasses import dataclass

from adain.datasets.options import ResultOptions

WORD = 2**64
"""Each draw is one of this many equally likely integers."""


@dataclass(frozen=True)
class Draw:
    """What is drawn for one result."""

    is_stylized: bool
    alpha: float
    style: int
    """Row of the bank of styles."""
    top: float
    """Share, from 0 to below 1, of the free rows that lie above the crop."""
    left: float
    """Share of the free columns that lie left of the crop."""


def draw(key: str, number: int, styles: int, options: ResultOptions) -> Draw:
    """Draw whether and how one result of an image is stylized, and where it is cropped.

    The numbers are taken from a hash, and not from a generator of random numbers, so that neither the order of the
    work nor the version of a library changes them.

    Args:
        key: Key of the image.
        number: Number of the result among those of the image.
        styles: Number of styles to draw from.
        options: Seed, probability, and range of the strength.
    """
    digest = hashlib.sha512(json.dumps([options.seed, key, number]).encode()).digest()
    words = [int.from_bytes(digest[start : start + 8], "big") for start in range(0, 40, 8)]
    stylized, strength, top, left = (word / WORD for word in words[:4])
    low, high = options.alphas
    return Draw(stylized < options.p, low + (high - low) * strength, words[4] * styles // WORD, top, left)
