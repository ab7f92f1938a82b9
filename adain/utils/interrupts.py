"""Handling of Ctrl-C and other signals that lets the current step finish."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any


class Terminated(KeyboardInterrupt):
    """The process got SIGTERM."""


@contextmanager
def terminated_cleanly() -> Iterator[None]:
    """Let SIGTERM raise `Terminated` in the `with` block, so that temporary files are deleted and workers are ended.

    Does nothing outside the main thread, or if something else handles the signal.
    """
    in_main_thread = threading.current_thread() is threading.main_thread()
    if not in_main_thread or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def terminate(*_: Any) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def catch_interrupt(
    stop: Callable[[], None], signals: Sequence[signal.Signals] = (signal.SIGINT,), repeat_seconds: float = 0
) -> Callable[[], object]:
    """Make the first of the signals, such as Ctrl-C, call `stop`. The next one has its previous effect.

    Does nothing outside the main thread, which is the only one to receive signals.

    Args:
        stop: What to call.
        signals: The signals to catch.
        repeat_seconds: For how long after the first one signals have no effect. A launcher such as `torchrun` passes
            signals on to processes that may have received them themselves.

    Returns:
        A function that restores the previous handlers.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    previous = {number: signal.getsignal(number) for number in signals}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    first: list[float] = []  # the time of the first signal

    def on_interrupt(number: int, _: Any) -> None:
        if not first:
            first.append(time.monotonic())
            if not repeat_seconds:
                restore()
            stop()
        elif time.monotonic() > first[0] + repeat_seconds:
            restore()
            signal.raise_signal(number)

    for number in signals:
        signal.signal(number, on_interrupt)
    return restore
