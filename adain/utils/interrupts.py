"""Handling of Ctrl-C that lets the current step finish."""

import signal
import threading
from collections.abc import Callable
from functools import partial
from typing import Any


def catch_interrupt(stop: Callable[[], None]) -> Callable[[], object]:
    """Make the first Ctrl-C call `stop` instead of raising KeyboardInterrupt. The second one raises.

    Does nothing outside the main thread, which is the only one to receive signals.

    Returns:
        A function that restores the previous handler.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    previous = signal.getsignal(signal.SIGINT)
    restore = partial(signal.signal, signal.SIGINT, previous)

    def on_first_interrupt(*_: Any) -> None:
        restore()
        stop()

    signal.signal(signal.SIGINT, on_first_interrupt)
    return restore
