"""Errors that callers tell apart."""


class ContentError(ValueError):
    """A setting that does not fit one content, though it may fit others; a run over several contents continues."""
