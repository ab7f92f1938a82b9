"""The web page: a photo, one or two styles, and a result that follows the controls."""

import inspect
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adain.deploy.web import examples
from adain.deploy.web.history import History
from adain.deploy.web.image_picker import ImagePicker, reports_errors
from adain.deploy.web.mask_painter import MaskPainter
from adain.deploy.web.service import RETENTION, StylizeRequest, StylizeResult, StylizeService, Upload
from adain.deploy.web.uploads import UploadsOnly
from adain.imaging import photo
from adain.inference.options import COLORS
from adain.methods import METHODS, Gatys
from adain.methods.progress import Progress
from adain.utils.extras import require_extra

with require_extra("web", "the web page"):
    import gradio as gr

POLL_INTERVAL = 2  # seconds, see `StylizePage._poll_for_a_while`
POLLS = 4  # after each change
CLEANUP_INTERVAL = 600  # seconds between two searches for files to delete

STROKES = {"As in the style": None, "Fine": 256, "Medium": 512, "Coarse": 768}
"""Shorter sides of the styles in pixels, by the labels of the page."""

METHOD_NOTES = {
    "adain": "Any style, at once. A good start.",
    "adain-lite": "Any style, by a small network: the fastest, with strong colors.",
    "adaconv": "Any style. Follows the shapes of its strokes, too; slower.",
    "style-swap": "Any style, patch by patch: keeps the photo's shapes; slow.",
    "wct": "Any style. Matches its colors and textures closely, and keeps less of the photo.",
    "johnson": "This method supports only the style that it was trained on, at full strength.",
    "gatys": "Any style, closest to it. Optimizes the image itself, which takes minutes. You can follow and stop it.",
}
"""What each method is good for."""

WELCOME = "Choose a photo and a style, or upload your own."
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

    image: gr.ImageSlider
    """The photo before and after."""
    png: gr.DownloadButton
    jpeg: gr.DownloadButton
    command: gr.Textbox
    status: gr.Markdown
    result: gr.State
    """The `StylizeResult` that is shown; None if there is none, or during an optimization."""

    def outputs(self) -> list[Any]:
        """Return the components in the order of an answer."""
        return [self.image, self.png, self.jpeg, self.command, self.status, self.result]


class StylizePage:
    """The components of the web page, and a method for each event.

    The `api_name`s and `elem_id`s are stable: clients and tests use them.

    Args:
        service: Stylizes the requests.
        method: Name of the method that is selected first.
        styles: More styles to choose from, besides the examples.
    """

    pickers: list[ImagePicker]
    controls: dict[str, Any]
    """The controls by the field of `StylizeRequest` that each one sets."""
    note: gr.Markdown
    second_style: gr.Accordion
    painter: MaskPainter
    buttons: Buttons
    results: ResultPanel

    def __init__(self, service: StylizeService, method: str, styles: Sequence[Path] = ()):
        self.service = service
        self.method = method
        self.styles = [*styles, *examples.images("style")]

    def build(self) -> gr.Blocks:
        """Lay out the components and connect their events."""
        options: dict[str, Any] = {"analytics_enabled": False, "delete_cache": (CLEANUP_INTERVAL, RETENTION)}
        with UploadsOnly(self.service.folder, title="adain", **options) as page:
            gr.Markdown("# adain\nAny photo in the style of any image.", elem_id="head")
            with gr.Row():
                with gr.Column(scale=6, min_width=340):
                    self._build_inputs()
                with gr.Column(scale=7, min_width=340, elem_id="results"):
                    self.results = _build_results()
                    history = History(self.results.result)
            self._connect(page)
            history.connect(self.results.outputs(), shown_again)
        return page

    def _build_inputs(self) -> None:
        """Build everything that a visitor sets."""
        with gr.Row():
            content = ImagePicker(
                self.service,
                "Photo",
                examples.images("content"),
                examples.EXAMPLES / examples.FIRST_CONTENT,
                ("upload", "webcam", "clipboard"),
            )
            style = ImagePicker(self.service, "Style", self.styles, examples.EXAMPLES / examples.FIRST_STYLE)
        self.controls, self.note = _build_controls(self.method)
        with gr.Accordion("Second style", open=False, elem_id="second-style-section") as self.second_style:
            second_style = ImagePicker(self.service, "Second style", self.styles)
            with gr.Row():
                mix = gr.Slider(0, 1, 0.5, step=0.05, label="Weight", elem_id="mix", min_width=140)
                strength = gr.Slider(0, 1, 1, step=0.05, label="Strength", elem_id="second-alpha", min_width=140)
            self.controls |= {"mix": mix, "second_alpha": strength}
            self.painter = MaskPainter(self.service, content.upload)
        with gr.Accordion("Strokes and details", open=False, elem_id="more"):
            self.controls |= _build_more_controls()
        self.pickers = [content, style, second_style]
        self.buttons = _build_buttons()

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
        inputs = {*uploads, self.painter.mask, *self.controls.values(), self.results.result}
        outputs = self.results.outputs()
        progress: dict[str, Any] = {"show_progress": "minimal", "show_progress_on": self.results.image}
        changes = [component.change for component in (*uploads, self.painter.mask, *self.controls.values())]
        self._poll_for_a_while([page.load, self.buttons.optimize.click, *changes])
        gr.on(
            [page.load, self.buttons.stylize.click, *changes],
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

    def _poll_for_a_while(self, triggers: list[Any]) -> None:
        """Fire some events after each trigger.

        Gradio closes the stream of answers after the last one. An answer that is requested in that moment arrives only
        with the next event. The events end, so that an idle page takes less time of a core.
        """
        polls = gr.State(0)
        timer = gr.Timer(POLL_INTERVAL, active=False)
        gr.on(triggers, lambda: (POLLS, gr.Timer(active=True)), None, [polls, timer], queue=False, api_name="_poll")
        timer.tick(
            lambda left: (left - 1, gr.Timer(active=left > 1)),
            polls,
            [polls, timer],
            show_progress="hidden",
            api_name="_polled",
        )

    def _method_dependents(self) -> list[Any]:
        """Return the components that `method_updates` updates, in its order."""
        names = ("color", "alpha", "mix", "strokes", "steps")
        return [
            self.pickers[1].column,
            self.second_style,
            self.buttons.stylize,
            self.buttons.optimize,
            self.buttons.stop,
            *(self.controls[name] for name in names),
            self.note,
        ]

    def on_stylize(self, values: dict, visit: gr.Request) -> Iterator[Any]:
        """Stylize what the page shows, when it is opened, and after a click or a change of an input."""
        request = self._request(values)
        # Two changes at the same time, such as two uploads, fire two events with the same values.
        shown = values[self.results.result]
        if request is None or METHODS[request.method].iterative or (shown and request == shown.request):
            yield gr.skip()
            return
        self.service.begin(str(visit.session_hash))
        yield self._status_only(_expectation(self.service.expected_seconds(request)))
        started = time.monotonic()
        with reports_errors(*request.uploads):
            result = self.service.pool.submit(self.service.stylize, request).result()
        yield _result_values(result, f"Stylized in {time.monotonic() - started:.2f} s.")

    def on_optimize(self, values: dict, visit: gr.Request) -> Iterator[Any]:
        """Optimize, and show the progress again and again until the result. The last result stays until then."""
        request = self._request(values)
        if request is None:
            yield gr.skip()
            return
        visitor = str(visit.session_hash)
        run = self.service.begin(visitor)
        yield self._status_only("Starting ...")
        with reports_errors(*request.uploads):
            _, before = self.service.open_upload(request.content.path, request.content.name)
            for state in self.service.optimize(request, run):
                if self.service.runs.get(visitor) is not run:  # the visitor has started something else
                    return
                if isinstance(state, StylizeResult):
                    yield _result_values(state, _final_status(request, state, run.is_set()))
                else:
                    progress, seconds = state
                    unfinished = gr.update(value=None, interactive=False)
                    preview = (before, photo.to_image(progress.picture))
                    yield [preview, unfinished, unfinished, "", _progress_status(progress, seconds), None]

    def _status_only(self, status: str) -> list[Any]:
        """Return the values of `ResultPanel.outputs` that change nothing but the status."""
        panel = self.results
        return [status if output is panel.status else gr.skip() for output in panel.outputs()]

    def on_stop(self, visit: gr.Request) -> None:
        """Stop the optimization, which then shows its best result so far."""
        self.service.stop(str(visit.session_hash))

    def on_leave(self, visit: gr.Request) -> None:
        """End the optimization of a visitor who closed the page."""
        self.service.end(str(visit.session_hash))

    def _request(self, values: dict) -> StylizeRequest | None:
        """Return the request that the values of the components describe; None while an image is missing.

        Args:
            values: The value of each component, as Gradio passes them.
        """
        content, *styles = [values[picker.upload] for picker in self.pickers]
        fields = {name: values[control] for name, control in self.controls.items()}
        for name in ("size", "steps"):
            fields[name] = int(fields[name])
        fields["stroke_size"] = STROKES[fields.pop("strokes")]
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
        mask = values[self.painter.mask] if len(used) == 2 else None
        return StylizeRequest(content, used, device=self.service.device, mask=mask, **fields)


def method_updates(method: str, second: Upload | None) -> list[Any]:
    """Return updates that show what a method needs, in the order of `StylizePage._method_dependents`.

    Args:
        method: Name of the selected method.
        second: The second style, if there is one.
    """
    kind = METHODS[method]
    mixes = kind.takes_style and kind.supports_mixing
    colors = [color for color in COLORS if kind.takes_style or color != "coral"]
    return [
        gr.update(visible=kind.takes_style),  # style picker
        gr.update(visible=mixes),  # second style
        gr.update(visible=not kind.iterative),  # button Stylize
        gr.update(visible=kind.iterative),  # button Optimize
        gr.update(visible=kind.iterative),  # button Stop
        gr.update(choices=colors, value="style"),
        gr.update(visible=kind.takes_style),  # strength
        gr.update(visible=mixes and bool(second)),  # weight of the second style
        gr.update(visible=kind.takes_style),  # strokes
        gr.update(visible=kind.iterative),  # steps
        METHOD_NOTES.get(method, ""),
    ]


def _build_controls(method: str) -> tuple[dict[str, Any], gr.Markdown]:
    """Build the main controls, by the field of `StylizeRequest` that each one sets, and the note on the method."""
    steps = inspect.signature(Gatys).parameters["steps"].default
    with gr.Row():
        chooser = gr.Dropdown([*METHODS], value=method, label="Method", elem_id="method", min_width=140)
        color = gr.Dropdown([*COLORS], value="style", label="Colors", elem_id="color", min_width=140)
    note = gr.Markdown(METHOD_NOTES.get(method, ""), elem_id="note")
    with gr.Row():
        alpha = gr.Slider(0, 1, 1, step=0.05, label="Strength", elem_id="alpha", min_width=140)
        size = gr.Slider(64, 2048, 512, step=32, label="Shorter side (px)", elem_id="size", min_width=140)
    count = gr.Slider(5, 500, steps, step=5, label="Steps per size", elem_id="steps", visible=False)
    return {"method": chooser, "color": color, "alpha": alpha, "size": size, "steps": count}, note


def _build_more_controls() -> dict[str, Any]:
    """Build the controls of the folded section, by field; `strokes` stands for `stroke_size`."""
    with gr.Row():
        strokes = gr.Dropdown([*STROKES], value=next(iter(STROKES)), label="Strokes", elem_id="strokes", min_width=140)
        detail = gr.Slider(0, 1, 0, step=0.1, label="Detail of the photo", elem_id="detail", min_width=140)
    photorealistic = gr.Checkbox(label="Photorealistic: no brush strokes", elem_id="photorealistic")
    return {"strokes": strokes, "detail": detail, "photorealistic": photorealistic}


def _build_buttons() -> Buttons:
    with gr.Row():
        return Buttons(
            stylize=gr.Button("Stylize", variant="primary", elem_id="stylize"),
            optimize=gr.Button("Optimize", variant="primary", elem_id="optimize", visible=False),
            stop=gr.Button("Stop", variant="stop", elem_id="stop", visible=False),
        )


def _build_results() -> ResultPanel:
    image = gr.ImageSlider(
        label="Photo and result",
        max_height=560,
        elem_id="result",
        type="filepath",
        interactive=False,
        buttons=["fullscreen"],
        format="jpeg",
        slider_position=30,
    )
    with gr.Row(equal_height=True):
        status = gr.Markdown(WELCOME, elem_id="status")
        png = gr.DownloadButton("PNG", interactive=False, elem_id="download", min_width=90, scale=0, size="md")
        jpeg = gr.DownloadButton("JPEG", interactive=False, elem_id="download-jpeg", min_width=90, scale=0, size="md")
    command = gr.Textbox(
        label="Command line for the same result (run it where the images are)",
        lines=2,
        max_lines=5,
        buttons=["copy"],
        interactive=False,
        elem_id="command",
    )
    return ResultPanel(image, png, jpeg, command, status, gr.State(None))


def _result_values(result: StylizeResult, status: str) -> list[Any]:
    """Return the values of `ResultPanel.outputs` for a result."""
    images = (str(result.before), str(result.path))
    png = gr.update(value=str(result.path), interactive=True)
    jpeg = gr.update(value=str(result.jpeg), interactive=True)
    return [images, png, jpeg, result.request.command_line(), status, result]


def shown_again(result: StylizeResult) -> list[Any]:
    """Return the values of `ResultPanel.outputs` for an earlier result."""
    return _result_values(result, "An earlier result of this visit. A change of the controls makes a new one.")


def _expectation(seconds: float | None) -> str:
    """Return the status line while a result is awaited."""
    return "Stylizing ..." if seconds is None else f"Stylizing, about {max(seconds, 0.1):.1f} s ..."


def _progress_status(progress: Progress, seconds: float) -> str:
    """Return the status line during an optimization with `seconds` left."""
    time_left = f"{seconds / 60:.0f} min" if seconds > 90 else f"{seconds:.0f} s"
    position = f"Step {progress.step} of {progress.steps} at {progress.size} px"
    return f"{position}, loss {progress.total:.4g}; about {time_left} left."


def _final_status(request: StylizeRequest, result: StylizeResult, stopped: bool) -> str:
    """Return the status line at the end of an optimization."""
    if not stopped:
        return "Optimized."
    if result.request == request:  # no smaller number of steps reproduces the result
        return STOPPED + COMMAND_RUNS_TO_COMPLETION
    return STOPPED
