"""Ctrl-C that lets the step at hand finish."""

import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any


def catch_interrupt(stop: Callable[[], None]) -> Callable[[], object]:
    """From now on the first Ctrl-C calls `stop` instead of raising; the second does not wait. Returns what ends this.

    Outside of the main thread, where no signal comes, it does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    release = partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT))

    def first(*_: Any) -> None:
        release()
        stop()

    signal.signal(signal.SIGINT, first)
    return release
