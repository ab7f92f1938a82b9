"""Checks of arguments."""

import difflib
from collections.abc import Iterable


def check_choice(what: str, chosen: str | Iterable[str], allowed: Iterable[str]) -> None:
    """Raise ValueError unless every choice is allowed.

    Args:
        what: name of the argument, for the error message.
        chosen: one choice, or several.
        allowed: the valid choices, which the error message lists.
    """
    allowed = list(allowed)
    choices = [chosen] if isinstance(chosen, str) else list(chosen)
    unknown = [choice for choice in choices if choice not in allowed]
    if unknown:
        raise ValueError(f"unknown {what} {', '.join(unknown)}; choose from {', '.join(allowed)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the most similar known one; empty if none is similar."""
    similar = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {similar[0]}?" if similar else ""
