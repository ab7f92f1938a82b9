"""The web page: a photo, a style or two, and the painting that follows the sliders. Gradio draws, uvicorn serves it."""

import html
import inspect
import ipaddress
import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import ImageOps

from adain.deploy.web.service import KEPT, StylizeRequest, StylizeResult, StylizeService, Upload
from adain.imaging import listing, photo, reader
from adain.inference.options import COLORS
from adain.methods import METHODS, Gatys
from adain.methods.progress import Progress
from adain.utils.errors import one_line
from adain.utils.extras import require_extra

with require_extra("web", "the web page"):
    import gradio as gr
    import uvicorn
    from fastapi import FastAPI
    from starlette.datastructures import Headers
    from starlette.responses import PlainTextResponse
    from starlette.types import ASGIApp, Receive, Scope, Send

EXAMPLES = Path(__file__).parents[3] / "examples"  # of the repository; a wheel has none
NUDGE = 2  # seconds that an answer may be late
CLEANED = 600  # seconds between two looks for files to delete

POLICY = "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'self'"
"""So that the browser fetches nothing from elsewhere, whatever Gradio's pages may ask for."""

PICKERS = (("Photo", "content"), ("Style", "style"), ("Second style", "style"))
"""The boxes for pictures, and the examples for each."""

WELCOME = "Choose a photo and a style, or drop your own."
ALONE = "This method paints in the one style that it was trained on, at full strength."
PATIENCE = "This method optimizes the picture itself, for minutes. It shows how far it is, and can be stopped."
STOPPED = "Stopped; this is the best so far."
UNFINISHED = " The command line goes on to the end."

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


@contextmanager
def told(*uploads: Upload) -> Iterator[None]:
    """What goes wrong within is told to the visitor, in one line and by the visitor's names."""
    try:
        yield
    except (ValueError, OSError, MemoryError, RuntimeError) as error:
        message = one_line(error, "choose a smaller size")
    else:
        return
    for upload in uploads:
        message = message.replace(upload.path, upload.name)
    raise gr.Error(html.escape(message, quote=False), print_exception=False)


def answer(studio: StylizeService, order: StylizeRequest, visitor: str) -> list[Any]:
    """What a painting changes on the page: picture, file, command line, status, and the order that is shown."""
    studio.begin(visitor)
    began = time.monotonic()
    with told(order.content, *order.styles):
        painted = studio.pool.submit(studio.paint, order).result()
    return _shown(painted, f"Painted in {time.monotonic() - began:.2f} s.")


def answers(studio: StylizeService, order: StylizeRequest, visitor: str) -> Iterator[list[Any]]:
    """The same for an optimization, again and again while it goes on."""
    run = studio.begin(visitor)
    yield [None, gr.update(value=None, interactive=False), "", "Starting ...", None]
    with told(order.content, *order.styles):
        for state in studio.optimize(order, run):
            if studio.runs.get(visitor) is not run:  # something else was wanted since
                return
            if isinstance(state, StylizeResult):
                stopped = STOPPED + (UNFINISHED if state.order == order else "")
                yield _shown(state, stopped if run.is_set() else "Optimized.")
            else:
                yield [photo.to_image(state[0].picture), gr.skip(), gr.skip(), _progress(*state), None]


def _shown(painted: StylizeResult, status: str) -> list[Any]:
    path = str(painted.path)
    return [path, gr.update(value=path, interactive=True), painted.order.command(), status, painted.order]


def _progress(progress: Progress, seconds: float) -> str:
    about = f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
    where = f"Step {progress.step} of {progress.steps} at {progress.size} px"
    return f"{where}, loss {progress.total:.4g}; about {about} left."


def build(studio: StylizeService, method: str) -> gr.Blocks:
    """The page, with `method` chosen first."""
    with gr.Blocks(title="adain", analytics_enabled=False, delete_cache=(CLEANED, KEPT)) as page:
        gr.Markdown("# adain\nAny photo in the style of any picture.", elem_id="head")
        with gr.Row():
            with gr.Column(scale=6, min_width=340):
                with gr.Row():
                    boxes, uploads = zip(*(_picker(studio, *labels) for labels in PICKERS), strict=True)
                controls = _controls(method)
                note = gr.Markdown(visible=False, elem_id="note")
                with gr.Row():
                    paint = gr.Button("Paint", variant="primary", elem_id="paint")
                    optimize = gr.Button("Optimize", variant="primary", elem_id="optimize", visible=False)
                    stop = gr.Button("Stop", variant="stop", elem_id="stop", visible=False)
            with gr.Column(scale=7, min_width=340):
                outputs = _results()
        *_, shown = outputs
        inputs = {*uploads, *controls.values(), shown}

        def ordered(given: dict) -> StylizeRequest | None:
            """None as long as something is missing."""
            content, *styles = (given[upload] for upload in uploads)
            chosen = {name: given[control] for name, control in controls.items()}
            chosen |= {name: int(chosen[name]) for name in ("size", "steps")}
            kind = METHODS[chosen["method"]]
            wanted = (2 if kind.supports_mixing else 1) if kind.takes_style else 0
            taken = tuple([style for style in styles if style][:wanted])
            missing = not content or (wanted and not taken)
            return None if missing else StylizeRequest(content, taken, device=studio.device, **chosen)

        def painted(given: dict, request: gr.Request) -> Any:
            order = ordered(given)
            # Two changes at once, such as two uploads, call twice and find the same.
            if order and order != given[shown] and not METHODS[order.method].iterative:
                return answer(studio, order, str(request.session_hash))
            return gr.skip()

        def optimized(given: dict, request: gr.Request) -> Iterator[Any]:
            order = ordered(given)
            yield from answers(studio, order, str(request.session_hash)) if order else [gr.skip()]

        def stopped(request: gr.Request) -> None:
            studio.stop(str(request.session_hash))

        def left(request: gr.Request) -> None:
            studio.end(str(request.session_hash))

        chooser, second = controls["method"], uploads[2]
        parts = [*boxes[1:], paint, optimize, stop, *list(controls.values())[1:], note]
        gr.on([page.load, chooser.change, second.change], _fit, [chooser, second], parts, queue=False)
        moved = [part.change for part in (*uploads, *controls.values())]
        waiting: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": outputs[0]}
        gr.on([paint.click, *moved], painted, inputs, outputs, trigger_mode="always_last", **waiting)
        optimize.click(optimized, inputs, outputs, **waiting)
        stop.click(stopped, queue=False)
        page.unload(left)
        # Gradio closes the stream of answers after the last, and loses one asked for in that moment, until the next.
        gr.Timer(NUDGE).tick(lambda: None, show_progress="hidden")
    return page


def _picker(studio: StylizeService, label: str, folder: str) -> tuple[gr.Column, gr.State]:
    """Where a picture is dropped, or one of the examples chosen; the state is its `Upload`."""
    name = label.lower().replace(" ", "-")
    with gr.Column(min_width=150) as box:
        upload = gr.State(None)
        shown = gr.Image(
            label=label, elem_id=name, height=200, sources=["upload"], type="filepath", buttons=[], format="jpeg"
        )

        def take(given: dict) -> tuple[Any, Upload]:
            path, name = given["path"], Path(given.get("orig_name") or given["path"]).name
            with told(Upload(path, name, (0, 0))):
                found, picture = studio.look(path, name)
            return picture, found

        # The file as it came, not what Gradio would make of it; and a picture of it that every browser can show.
        latest: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last"}
        came = shown.upload(take, shown, [shown, upload], preprocess=False, **latest)
        came.failure(lambda: (None, None), None, [shown, upload], queue=False)
        shown.clear(lambda: None, None, upload, queue=False)
        if (EXAMPLES / folder).is_dir():
            paths = listing.files(EXAMPLES / folder)

            def choose(event: gr.SelectData) -> tuple[Any, Upload]:
                path = paths[event.index]
                found, picture = studio.look(str(path), path.relative_to(EXAMPLES.parent).as_posix())
                return picture, found

            small = [(ImageOps.fit(reader.read(path), (96, 96)), path.stem) for path in paths]
            looks: dict[str, Any] = {"show_label": False, "container": False, "allow_preview": False, "buttons": []}
            looks |= {"interactive": False, "columns": len(small), "elem_classes": "thumbs", "format": "jpeg"}
            thumbs = gr.Gallery(small, elem_id=f"{name}-examples", **looks)
            thumbs.select(choose, None, [shown, upload], **latest)
    return box, upload


def _controls(method: str) -> dict[str, Any]:
    """What sets an `Order`, by the names of its fields."""
    steps = inspect.signature(Gatys).parameters["steps"].default
    with gr.Row():
        chooser = gr.Dropdown([*METHODS], value=method, label="Method", elem_id="method", min_width=140)
        color = gr.Dropdown([*COLORS], value="style", label="Colors", elem_id="color", min_width=140)
    with gr.Row():
        alpha = gr.Slider(0, 1, 1, step=0.05, label="Strength", elem_id="alpha", min_width=140)
        size = gr.Slider(64, 2048, 512, step=32, label="Shorter side (px)", elem_id="size", min_width=140)
    with gr.Row():
        mix = gr.Slider(0, 1, 0.5, step=0.05, label="Second style", elem_id="mix", min_width=140)
        count = gr.Slider(5, 500, steps, step=5, label="Steps a size", elem_id="steps", min_width=140)
    return {"method": chooser, "color": color, "alpha": alpha, "size": size, "mix": mix, "steps": count}


def _fit(method: str, second: Upload | None) -> list[Any]:
    """What of the page the method needs: boxes for styles, buttons, controls but the first; and a word on it."""
    kind = METHODS[method]
    mixes = kind.takes_style and kind.supports_mixing
    colors = [color for color in COLORS if kind.takes_style or color != "coral"]
    shown = [kind.takes_style, mixes, not kind.iterative, kind.iterative, kind.iterative]
    sliders = [kind.takes_style, True, mixes and bool(second), kind.iterative]
    parts = [gr.update(visible=visible) for visible in (*shown, *sliders)]
    parts.insert(len(shown), gr.update(choices=colors, value="style"))
    note = PATIENCE if kind.iterative else "" if kind.takes_style else ALONE
    return [*parts, gr.update(value=note, visible=bool(note))]


def _results() -> list[Any]:
    """The picture, its file, its command line, a line on how it went, and the `Order` that painted it."""
    look: dict[str, Any] = {"type": "filepath", "interactive": False, "buttons": ["fullscreen"], "format": "jpeg"}
    result = gr.Image(label="Result", height=500, elem_id="result", **look)
    with gr.Row(equal_height=True):
        status = gr.Markdown(WELCOME, elem_id="status")
        file = gr.DownloadButton("Download", interactive=False, elem_id="download", min_width=140, scale=0, size="md")
    label = "The same on the command line, run where the pictures are"
    command = gr.Textbox(label=label, lines=2, max_lines=3, buttons=["copy"], interactive=False, elem_id="command")
    return [result, file, command, status, gr.State(None)]


def mount(page: gr.Blocks, host: str, max_upload: float, queue: int) -> FastAPI:
    """The page as an application, with its limits; arguments as the command line has them."""
    app = FastAPI(openapi_url=None)
    if _is_loopback(host):
        app.add_middleware(LoopbackOnly)
    fonts: dict[str, Any] = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    look = {"theme": gr.themes.Default(primary_hue="indigo", **fonts), "css": CSS, "footer_links": []}
    page.queue(max_size=queue, api_open=False, default_concurrency_limit=1)
    return gr.mount_gradio_app(app, page, "/", show_error=False, max_file_size=int(max_upload * 2**20), **look)


def _is_loopback(host: str) -> bool:
    """Whether a name or an address, IPv4 or IPv6, is this computer's own."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        return False


class LoopbackOnly:
    """Refuses requests under any other name than this computer's own, which a website may have given to its address.

    Starlette's TrustedHostMiddleware does not understand IPv6 addresses.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with status 400."""
        if scope["type"] in ("http", "websocket"):
            header = Headers(scope=scope).get("host", "")
            try:
                name = urlsplit(f"//{header}").hostname or ""
            except ValueError:  # a bracket without its pair
                name = ""
            if not _is_loopback(name):
                await PlainTextResponse("Invalid host header", status_code=400)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class Server(uvicorn.Server):
    """Without a complaint for each page that is still open in the end."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's."""
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


async def serving(
    studio: StylizeService, method: str, listener: socket.socket, host: str, max_upload: float, queue: int
) -> None:
    """Serve the page until a signal. All of it in the running loop, as Gradio would make others and not close them."""
    app = mount(build(studio, method), host, max_upload, queue)
    headers = [("Content-Security-Policy", POLICY), ("Referrer-Policy", "no-referrer")]
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1, headers=headers)
    place = f"[{host}]" if ":" in host else host
    print(f"adain: http://{place}:{listener.getsockname()[1]}/ until Ctrl-C", flush=True)
    await Server(config).serve([listener])
