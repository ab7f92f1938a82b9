"""Names of result files."""

from collections.abc import Iterable


def result_stem(content: str, styles: Iterable[str]) -> str:
    """Return the name of a result without its suffix, CONTENT__STYLE, from the stems of its content and styles."""
    return f"{content}__{'+'.join(styles)}"
