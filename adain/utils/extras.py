"""Optional packages that only some commands need. If one is missing, the error says what to install."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def require_extra(extra: str, what: str) -> Iterator[None]:
    """Turn an ImportError in the `with` block into an error that says what to install.

    Args:
        extra: The optional dependency group of this package that brings the import.
        what: The feature that needs the import, which starts the error message.

    Raises:
        ValueError: The block imports a package that is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ValueError(f"{what} needs {error.name}: pip install '.[{extra}]' in the repository") from error


@contextmanager
def require_dependencies() -> Iterator[None]:
    """Exit with code 2 and one line if the `with` block imports a package that is missing.

    For the scripts of a clone, which a Python without the dependencies of this package can start.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        print(
            f"adain: error: {error.name} is not installed for {sys.executable}; run pip install . in the repository, "
            "or use the Python of the virtual environment",
            file=sys.stderr,
        )
        sys.exit(2)
