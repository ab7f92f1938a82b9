"""Libraries that only some commands need: where one is missing, the error says what to install."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def require_extra(extra: str, what: str) -> Iterator[None]:
    """A block that imports what `extra` brings and `what` needs; ValueError in one line where that is missing."""
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{what} needs {error.name}: pip install 'adain[{extra}]'") from error
