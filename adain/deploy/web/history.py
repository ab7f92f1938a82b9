"""The earlier results of a visit."""

from collections.abc import Callable
from typing import Any

from adain.deploy.web.image_picker import thumbnails
from adain.deploy.web.service import StylizeResult
from adain.utils.extras import require_extra

with require_extra("web", "the web page"):
    import gradio as gr

LENGTH = 12
"""How many results are listed."""


class History:
    """A folded gallery of the latest results, the newest first; a click shows one again.

    Args:
        result: The state with the `StylizeResult` that is shown.
    """

    def __init__(self, result: gr.State):
        self.result = result
        self.results = gr.State([])
        with gr.Accordion("Results of this visit", open=False, elem_id="history-section"):
            self.gallery = thumbnails("history", columns=4)

    def connect(self, outputs: list[Any], show: Callable[[StylizeResult], list[Any]]) -> None:
        """Register the events.

        Args:
            outputs: The components that show a result.
            show: Returns their values for a result.
        """

        def on_choose(results: list[StylizeResult], event: gr.SelectData) -> list[Any]:
            result = results[event.index]
            if not result.path.exists():
                raise gr.Error("The files of this result were deleted; stylize again", print_exception=False)
            return show(result)

        self.result.change(
            self.on_result,
            [self.result, self.results],
            [self.results, self.gallery],
            show_progress="hidden",
            api_name="_remember",
        )
        self.gallery.select(on_choose, self.results, outputs, show_progress="hidden", api_name="again")

    def on_result(self, result: StylizeResult | None, results: list[StylizeResult]) -> tuple[Any, Any]:
        """Add a result to the list, unless it is in it; return the list and the images of the gallery."""
        if result is None or result in results:
            return gr.skip(), gr.skip()
        latest = [result, *results][:LENGTH]
        return latest, [(str(one.jpeg), one.path.stem) for one in latest]
