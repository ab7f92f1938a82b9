import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from adain.utils.prefetch import prefetch, prefetch_map


@pytest.mark.parametrize("threads", [0, 3])
def test_results_come_in_the_order_of_the_items(threads):
    pool = ThreadPoolExecutor(threads) if threads else None
    assert list(prefetch_map(str, range(10), pool, 4)) == [(i, str(i)) for i in range(10)]
    endless = prefetch_map(abs, itertools.count(), pool, 4)
    assert [result for _, result in itertools.islice(endless, 9)] == list(range(9))


def test_prefetching_runs_at_most_so_many_items_ahead():
    produced = []
    items = prefetch((produced.append(i) or i for i in range(20)), size=3)
    assert next(items) == 0
    assert next(items) == 1
    assert len(produced) <= 5
    assert list(items) == list(range(2, 20))
    assert produced == list(range(20))


def test_items_are_computed_ahead():
    ahead = threading.Semaphore(0)

    def items():
        for i in range(10):
            ahead.release()
            yield i

    found = prefetch(items(), size=3)
    assert next(found) == 0
    assert all(ahead.acquire(timeout=60) for _ in range(4)), "the first item, and three ahead of the next"


def test_what_the_items_raise_is_raised_in_turn():
    def items():
        yield 1
        raise OSError("no more")

    found = prefetch(items())
    assert next(found) == 1
    with pytest.raises(OSError, match="no more"):
        next(found)


def test_closing_a_prefetch_closes_its_items():
    closed = []

    def items():
        try:
            yield from itertools.count()
        finally:
            closed.append(True)

    found = prefetch(items())
    assert next(found) == 0
    found.close()
    assert closed == [True]
