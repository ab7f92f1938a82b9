"""Prefetching: prepare the next items in background threads while the consumer works on the current one."""

import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

DEFAULT_SIZE = 3
"""Number of frames that wait between two stages of a pipeline."""


def prefetch_map(
    function: Callable[[Item], Result], items: Iterable[Item], pool: Executor | None, size: int
) -> Generator[tuple[Item, Result], None, None]:
    """Yield `(item, function(item))` in the order of the items while the pool computes the following ones.

    The items are drawn in the caller's thread. What `function` raises is raised when its result is due.

    Args:
        function: What the pool computes.
        items: The arguments; they may be endless.
        pool: The threads to compute in, or None to compute each result when it is asked for.
        size: Number of results to compute ahead.
    """
    if pool is None:
        for item in items:
            yield item, function(item)
        return
    pending: deque[tuple[Item, Future[Result]]] = deque()
    for item in items:
        pending.append((item, pool.submit(function, item)))
        if len(pending) > size:
            first, future = pending.popleft()
            yield first, future.result()
    for first, future in pending:
        yield first, future.result()


def prefetch(items: Iterable[Item], size: int = DEFAULT_SIZE) -> Generator[Item, None, None]:
    """Yield the items, while a background thread computes up to `size` of them ahead.

    An exception that `items` raises is raised here. A generator in `items` is closed with this one.
    """
    source = iter(items)
    end: Any = object()

    def produce(_: None) -> Item:
        return next(source, end)

    pool = ThreadPoolExecutor(1)
    try:
        for _, item in prefetch_map(produce, itertools.repeat(None), pool, size):
            if item is end:
                return
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
        if hasattr(source, "close"):
            source.close()
