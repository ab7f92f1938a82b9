"""The web page: a photo, one or two styles, and a result that follows the controls."""

import inspect
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from adain.deploy.web.image_picker import ImagePicker, reports_errors
from adain.deploy.web.service import RETENTION, StylizeRequest, StylizeResult, StylizeService, Upload
from adain.imaging import photo
from adain.inference.options import COLORS
from adain.methods import METHODS, Gatys
from adain.methods.progress import Progress
from adain.utils.extras import require_extra

with require_extra("web", "the web page"):
    import gradio as gr

POLL_INTERVAL = 2  # seconds, see `StylizePage.build`
CLEANUP_INTERVAL = 600  # seconds between two searches for files to delete

PICKERS = (("Photo", "content"), ("Style", "style"), ("Second style", "style"))
"""The label of each image picker, and the folder of its examples."""

WELCOME = "Choose a photo and a style, or upload your own."
TRAINED_STYLE_NOTE = "This method supports only the style that it was trained on, at full strength."
OPTIMIZATION_NOTE = "This method optimizes the image itself, which takes minutes. You can follow and stop it."
STOPPED = "Stopped. This is the best result so far."
COMMAND_RUNS_TO_COMPLETION = " The command line runs all steps."


@dataclass(frozen=True)
class Buttons:
    """The buttons below the controls."""

    stylize: gr.Button
    optimize: gr.Button
    stop: gr.Button


@dataclass(frozen=True)
class ResultPanel:
    """What an answer updates."""

    image: gr.Image
    download: gr.DownloadButton
    command: gr.Textbox
    status: gr.Markdown
    request: gr.State
    """The `StylizeRequest` of the result that is shown; None if there is none, or during an optimization."""

    def outputs(self) -> list[Any]:
        """The components in the order of an answer."""
        return [self.image, self.download, self.command, self.status, self.request]


class StylizePage:
    """The components of the web page, and a method for each event.

    The `api_name`s and `elem_id`s are stable: clients and tests use them.

    Args:
        service: stylizes the requests.
        method: name of the method that is selected first.
    """

    pickers: list[ImagePicker]
    controls: dict[str, Any]
    """The controls by the field of `StylizeRequest` that each one sets."""
    note: gr.Markdown
    buttons: Buttons
    results: ResultPanel

    def __init__(self, service: StylizeService, method: str):
        self.service = service
        self.method = method

    def build(self) -> gr.Blocks:
        """Lay out the components and connect their events."""
        with gr.Blocks(title="adain", analytics_enabled=False, delete_cache=(CLEANUP_INTERVAL, RETENTION)) as page:
            gr.Markdown("# adain\nAny photo in the style of any image.", elem_id="head")
            with gr.Row():
                with gr.Column(scale=6, min_width=340):
                    with gr.Row():
                        self.pickers = [ImagePicker(self.service, label, folder) for label, folder in PICKERS]
                    self.controls = _build_controls(self.method)
                    self.note = gr.Markdown(visible=False, elem_id="note")
                    self.buttons = _build_buttons()
                with gr.Column(scale=7, min_width=340):
                    self.results = _build_results()
            self._connect(page)
            # Gradio closes the stream of answers after the last one. An answer that is requested in that moment
            # arrives only with the next event, so a timer fires events.
            gr.Timer(POLL_INTERVAL).tick(lambda: None, show_progress="hidden")
        return page

    def _connect(self, page: gr.Blocks) -> None:
        """Register the events."""
        uploads = [picker.upload for picker in self.pickers]
        method = self.controls["method"]
        second_style = uploads[2]
        gr.on(
            [page.load, method.change, second_style.change],
            method_updates,
            [method, second_style],
            self._method_dependents(),
            queue=False,
            api_name="_fit",
        )
        inputs = {*uploads, *self.controls.values(), self.results.request}
        outputs = self.results.outputs()
        progress: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": self.results.image}
        changes = [component.change for component in (*uploads, *self.controls.values())]
        gr.on(
            [self.buttons.stylize.click, *changes],
            self.on_stylize,
            inputs,
            outputs,
            trigger_mode="always_last",
            api_name="stylized",
            **progress,
        )
        self.buttons.optimize.click(self.on_optimize, inputs, outputs, api_name="optimized", **progress)
        self.buttons.stop.click(self.on_stop, queue=False, api_name="stopped")
        page.unload(self.on_leave)

    def _method_dependents(self) -> list[Any]:
        """The components that `method_updates` updates, in its order."""
        _, style_picker, second_style_picker = self.pickers
        controls_but_method = [control for name, control in self.controls.items() if name != "method"]
        return [
            style_picker.column,
            second_style_picker.column,
            self.buttons.stylize,
            self.buttons.optimize,
            self.buttons.stop,
            *controls_but_method,
            self.note,
        ]

    def on_stylize(self, values: dict, visit: gr.Request) -> Any:
        """Stylize what the page shows, after a click or a change of an input."""
        request = self._request(values)
        if request is None or METHODS[request.method].iterative:
            return gr.skip()
        # Two changes at the same time, such as two uploads, fire two events with the same values.
        if request == values[self.results.request]:
            return gr.skip()
        self.service.begin(str(visit.session_hash))
        started = time.monotonic()
        with reports_errors(request.content, *request.styles):
            result = self.service.pool.submit(self.service.stylize, request).result()
        return _result_values(result, f"Stylized in {time.monotonic() - started:.2f} s.")

    def on_optimize(self, values: dict, visit: gr.Request) -> Iterator[Any]:
        """Optimize, and show the progress again and again until the result."""
        request = self._request(values)
        if request is None:
            yield gr.skip()
            return
        visitor = str(visit.session_hash)
        run = self.service.begin(visitor)
        yield [None, gr.update(value=None, interactive=False), "", "Starting ...", None]
        with reports_errors(request.content, *request.styles):
            for state in self.service.optimize(request, run):
                if self.service.runs.get(visitor) is not run:  # the visitor has started something else
                    return
                if isinstance(state, StylizeResult):
                    yield _result_values(state, _final_status(request, state, run.is_set()))
                else:
                    progress, seconds = state
                    preview = photo.to_image(progress.picture)
                    yield [preview, gr.skip(), gr.skip(), _progress_status(progress, seconds), None]

    def on_stop(self, visit: gr.Request) -> None:
        """Stop the optimization, which then shows its best result so far."""
        self.service.stop(str(visit.session_hash))

    def on_leave(self, visit: gr.Request) -> None:
        """End the optimization of a visitor who closed the page."""
        self.service.end(str(visit.session_hash))

    def _request(self, values: dict) -> StylizeRequest | None:
        """The request that the values of the components describe; None while an image is missing.

        Args:
            values: the value of each component, as Gradio passes them.
        """
        content, *styles = [values[picker.upload] for picker in self.pickers]
        fields = {name: values[control] for name, control in self.controls.items()}
        for name in ("size", "steps"):
            fields[name] = int(fields[name])
        method = METHODS[fields["method"]]
        if not method.takes_style:
            style_count = 0
        elif method.supports_mixing:
            style_count = 2
        else:
            style_count = 1
        used = tuple([style for style in styles if style][:style_count])
        if not content or (style_count and not used):
            return None
        return StylizeRequest(content, used, device=self.service.device, **fields)


def method_updates(method: str, second: Upload | None) -> list[Any]:
    """Return updates that show what a method needs, in the order of `StylizePage._method_dependents`.

    Args:
        method: name of the selected method.
        second: the second style, if there is one.
    """
    kind = METHODS[method]
    mixes = kind.takes_style and kind.supports_mixing
    colors = [color for color in COLORS if kind.takes_style or color != "coral"]
    note = ""
    if kind.iterative:
        note = OPTIMIZATION_NOTE
    elif not kind.takes_style:
        note = TRAINED_STYLE_NOTE
    return [
        gr.update(visible=kind.takes_style),  # style picker
        gr.update(visible=mixes),  # picker of the second style
        gr.update(visible=not kind.iterative),  # button Stylize
        gr.update(visible=kind.iterative),  # button Optimize
        gr.update(visible=kind.iterative),  # button Stop
        gr.update(choices=colors, value="style"),
        gr.update(visible=kind.takes_style),  # strength
        gr.update(visible=True),  # size
        gr.update(visible=mixes and bool(second)),  # weight of the second style
        gr.update(visible=kind.iterative),  # steps
        gr.update(value=note, visible=bool(note)),
    ]


def _build_controls(method: str) -> dict[str, Any]:
    """Build the controls, by the field of `StylizeRequest` that each one sets."""
    steps = inspect.signature(Gatys).parameters["steps"].default
    with gr.Row():
        chooser = gr.Dropdown([*METHODS], value=method, label="Method", elem_id="method", min_width=140)
        color = gr.Dropdown([*COLORS], value="style", label="Colors", elem_id="color", min_width=140)
    with gr.Row():
        alpha = gr.Slider(0, 1, 1, step=0.05, label="Strength", elem_id="alpha", min_width=140)
        size = gr.Slider(64, 2048, 512, step=32, label="Shorter side (px)", elem_id="size", min_width=140)
    with gr.Row():
        mix = gr.Slider(0, 1, 0.5, step=0.05, label="Second style weight", elem_id="mix", min_width=140)
        count = gr.Slider(5, 500, steps, step=5, label="Steps per size", elem_id="steps", min_width=140)
    return {"method": chooser, "color": color, "alpha": alpha, "size": size, "mix": mix, "steps": count}


def _build_buttons() -> Buttons:
    with gr.Row():
        return Buttons(
            stylize=gr.Button("Stylize", variant="primary", elem_id="stylize"),
            optimize=gr.Button("Optimize", variant="primary", elem_id="optimize", visible=False),
            stop=gr.Button("Stop", variant="stop", elem_id="stop", visible=False),
        )


def _build_results() -> ResultPanel:
    image = gr.Image(
        label="Result",
        height=500,
        elem_id="result",
        type="filepath",
        interactive=False,
        buttons=["fullscreen"],
        format="jpeg",
    )
    with gr.Row(equal_height=True):
        status = gr.Markdown(WELCOME, elem_id="status")
        download = gr.DownloadButton(
            "Download", interactive=False, elem_id="download", min_width=140, scale=0, size="md"
        )
    command = gr.Textbox(
        label="Command line for the same result (run it where the images are)",
        lines=2,
        max_lines=3,
        buttons=["copy"],
        interactive=False,
        elem_id="command",
    )
    return ResultPanel(image, download, command, status, gr.State(None))


def _result_values(result: StylizeResult, status: str) -> list[Any]:
    """The values of `ResultPanel.outputs` for a result."""
    path = str(result.path)
    download = gr.update(value=path, interactive=True)
    return [path, download, result.request.command_line(), status, result.request]


def _progress_status(progress: Progress, seconds: float) -> str:
    """The status line during an optimization with `seconds` left."""
    time_left = f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
    position = f"Step {progress.step} of {progress.steps} at {progress.size} px"
    return f"{position}, loss {progress.total:.4g}; about {time_left} left."


def _final_status(request: StylizeRequest, result: StylizeResult, stopped: bool) -> str:
    """The status line at the end of an optimization."""
    if not stopped:
        return "Optimized."
    if result.request == request:  # no smaller number of steps reproduces the result
        return STOPPED + COMMAND_RUNS_TO_COMPLETION
    return STOPPED
