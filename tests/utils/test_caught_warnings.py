import threading
import warnings

import pytest

from adain.utils.caught_warnings import caught_warnings


def warn(message):
    warnings.warn_explicit(message, UserWarning, "file.py", 1, module="adain.test")


def test_the_warnings_of_a_block_are_caught_in_one_line():
    with caught_warnings() as outer:
        warn("first\nof two")
        with caught_warnings() as inner:
            warn("inner")
        warn("first\nof two")
    assert outer == ["first of two", "first of two"]
    assert inner == ["inner"]
    with pytest.warns(UserWarning, match="after"):
        warn("after")


def test_blocks_of_two_threads_that_overlap_leave_no_trace():
    before = ([*warnings.filters], warnings.showwarning, warnings._showwarnmsg_impl)
    entered, left = threading.Event(), threading.Event()
    caught = {}

    def other():
        with caught_warnings() as messages:
            entered.set()
            assert left.wait(60)
            warn("of the other")
        caught["other"] = messages

    with caught_warnings() as caught["main"]:
        thread = threading.Thread(target=other)
        thread.start()
        assert entered.wait(60)
        warn("of this one")
    with pytest.warns(UserWarning, match="while the other block is open"):
        warn("while the other block is open")
    left.set()
    thread.join()
    assert caught == {"main": ["of this one"], "other": ["of the other"]}
    assert ([*warnings.filters], warnings.showwarning, warnings._showwarnmsg_impl) == before
