"""The HTTP API of `adain serve --api`: a POST to `/api/stylize` returns a stylized image."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from adain.deploy.web.service import StylizeService
from adain.imaging import reader, writer
from adain.imaging.options import ReadOptions
from adain.inference import pipeline
from adain.inference.options import Color
from adain.inference.style_encoding import LARGEST_STYLE
from adain.methods import METHODS
from adain.utils.checks import check_choice
from adain.utils.errors import INPUT_ERRORS, one_line
from adain.utils.extras import require_extra

with require_extra("web", "the HTTP API"):
    from fastapi import FastAPI, File, Form, Request, UploadFile
    from fastapi.exceptions import RequestValidationError
    from starlette.concurrency import run_in_threadpool
    from starlette.exceptions import HTTPException
    from starlette.responses import JSONResponse, Response

FOLDER = "/api"
ROUTE = f"{FOLDER}/stylize"
EXPECTED = {
    "float_parsing": "a number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "bool_parsing": "true or false",
    "value_error": "a file",
}
"""What a field should be, by pydantic's type of the error."""

LONGEST_VALUE = 60
"""Characters of a wrong value in an error."""


@dataclass(frozen=True)
class StylizeForm:
    """The images and options of a request.

    Attributes:
        content: File of the content.
        style: File of the style; none for a method with a built-in style.
        options: What `adain.stylize` takes: alpha, color, style_size, detail, and photorealistic.
    """

    content: bytes
    style: bytes | None
    method: str
    size: int | None
    format: str
    options: dict[str, Any]


class StylizeApi:
    """Stylizes the images of requests, one after another.

    Args:
        service: The service of the page, whose methods and limit of pixels are used.
        method: Method of requests that name none.
        queue: Largest number of waiting requests.
    """

    def __init__(self, service: StylizeService, method: str, queue: int):
        self.service = service
        self.method = method
        self.queue = queue
        self.waiting = 0
        self.turn = asyncio.Semaphore(1)

    def add_to(self, app: FastAPI) -> None:
        """Mount an application of its own, so that the requests of the page do not pass through its checks."""
        api = FastAPI(openapi_url=None, redirect_slashes=False)
        api.add_api_route(ROUTE.removeprefix(FOLDER), self.stylize, methods=["POST"])
        api.add_exception_handler(RequestValidationError, _invalid_form)
        api.add_exception_handler(HTTPException, _refused)
        api.add_exception_handler(Exception, _bug)
        app.mount(FOLDER, api)

    async def stylize(
        self,
        content: Annotated[UploadFile, File()],
        style: Annotated[UploadFile | None, File()] = None,
        method: Annotated[str | None, Form()] = None,
        size: Annotated[int | None, Form()] = None,
        style_size: Annotated[int | None, Form()] = None,
        alpha: Annotated[float | None, Form()] = None,
        color: Annotated[Color | None, Form()] = None,
        detail: Annotated[float | None, Form()] = None,
        photorealistic: Annotated[bool | None, Form()] = None,
        format: Annotated[Literal["png", "jpeg"], Form()] = "png",
    ) -> Response:
        """Return the stylized image as a file, or an error with status 400, or 503 if too many requests wait."""
        options = {
            "style_size": style_size,
            "alpha": alpha,
            "color": color,
            "detail": detail,
            "photorealistic": photorealistic,
        }
        form = StylizeForm(
            await content.read(),
            await style.read() if style else None,
            method or self.method,
            size,
            format,
            {name: value for name, value in options.items() if value is not None},
        )
        if self.waiting >= self.queue:
            return _error(503, f"{self.waiting} requests are waiting; try again later")
        self.waiting += 1
        try:
            await self.turn.acquire()
        finally:  # also if the client has left in the meantime
            self.waiting -= 1
        try:
            data = await run_in_threadpool(self._stylized_file, form)
        except INPUT_ERRORS as error:
            return _error(400, one_line(error, "choose a smaller size"))
        finally:
            self.turn.release()
        return Response(data, media_type=f"image/{form.format}")

    def _stylized_file(self, form: StylizeForm) -> bytes:
        """Return the result as the bytes of a file."""
        check_choice("method", form.method, METHODS)
        if METHODS[form.method].iterative:
            raise ValueError(f"{form.method} takes minutes; use the command line or the page")
        style_size = form.options.get("style_size", LARGEST_STYLE)
        if style_size > LARGEST_STYLE:
            raise ValueError(f"style_size must be at most {LARGEST_STYLE}, got {style_size}")
        read_options = ReadOptions(self.service.max_pixels)
        with _named("content"):
            content = reader.load(form.content, form.size, read_options)
        style = None
        if form.style is not None:
            with _named("style"):
                style = reader.read(form.style, options=read_options)
        method = self.service.load_method(form.method)
        stylized = pipeline.stylize(content, style, method, read_options=read_options, **form.options)
        return writer.encode(stylized.pixels, f".{form.format}", like=stylized)


@contextmanager
def _named(field: str) -> Iterator[None]:
    """Name the field in errors about its image, whose file has no name."""
    try:
        yield
    except OSError as error:
        raise OSError(f"{field} {str(error).removeprefix('image ')}") from error


def _error(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status_code=status)


def _invalid_form(_: Request, error: Exception) -> Response:
    """Answer with status 400 and a line for the first field of a form that is wrong."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    field = first["loc"][-1]
    if first["type"] == "missing":
        return _error(400, f"Expected {field}, got none")
    if first["type"] == "literal_error":
        expected = first["ctx"]["expected"].replace("'", "")
    else:
        expected = EXPECTED.get(first["type"], "valid")
    return _error(400, f"Expected {field} to be {expected}, got {_shown(first['input'])}")


def _shown(value: Any) -> str:
    """Format a wrong value on one line, as it is shown in an error."""
    line = " ".join(str(value).split()) or "nothing"
    return line if len(line) <= LONGEST_VALUE else f"{line[:LONGEST_VALUE]} ..."


def _refused(request: Request, error: Exception) -> Response:
    """Answer to another path or method, or to a form that cannot be read."""
    assert isinstance(error, HTTPException)
    if error.status_code in (404, 405):
        message = f"Expected POST {ROUTE}, got {request.method} {request.url.path}"
    else:
        message = f"Expected a form (multipart/form-data), got one that cannot be read ({error.detail.rstrip('.')})"
    answer = _error(error.status_code, message)
    answer.headers.update(error.headers or {})
    return answer


def _bug(*_: Any) -> Response:
    """Answer to a request that fails for another reason, which the server prints."""
    return _error(500, "the server failed; its output has the reason")
