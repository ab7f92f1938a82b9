"""The web application: the page, its limits and headers, and the uvicorn server that serves it."""

import logging
import socket
from dataclasses import dataclass

from adain.deploy.web.api import ROUTE, StylizeApi
from adain.deploy.web.middleware import LoopbackOnly, SameOriginOnly, SizeLimit, is_loopback
from adain.deploy.web.page import StylizePage
from adain.utils.extras import require_extra

with require_extra("web", "the web page"):
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI
    from starlette.responses import JSONResponse

FILES = 2
"""Files of a request to the HTTP API: the content and the style."""

OVERHEAD = 64 * 1024
"""Bytes of a request besides its files, at most."""

QUEUE_INTERVAL = 0.05
"""Seconds between two looks into the queue of requests."""

POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'"
"""The content security policy: the browser loads nothing from other hosts, whatever Gradio's pages request."""

CSS = """
.gradio-container { max-width: 1240px !important; margin: 0 auto !important; }
#head h1 { display: inline; margin-right: .6em; font: 600 30px/1 Georgia, "Times New Roman", serif; }
#head p { display: inline; opacity: .75; }
.thumbs { min-height: 0 !important; }
.thumbs .grid-wrap { height: auto !important; max-height: 206px; min-height: 0; padding: 0; overflow-y: auto; }
.thumbs .grid-container { grid-template: auto / repeat(auto-fill, minmax(80px, 1fr)); gap: 6px; padding: 1px;
  grid-auto-rows: auto; height: auto !important; align-content: start; }
.thumbs .gallery-item { aspect-ratio: auto; height: auto; }
.thumbs .thumbnail-item { display: block; aspect-ratio: auto; border: 0; height: auto;
  border-radius: 6px; background: none; }
.thumbs .thumbnail-item:not(:hover, :focus-visible) { box-shadow: none; }
.thumbs .thumbnail-item img { aspect-ratio: 3 / 2; height: auto; }
/* The caption is below its image, as long as it is: a title, and the painter on the next line. */
.thumbs .caption-label { position: static; max-width: none; margin: 0; padding: 1px 0 2px; border: 0;
  font-size: 10px; line-height: 12px; text-align: left; white-space: pre-line; overflow-wrap: anywhere;
  color: var(--body-text-color); background: none; opacity: 1; }
#note { opacity: .75; }
/* On a phone the columns are below each other: the result is first, so that it is seen while the controls change. */
@media (max-width: 740px) {
  #results { order: -1; }
  #result img { max-height: 42vh; }
  .thumbs .grid-wrap { max-height: 60vh; }
  .thumbs .caption-label { font-size: 12px; line-height: 15px; }
}
#command textarea { font-family: var(--font-mono); font-size: 12px; }
"""

PAPER = {"paper": "#f5f1e8", "sheet": "#fffdf8", "line": "#ddd5c5", "ink": "#221e19", "soft": "#6f675b"}
PAPER_DARK = {"paper": "#191714", "sheet": "#23201c", "line": "#3a352e", "ink": "#f0eadf", "soft": "#a89f90"}
"""Colors of the page, as of the static page, by day and by night."""

THEME_COLORS = {
    "body_background_fill": "paper",
    "background_fill_primary": "sheet",
    "background_fill_secondary": "paper",
    "block_background_fill": "sheet",
    "block_label_background_fill": "sheet",
    "input_background_fill": "paper",
    "button_secondary_background_fill": "line",
    "border_color_primary": "line",
    "block_border_color": "line",
    "input_border_color": "line",
    "body_text_color": "ink",
    "body_text_color_subdued": "soft",
    "block_label_text_color": "soft",
    "block_title_text_color": "soft",
}
"""The color of each property of Gradio's theme."""


def make_theme() -> gr.themes.Base:
    """Return Gradio's theme in the colors of paper and ink, without fonts of other hosts."""
    theme = gr.themes.Default(
        primary_hue="indigo",
        neutral_hue="stone",
        font=["system-ui", "sans-serif"],
        font_mono=["ui-monospace", "monospace"],
    )
    colors = {}
    for name, color in THEME_COLORS.items():
        colors[name] = PAPER[color]
        colors[f"{name}_dark"] = PAPER_DARK[color]
    return theme.set(layout_gap="12px", **colors)


@dataclass(frozen=True)
class ServerOptions:
    """Where the page is served, and its limits."""

    host: str
    max_upload: float  # MiB of an uploaded file
    queue: int  # waiting requests
    api: bool = False  # whether the HTTP API is served, too


def mount(page: StylizePage, options: ServerOptions) -> FastAPI:
    """Return the page, which is built here, as an application that enforces the limits."""
    app = FastAPI(openapi_url=None)
    # Gradio would download any URL for a visitor.
    app.add_api_route("/gradio_api/file=http{rest:path}", _refuse_url, methods=["GET", "HEAD"])
    if options.api:
        StylizeApi(page.service, page.method, options.queue).add_to(app)
    app.add_middleware(SizeLimit, largest=int(FILES * options.max_upload * 2**20) + OVERHEAD)
    app.add_middleware(SameOriginOnly)
    if is_loopback(options.host):
        app.add_middleware(LoopbackOnly)
    blocks = page.build()
    blocks.queue(max_size=options.queue, api_open=False, default_concurrency_limit=1)
    # Gradio looks for requests a thousand times a second, which takes several percent of a core while nothing happens.
    blocks._queue.sleep_when_free = QUEUE_INTERVAL
    return gr.mount_gradio_app(
        app,
        blocks,
        "/",
        show_error=False,
        max_file_size=int(options.max_upload * 2**20),
        theme=make_theme(),
        css=CSS,
        footer_links=[],
    )


def _refuse_url() -> JSONResponse:
    """Answer with status 403."""
    return JSONResponse({"error": "Expected the path of a file, got a URL"}, status_code=403)


async def serve_page(page: StylizePage, listener: socket.socket, options: ServerOptions) -> None:
    """Serve the page until a signal.

    Everything runs in the current event loop, because Gradio would create loops that it does not close.

    Args:
        page: The page.
        listener: A socket that listens already.
        options: The host, for the address that is printed, and the limits.
    """
    app = mount(page, options)
    headers = [("Content-Security-Policy", POLICY), ("Referrer-Policy", "no-referrer")]
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, headers=headers)
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{listener.getsockname()[1]}"
    print(f"adain: {address}/ until Ctrl-C", flush=True)
    if options.api:
        print(f"adain: POST {address}{ROUTE}", flush=True)
    await QuietServer(config).serve([listener])


class QuietServer(uvicorn.Server):
    """A server that does not log an error for each page that is still open when it shuts down."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down as `uvicorn.Server` does, without its messages."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)
