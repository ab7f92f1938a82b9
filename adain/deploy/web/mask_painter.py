"""A box of the web page to paint on the photo where the second style applies."""

from typing import Any

import numpy as np
from PIL import Image

from adain.deploy.web.service import StylizeService, Upload
from adain.utils.extras import require_extra

with require_extra("web", "the web page"):
    import gradio as gr

BRUSH_COLOR = "#6366f1"
CANVAS = (640, 480)
"""Size in pixels of the empty canvas; with a photo, the canvas has the size of its preview."""


class MaskPainter:
    """The photo, to paint on; `mask` is the state with the `Upload` of the mask, None while nothing is painted.

    Args:
        service: opens the photo, and keeps the mask.
        content: the state with the `Upload` of the photo.
    """

    def __init__(self, service: StylizeService, content: gr.State):
        self.service = service
        self.mask = gr.State(None)
        self.editor = gr.ImageEditor(
            self._canvas(content.value),
            label="Paint where the second style goes; unpainted, both styles are mixed",
            elem_id="mask",
            type="pil",
            sources=[],
            transforms=[],
            layers=False,
            brush=gr.Brush(colors=[BRUSH_COLOR], color_mode="fixed"),
            canvas_size=CANVAS,
            height=330,
            buttons=[],
        )
        self.download = gr.DownloadButton("Mask", elem_id="download-mask", visible=False, size="sm")
        self.editor.change(
            self.on_paint,
            self.editor,
            [self.mask, self.download],
            show_progress="hidden",
            trigger_mode="always_last",
            api_name="painted",
        )
        content.change(
            self.on_photo,
            content,
            [self.editor, self.mask, self.download],
            show_progress="hidden",
            api_name="_canvas",
        )

    def on_paint(self, drawing: dict[str, Any] | None) -> tuple[Upload | None, Any]:
        """Keep the painted area; return its `Upload`, None for an empty one, and the update of the download."""
        mask = painted_area(drawing)
        if mask is None:
            return None, gr.update(visible=False)
        upload = self.service.save_mask(mask)
        return upload, gr.update(visible=True, value=upload.path)

    def on_photo(self, content: Upload | None) -> tuple[Any, None, Any]:
        """Show another photo, unpainted."""
        return self._canvas(content), None, gr.update(visible=False)

    def _canvas(self, content: Upload | None) -> Any:
        """The value of the editor for a photo on which nothing is painted."""
        if content is None:
            return None
        _, preview = self.service.open_upload(content.path, content.name)
        return {"background": preview, "layers": [], "composite": None}


def painted_area(drawing: dict[str, Any] | None) -> Image.Image | None:
    """Return what was painted in white on black, as an image of mode L; None if nothing was.

    Args:
        drawing: the value of a `gr.ImageEditor`, whose layers are images of mode RGBA.
    """
    layers = drawing["layers"] if drawing else []
    if not layers:
        return None
    painted = np.max([np.asarray(layer.getchannel("A")) for layer in layers], axis=0)
    return Image.fromarray(painted) if painted.any() else None
