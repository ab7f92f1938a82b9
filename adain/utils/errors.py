"""Exception types, and one-line error messages."""

import re
import struct
import textwrap
import zlib

DECODING_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
"""What libraries raise while they decode damaged files, besides OSError and errors of their own."""


OUT_OF_MEMORY = re.compile(
    r"out of memory|not enough memory|(can't|can ?not|failed to|unable to) allocate|bad_alloc|STATUS_ALLOC_FAILED",
    re.IGNORECASE,
)
"""Messages about a lack of memory, from PyTorch, CUDA, and the C++ library."""

WORKER_ERROR = re.compile(r"Caught (\w+) .*^(?:[\w.]+\.)?\1: (.*)", re.DOTALL | re.MULTILINE)
"""An error from a worker of a data loader: the name of its type, and after the traceback, its message."""


class ContentError(ValueError):
    """A setting does not fit one content image but may fit others. A run over several images continues."""


class OptimizationError(ContentError):
    """An optimization did not improve on its start. The input may be valid, but the settings do not suit it."""


INPUT_ERRORS = (ValueError, OSError, MemoryError, RuntimeError)
"""Errors that wrong input may cause. `one_line` re-raises those that are bugs."""

CONTENT_ERRORS = (OSError, ContentError, MemoryError, RuntimeError)
"""Errors that may concern one content image only. `one_line` re-raises those that are bugs."""


def one_line(error: Exception, advice: str = "a smaller --size, or --precision bf16, needs less") -> str:
    """Return the error message on one line.

    PyTorch has no exception type for running out of memory on a CPU. It raises RuntimeError. Other errors whose
    message merely contains the word memory are bugs.

    Args:
        error: The exception to report.
        advice: What to do about a lack of memory.

    Raises:
        Exception: `error` itself, if the input did not cause it.
    """
    if isinstance(error, ValueError | OSError):
        message = str(error)
        caught = WORKER_ERROR.match(message)
        if caught:
            message = caught[2]
        return " ".join(message.split())
    if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
        return f"out of memory; {advice}"
    raise error


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, or the name of its type if it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def shortened(text: str, width: int) -> str:
    """Return the text on one line, truncated between words to at most `width` characters."""
    return textwrap.shorten(text, width, placeholder=" ...")
