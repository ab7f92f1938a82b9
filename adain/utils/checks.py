"""Checks of arguments."""

from collections.abc import Iterable


def check_choice(what: str, chosen: str | Iterable[str], allowed: Iterable[str]) -> None:
    """Raise ValueError, naming what is allowed, unless everything `chosen` is."""
    allowed = list(allowed)
    wrong = [choice for choice in ([chosen] if isinstance(chosen, str) else chosen) if choice not in allowed]
    if wrong:
        raise ValueError(f"unknown {what} {', '.join(wrong)}; choose from {', '.join(allowed)}")
