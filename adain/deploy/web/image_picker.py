"""A box of the web page to upload an image or choose one of a gallery, and the report of errors to the visitor."""

import html
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

from PIL import Image, ImageOps

from adain.deploy.web import examples
from adain.deploy.web.service import StylizeService, Upload
from adain.imaging import reader
from adain.utils.errors import INPUT_ERRORS, one_line
from adain.utils.extras import require_extra

with require_extra("web", "the web page"):
    import gradio as gr


class ImagePicker:
    """A box to upload an image, and a gallery to choose from; `upload` is the state with the `Upload`.

    Args:
        service: Opens the uploads.
        label: Label of the box; in lower case, with dashes, its `elem_id`.
        gallery: The images to choose from.
        chosen: The image of the gallery that is chosen at first, if any.
        sources: Where images come from, besides the gallery, as `gr.Image` names them.
    """

    def __init__(
        self,
        service: StylizeService,
        label: str,
        gallery: Sequence[Path],
        chosen: Path | None = None,
        sources: Sequence[Literal["upload", "webcam", "clipboard"]] = ("upload", "clipboard"),
    ):
        self.service = service
        self.elem_id = label.lower().replace(" ", "-")
        self.gallery = gallery
        upload, preview = None, None
        if chosen:
            with suppress(OSError):  # it may be larger than this page accepts
                upload, preview = self._open(chosen)
        with gr.Column(min_width=150) as self.column:
            self.upload = gr.State(upload)
            self.image = gr.Image(
                preview,
                label=label,
                elem_id=self.elem_id,
                height=140,
                sources=[*sources],
                type="filepath",
                buttons=[],
                format="jpeg",
            )
            self._connect_upload()
            if gallery:
                self._build_gallery()

    def _open(self, path: Path) -> tuple[Upload, Image.Image]:
        """Open an image of the gallery; its name is its path as a command takes it."""
        return self.service.open_upload(str(path), examples.command_path(path))

    def on_upload(self, file: dict) -> tuple[Any, Upload]:
        """Open an uploaded file; return its preview and the `Upload`."""
        path = file["path"]
        name = Path(file.get("orig_name") or path).name
        with reports_errors(Upload(path, name, (0, 0))):
            upload, preview = self.service.open_upload(path, name)
        return preview, upload

    def on_choose(self, event: gr.SelectData) -> tuple[Any, Upload]:
        """Open an image of the gallery; return its preview and the `Upload`."""
        path = self.gallery[event.index]
        with reports_errors(Upload(str(path), path.name, (0, 0))):
            upload, preview = self._open(path)
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

    def _build_gallery(self) -> None:
        """Add thumbnails with captions."""
        images = [(thumbnail(path), examples.caption(path)) for path in self.gallery]
        gallery = thumbnails(f"{self.elem_id}-gallery", columns=3, images=images)
        gallery.select(
            self.on_choose,
            None,
            [self.image, self.upload],
            show_progress="hidden",
            trigger_mode="always_last",
            api_name="choose",
        )


def thumbnails(elem_id: str, columns: int, images: Any = None) -> gr.Gallery:
    """Build a gallery of small images to choose from.

    Args:
        elem_id: Its `elem_id`.
        columns: Images in a row.
        images: Pairs of an image and its caption.
    """
    return gr.Gallery(
        images,
        elem_id=elem_id,
        elem_classes="thumbs",
        show_label=False,
        container=False,
        allow_preview=False,
        buttons=[],
        interactive=False,
        columns=columns,
        format="jpeg",
    )


@cache
def thumbnail(path: Path) -> Image.Image:
    """Return a small image for a gallery. Both styles are chosen from the same files, which are read once."""
    return ImageOps.fit(reader.read(path, shrink=192), (192, 144))


@contextmanager
def reports_errors(*uploads: Upload) -> Iterator[None]:
    """Show errors of the block to the visitor, in one line that names the uploads as the visitor knows them.

    Raises:
        gr.Error: The input is wrong. A bug raises its own error.
    """
    try:
        yield
    except INPUT_ERRORS as error:
        message = one_line(error, "choose a smaller size")
    else:
        return
    for upload in uploads:
        message = message.replace(upload.path, upload.name)
    raise gr.Error(html.escape(message, quote=False), print_exception=False)
