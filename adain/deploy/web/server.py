"""The process that serves the web page: where it listens, where it may write, how it ends."""

import asyncio
import os
import signal
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from adain.deploy.web.service import StylizeService
from adain.methods import METHODS
from adain.utils.checks import check_choice


def serve(host: str, port: int, method: str, device: str, max_pixels: int, max_upload: float, queue: int) -> None:
    """Serve the page until Ctrl-C or SIGTERM; arguments as the command line has them.

    Raises:
        ValueError: an argument out of range.
        OSError: a host or a port that cannot be listened on.
    """
    check_choice("method", method, METHODS)
    for name, value in {"max-pixels": max_pixels, "max-upload": max_upload, "queue": queue}.items():
        if not value > 0:
            raise ValueError(f"{name} is above 0, not {value}")
    if not 0 <= port < 2**16:
        raise ValueError(f"a port is 0, for any that is free, to 65535, not {port}")
    with _listening(host, port) as listener, _ending(), _folder() as folder:
        from adain.deploy.web.page import serving

        studio = StylizeService(folder, device, max_pixels)
        try:
            studio.method(method)  # what cannot work is told now, and the first visitor need not wait
            asyncio.run(serving(studio, method, listener, host, max_upload, queue))
        finally:
            studio.close()


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
    except OSError as error:
        reason = str(error.strerror).split(" (")[0]
        raise OSError(f"cannot listen on {host}, port {port} ({reason}); choose another --host or --port") from error
    with listener:
        yield listener


@contextmanager
def _ending() -> Iterator[None]:
    """Ctrl-C, SIGTERM and a closed terminal end the block, so that what it must clean is cleaned."""
    handlers: dict[str, Any] = {"SIGTERM": signal.default_int_handler}
    handlers["SIGHUP"] = lambda *_: signal.raise_signal(signal.SIGTERM)
    numbers = {getattr(signal, name): handler for name, handler in handlers.items() if hasattr(signal, name)}
    # What nohup has set to be ignored stays so.
    before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, numbers[number])
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _folder() -> Iterator[str]:
    """The one folder for all that is written, removed in the end. Gradio must be imported within, for it looks once."""
    before = tempfile.tempdir
    with tempfile.TemporaryDirectory(prefix="adain-") as folder:
        tempfile.tempdir = folder
        os.environ |= {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_RUN_HISTORY": "False"}
        try:
            yield folder
        finally:
            tempfile.tempdir = before
