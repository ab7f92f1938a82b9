"""Iteration with a background thread that works ahead."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

DEFAULT_SIZE = 3
"""Number of frames that wait between two stages of a pipeline."""


def prefetch(items: Iterable[T], size: int = DEFAULT_SIZE) -> Generator[T, None, None]:
    """Yield the items, while a background thread computes up to `size` of them ahead.

    An exception that `items` raises is raised here. A generator in `items` is closed with this one.
    """
    source = iter(items)
    end = object()
    pool = ThreadPoolExecutor(1)
    waiting = deque(pool.submit(next, source, end) for _ in range(size))
    try:
        while True:
            item = waiting.popleft().result()
            if item is end:
                break
            waiting.append(pool.submit(next, source, end))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)
        if hasattr(source, "close"):
            source.close()
