"""Optional packages that only some commands need. If one is missing, the error says what to install."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def require_extra(extra: str, what: str) -> Iterator[None]:
    """Turn an ImportError in the `with` block into an error that says what to install.

    Args:
        extra: the optional dependency group of this package that brings the import.
        what: the feature that needs the import, which starts the error message.

    Raises:
        ValueError: the block imports a package that is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{what} needs {error.name}: pip install '.[{extra}]' in the repository") from error
