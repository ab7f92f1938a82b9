"""Checks of arguments."""

import difflib
from collections.abc import Callable, Collection, Iterable
from inspect import Parameter, signature
from typing import Any


def check_choice(what: str, chosen: str | Iterable[str], allowed: Iterable[str]) -> None:
    """Raise ValueError unless every choice is allowed.

    Args:
        what: Name of the argument, for the error message.
        chosen: One choice, or several.
        allowed: The valid choices, which the error message lists.
    """
    allowed = list(allowed)
    choices = [chosen] if isinstance(chosen, str) else list(chosen)
    unknown = [choice for choice in choices if choice not in allowed]
    if unknown:
        raise ValueError(f"unknown {what} {', '.join(unknown)}; choose from {', '.join(allowed)}")


def check_names(given: Collection[str], *takers: Callable[..., Any]) -> None:
    """Raise ValueError, which suggests a similar name, for a keyword that no function or class in `takers` names.

    Args:
        given: Names of the keywords that a call was given.
        takers: Functions and classes that name keywords as their arguments. Those of `**` are no names.
    """
    if not given:
        return
    known = set[str]()
    for taker in takers:
        arguments = signature(taker).parameters.values()
        known |= {argument.name for argument in arguments if argument.kind is not Parameter.VAR_KEYWORD} - {"self"}
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValueError(f"unknown option {', '.join(unknown)}{did_you_mean(unknown[0], sorted(known))}")


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, such as `1 style` or `2 styles`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the end of a message about an unknown name: the most similar known one; empty if none is similar."""
    similar = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {similar[0]}?" if similar else ""
