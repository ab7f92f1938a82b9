"""Errors, and how they are reported in one line."""

import textwrap


class ContentError(ValueError):
    """A setting that does not fit one content, though it may fit others; a run over several contents continues."""


class OptimizationError(ContentError):
    """An optimization that got no better than its start: the input may be right, but the settings do not suit it."""


CONTENT_ERRORS = (OSError, ContentError, MemoryError, RuntimeError)
"""What may be raised for one content only; `one_line` raises again what is a bug."""


def one_line(error: Exception, advice: str = "a smaller --size, or --precision bf16, needs less") -> str:
    """The message to print, with `advice` for a lack of memory; an error that is no fault of the input is raised again.

    PyTorch has no type of its own for a lack of memory on a CPU, only RuntimeError.
    """
    if isinstance(error, ValueError | OSError):
        return " ".join(str(error).split())
    if isinstance(error, MemoryError) or "memory" in str(error):
        return f"out of memory; {advice}"
    raise error


def shortened(text: str, width: int) -> str:
    """The text on one line, cut between words to at most `width` characters."""
    return textwrap.shorten(text, width, placeholder=" ...")
