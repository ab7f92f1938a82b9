"""A box of the web page to upload an image or choose an example, and the report of errors to the visitor."""

import html
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import ImageOps

from adain.deploy.web.service import StylizeService, Upload
from adain.imaging import listing, reader
from adain.utils.errors import one_line
from adain.utils.extras import require_extra

with require_extra("web", "the web page"):
    import gradio as gr

EXAMPLES = Path(__file__).parents[3] / "examples"  # in the repository; a wheel has none


class ImagePicker:
    """A box to upload an image, and examples to choose from; `upload` is the state with the `Upload`.

    Args:
        service: opens the uploads.
        label: label of the box; in lower case, with dashes, its `elem_id`.
        folder: the folder of the examples, below `EXAMPLES`.
    """

    def __init__(self, service: StylizeService, label: str, folder: str):
        self.service = service
        self.elem_id = label.lower().replace(" ", "-")
        self.examples: list[Path] = []
        with gr.Column(min_width=150) as self.column:
            self.upload = gr.State(None)
            self.image = gr.Image(
                label=label,
                elem_id=self.elem_id,
                height=200,
                sources=["upload"],
                type="filepath",
                buttons=[],
                format="jpeg",
            )
            self._connect_upload()
            if (EXAMPLES / folder).is_dir():
                self.examples = listing.files(EXAMPLES / folder)
                self._build_examples()

    def on_upload(self, file: dict) -> tuple[Any, Upload]:
        """Open an uploaded file; return its preview and the `Upload`."""
        path = file["path"]
        name = Path(file.get("orig_name") or path).name
        with reports_errors(Upload(path, name, (0, 0))):
            upload, preview = self.service.open_upload(path, name)
        return preview, upload

    def on_choose(self, event: gr.SelectData) -> tuple[Any, Upload]:
        """Open an example; return its preview and the `Upload`."""
        path = self.examples[event.index]
        upload, preview = self.service.open_upload(str(path), path.relative_to(EXAMPLES.parent).as_posix())
        return preview, upload

    def _connect_upload(self) -> None:
        """Register the events of the box."""
        outputs = [self.image, self.upload]
        # Without preprocessing the service gets the file itself, not Gradio's conversion of it. The preview is a
        # format that every browser can show.
        uploaded = self.image.upload(
            self.on_upload,
            self.image,
            outputs,
            preprocess=False,
            show_progress="hidden",
            trigger_mode="always_last",
            api_name="take",
        )
        uploaded.failure(lambda: (None, None), None, outputs, queue=False)
        self.image.clear(lambda: None, None, self.upload, queue=False)

    def _build_examples(self) -> None:
        """Add thumbnails of the examples."""
        thumbnails = []
        for path in self.examples:
            thumbnails.append((ImageOps.fit(reader.read(path), (96, 96)), path.stem))
        gallery = gr.Gallery(
            thumbnails,
            elem_id=f"{self.elem_id}-examples",
            elem_classes="thumbs",
            show_label=False,
            container=False,
            allow_preview=False,
            buttons=[],
            interactive=False,
            columns=len(thumbnails),
            format="jpeg",
        )
        gallery.select(
            self.on_choose,
            None,
            [self.image, self.upload],
            show_progress="hidden",
            trigger_mode="always_last",
            api_name="choose",
        )


@contextmanager
def reports_errors(*uploads: Upload) -> Iterator[None]:
    """Show errors of the block to the visitor, in one line that names the uploads as the visitor knows them.

    Raises:
        gr.Error: the input is wrong. A bug raises its own error.
    """
    try:
        yield
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        message = one_line(error, "choose a smaller size")
    else:
        return
    for upload in uploads:
        message = message.replace(upload.path, upload.name)
    raise gr.Error(html.escape(message, quote=False), print_exception=False)
