"""Iterate with a thread that works ahead."""

from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from adain.utils.extras import require_extra

with require_extra("video", "painting videos"):
    pass


T = TypeVar("T")

AHEAD = 3  # frames that wait between two stages


def prefetch(items: Iterable[T], size: int = AHEAD) -> Generator[T, None, None]:
    """The items, of which a thread of its own makes up to `size` ahead; what it raises is raised here."""
    source, end = iter(items), object()
    pool = ThreadPoolExecutor(1)
    waiting = deque(pool.submit(next, source, end) for _ in range(size))
    try:
        while (item := waiting.popleft().result()) is not end:
            waiting.append(pool.submit(next, source, end))
            yield item  # type: ignore[misc]
    finally:
        pool.shutdown(cancel_futures=True)
        if hasattr(source, "close"):
            source.close()
