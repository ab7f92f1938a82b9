"""Signals that let the current step finish."""

import signal
from types import SimpleNamespace

from adain.utils import interrupts


def test_a_second_signal_counts_only_after_some_seconds(monkeypatch):
    now, calls = [0.0], []
    monkeypatch.setattr(interrupts, "time", SimpleNamespace(monotonic=lambda: now[0]))
    before = signal.signal(signal.SIGTERM, lambda *_: calls.append("before"))
    try:
        interrupts.catch_interrupt(lambda: calls.append("stop"), (signal.SIGTERM,), 2)
        for now[0] in (0.0, 1.9, 2.1):
            signal.raise_signal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert calls == ["stop", "before"]
