"""Only uploaded files are read, whatever paths a request contains."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from adain.utils.extras import require_extra

with require_extra("web", "the web page"):
    import gradio as gr


class UploadsOnly(gr.Blocks):
    """Blocks that refuse requests with a path or URL of another file than an upload or a result.

    Gradio's own check is active only after `launch`, which a mounted page does not call. It skips files without
    metadata, and URLs, which the server downloads.

    Args:
        folder: The folder of uploads and results.
        options: The arguments of `gr.Blocks`.
    """

    def __init__(self, folder: Path, **options: Any):
        super().__init__(**options)
        self.folder = folder

    async def preprocess_data(self, block_fn: Any, inputs: list[Any], *arguments: Any, **options: Any) -> Any:
        """Convert the inputs of an event as `gr.Blocks` does.

        Raises:
            gr.Error: An input contains the path of another file.
        """
        for path in _paths(inputs):
            if not _is_inside(path, self.folder):
                message = "Expected an uploaded file, got another path; upload the file"
                raise gr.Error(message, print_exception=False)
        return await super().preprocess_data(block_fn, inputs, *arguments, **options)


def _paths(value: Any) -> Iterator[str]:
    """Yield all paths of files in a value of JSON, at any depth."""
    if isinstance(value, dict):
        if isinstance(value.get("path"), str):
            yield value["path"]
        value = [*value.values()]
    if isinstance(value, list):
        for item in value:
            yield from _paths(item)


def _is_inside(path: str, folder: Path) -> bool:
    """Return whether this is an absolute path, and no URL, inside the folder."""
    try:
        return Path(path).is_absolute() and Path(path).resolve().is_relative_to(folder.resolve())
    except ValueError:  # a null byte
        return False
