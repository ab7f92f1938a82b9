"""Catching the warnings of one thread while other threads run."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

MODULES = "PIL|torch|adain"
"""Pattern of the modules whose warnings are caught even where filters would turn them into errors or drop them."""


@contextmanager
def caught_warnings() -> Iterator[list[str]]:
    """Collect the warnings of this thread in the `with` block instead of printing them. Yield a list of messages.

    `warnings.catch_warnings` replaces the hooks and filters of the whole process. Where the blocks of two threads
    overlap, the first to end restores those from before, and the last to end leaves those of the other behind, forever.
    Here, the first block replaces them, the last one restores them, and the warnings of other threads are printed.
    """
    messages: list[str] = []
    _hook.add()
    outer = getattr(_thread, "messages", None)
    _thread.messages = messages
    try:
        yield messages
    finally:
        _thread.messages = outer
        _hook.remove()


_thread = threading.local()  # its attribute `messages` is the list of the innermost block of a thread


class _Hook:
    """Python's hook for warnings, replaced while there are blocks."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.blocks = 0

    def add(self) -> None:
        with self.lock:
            if not self.blocks:
                self.previous = warnings.catch_warnings()
                self.previous.__enter__()
                warnings.filterwarnings("always", module=MODULES)
                self.show = warnings.showwarning
                warnings.showwarning = self._record
            self.blocks += 1

    def remove(self) -> None:
        with self.lock:
            self.blocks -= 1
            if not self.blocks:
                self.previous.__exit__(None, None, None)

    def _record(self, message: Any, *args: Any, **kwargs: Any) -> None:
        messages = getattr(_thread, "messages", None)
        if messages is None:
            self.show(message, *args, **kwargs)
        else:
            messages.append(" ".join(str(message).split()))


_hook = _Hook()
