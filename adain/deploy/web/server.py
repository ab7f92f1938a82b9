"""The process that serves the web page: the socket it listens on, the folder it writes to, and how it shuts down."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adain.deploy.web.service import StylizeService
from adain.imaging import listing
from adain.methods import METHODS
from adain.utils.checks import check_choice


def serve(
    host: str,
    port: int,
    method: str,
    device: str,
    max_pixels: int,
    max_upload: float,
    queue: int,
    styles: str | Path | None = None,
    api: bool = False,
) -> None:
    """Serve the web page until Ctrl-C or SIGTERM.

    Args:
        host: Name or address to listen on.
        port: Port to listen on; 0 chooses a free one.
        method: Name of the method that is selected first.
        device: As `adain.prepare` takes it.
        max_pixels: The largest number of pixels of an upload and of a result.
        max_upload: The largest size of an uploaded file in MiB.
        queue: The largest number of waiting requests.
        styles: Folder of styles to choose from, besides the examples.
        api: Whether to serve the HTTP API, too.

    Raises:
        ValueError: An argument is out of range, or the folder has no images.
        OSError: The host or port is not available, or there is no such folder.
    """
    check_choice("method", method, METHODS)
    for name, value in {"max-pixels": max_pixels, "max-upload": max_upload, "queue": queue}.items():
        if not value > 0:
            raise ValueError(f"--{name} must be greater than 0, got {value}")
    if not 0 <= port < 2**16:
        raise ValueError(f"--port must be between 0 (any free port) and 65535, got {port}")
    gallery = listing.files(Path(styles)) if styles else []
    with _listen(host, port) as listener, _end_on_signals(), _temporary_folder() as folder:
        from adain.deploy.web.app import ServerOptions, serve_page
        from adain.deploy.web.page import StylizePage

        service = StylizeService(folder, device, max_pixels)
        try:
            # Load the method now: errors are reported at the start, and the first visitor does not wait.
            service.load_method(method)
            page = StylizePage(service, method, gallery)
            asyncio.run(serve_page(page, listener, ServerOptions(host, max_upload, queue, api)))
        finally:
            service.close()


@contextmanager
def _listen(host: str, port: int) -> Iterator[socket.socket]:
    """Open a socket that listens on `host` and `port`; close it on exit."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = str(error.strerror).split(" (")[0]
        raise OSError(f"cannot listen on {host}, port {port} ({reason}); choose another --host or --port") from error
    with listener:
        yield listener


@contextmanager
def _end_on_signals() -> Iterator[None]:
    """End the block on Ctrl-C, SIGTERM, or a closed terminal (SIGHUP), so that it can clean up."""
    handlers: dict[str, Any] = {
        "SIGTERM": signal.default_int_handler,
        "SIGHUP": lambda *_: signal.raise_signal(signal.SIGTERM),
    }
    previous = {}
    for name, handler in handlers.items():
        if not hasattr(signal, name):  # Windows has no SIGHUP
            continue
        number = getattr(signal, name)
        if signal.getsignal(number) == signal.SIG_IGN:  # set by nohup, which must keep its effect
            continue
        previous[number] = signal.signal(number, handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _temporary_folder() -> Iterator[str]:
    """Create the one folder for all files of the server, and remove it on exit.

    Gradio must be imported inside the block, as it reads these environment variables once, on import.
    """
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="adain-") as folder:
        tempfile.tempdir = folder
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False"}
        try:
            yield folder
        finally:
            tempfile.tempdir = before
