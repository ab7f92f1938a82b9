"""The web application: the page, its limits and headers, and the uvicorn server that serves it."""

import ipaddress
import logging
import socket
from dataclasses import dataclass
from urllib.parse import urlsplit

from adain.deploy.web.page import StylizePage
from adain.deploy.web.service import StylizeService
from adain.utils.extras import require_extra

with require_extra("web", "the web page"):
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI
    from starlette.datastructures import Headers
    from starlette.responses import PlainTextResponse
    from starlette.types import ASGIApp, Receive, Scope, Send

POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'"
"""The content security policy: the browser loads nothing from other hosts, whatever Gradio's pages request."""

CSS = """
.gradio-container { max-width: 1240px !important; }
#head h1 { display: inline; margin-right: .6em; }
#head p { display: inline; opacity: .75; }
.thumbs .grid-wrap { height: auto !important; min-height: 0; padding: 0; }
.thumbs .grid-container { grid-template: auto / repeat(auto-fill, 35px); grid-auto-rows: 35px; gap: 4px; padding: 1px; }
.thumbs .gallery-item, .thumbs .thumbnail-item { width: 35px; height: 35px; border-radius: 5px; }
.thumbs .caption-label { display: none; }
#result img { width: 100%; height: 100%; object-fit: contain; }
@media (max-width: 640px) { #result { height: 300px !important; } }
#command textarea { font-family: var(--font-mono); font-size: 12px; }
"""


@dataclass(frozen=True)
class ServerOptions:
    """Where the page is served, and its limits."""

    host: str
    max_upload: float  # MiB of an uploaded file
    queue: int  # waiting requests


def mount(page: gr.Blocks, options: ServerOptions) -> FastAPI:
    """Return the page as an application that enforces the limits."""
    app = FastAPI(openapi_url=None)
    if _is_loopback(options.host):
        app.add_middleware(LoopbackOnly)
    theme = gr.themes.Default(
        primary_hue="indigo", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    page.queue(max_size=options.queue, api_open=False, default_concurrency_limit=1)
    return gr.mount_gradio_app(
        app,
        page,
        "/",
        show_error=False,
        max_file_size=int(options.max_upload * 2**20),
        theme=theme,
        css=CSS,
        footer_links=[],
    )


async def serve_page(service: StylizeService, method: str, listener: socket.socket, options: ServerOptions) -> None:
    """Serve the page until a signal.

    Everything runs in the current event loop, because Gradio would create loops that it does not close.

    Args:
        service: stylizes the requests.
        method: name of the method that is selected first.
        listener: a socket that listens already.
        options: the host, for the address that is printed, and the limits.
    """
    app = mount(StylizePage(service, method).build(), options)
    headers = [("Content-Security-Policy", POLICY), ("Referrer-Policy", "no-referrer")]
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, headers=headers)
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"adain: http://{host}:{listener.getsockname()[1]}/ until Ctrl-C", flush=True)
    await QuietServer(config).serve([listener])


class QuietServer(uvicorn.Server):
    """A server that does not log an error for each page that is still open when it shuts down."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Shut down as `uvicorn.Server` does, without its messages."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


class LoopbackOnly:
    """Middleware that refuses requests whose Host header is not a loopback name or address.

    It prevents DNS rebinding, where a website lets its own name point to this computer. Starlette's
    TrustedHostMiddleware does not understand IPv6 addresses.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with status 400."""
        if scope["type"] in ("http", "websocket"):
            header = Headers(scope=scope).get("host", "")
            try:
                name = urlsplit(f"//{header}").hostname or ""
            except ValueError:  # an unmatched bracket
                name = ""
            if not _is_loopback(name):
                await PlainTextResponse("Invalid host header", status_code=400)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _is_loopback(host: str) -> bool:
    """Whether a name or an IPv4 or IPv6 address is a loopback address of this computer."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        return False
