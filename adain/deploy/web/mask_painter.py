"""A box of the web page to paint on the photo where the second style applies."""

import base64
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from adain.deploy.web.image_picker import reports_errors
from adain.deploy.web.service import PREVIEW_SIZE, StylizeService, Upload
from adain.utils.extras import require_extra

with require_extra("web", "the web page"):
    import gradio as gr

HTML = """
<div>
  <p>Paint where the second style goes. Without paint, both styles are mixed.</p>
  <div class="stack"><img alt=""><canvas></canvas></div>
  <div class="tools">
    <label>Brush <input type="range" min="2" max="30" value="10"></label>
    <label><input type="checkbox"> Erase</label>
    <button type="button">Clear</button>
  </div>
</div>
"""

CSS = """
p { margin: 0 0 6px; }
.stack { position: relative; line-height: 0; }
img { width: 100%; border-radius: 6px; }
canvas { position: absolute; inset: 0; width: 100%; height: 100%; opacity: .6; cursor: crosshair; touch-action: none; }
.tools { display: flex; flex-wrap: wrap; gap: 4px 18px; align-items: center; margin-top: 8px; }
.tools label { display: flex; gap: 6px; align-items: center; }
button { padding: 4px 12px; border: 1px solid var(--border-color-primary); border-radius: 6px; }
"""

JAVASCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


class MaskPainter:
    """The photo, to paint on; `mask` is the state with the `Upload` of the mask, None while nothing is painted.

    Gradio's own editor does not report what is painted on an image that the program set.

    Args:
        service: Opens the photo, and keeps the mask.
        content: The state with the `Upload` of the photo.
    """

    def __init__(self, service: StylizeService, content: gr.State):
        self.service = service
        self.mask = gr.State(None)
        self.canvas = gr.HTML(
            "",
            elem_id="mask",
            html_template=HTML,
            css_template=CSS,
            js_on_load=JAVASCRIPT,
            photo=self._photo(content.value),
        )
        self.download = gr.DownloadButton("Download the mask", elem_id="download-mask", visible=False, size="sm")
        self.canvas.input(
            self.on_paint,
            self.canvas,
            [self.mask, self.download],
            show_progress="hidden",
            trigger_mode="always_last",
            api_name="painted",
        )
        content.change(
            self.on_photo,
            content,
            [self.canvas, self.mask, self.download],
            show_progress="hidden",
            api_name="_unpainted",
        )

    def on_paint(self, painting: str) -> tuple[Upload | None, Any]:
        """Keep what was painted; return its `Upload`, None for nothing, and the update of the download."""
        with reports_errors():
            mask = painted_area(painting)
        if mask is None:
            return None, gr.update(visible=False)
        upload = self.service.save_mask(mask)
        return upload, gr.update(visible=True, value=upload.path)

    def on_photo(self, content: Upload | None) -> tuple[Any, None, Any]:
        """Show another photo, unpainted."""
        return gr.HTML("", photo=self._photo(content)), None, gr.update(visible=False)

    def _photo(self, content: Upload | None) -> str:
        """Return a preview of the photo as a data URL; empty if there is none."""
        if content is None:
            return ""
        _, preview = self.service.open_upload(content.path, content.name)
        file = BytesIO()
        preview.convert("RGB").save(file, "JPEG")
        return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def painted_area(painting: str) -> Image.Image | None:
    """Return what was painted in white on black, as an image of mode L; None if nothing was.

    Args:
        painting: A PNG image as a data URL, opaque where it was painted.

    Raises:
        ValueError: This is not a data URL, or the image is larger than a preview.
        OSError: This is not a PNG image.
    """
    if not painting:
        return None
    image = Image.open(BytesIO(base64.b64decode(painting.partition(",")[2], validate=True)), formats=["PNG"])
    if max(image.size) > PREVIEW_SIZE:
        raise ValueError(f"Expected a mask of at most {PREVIEW_SIZE} pixels, got {image.width} x {image.height}")
    mask = image.convert("RGBA").getchannel("A")
    return mask if mask.getbbox() else None
