"""Frames per second of the static page: `make page`, then `python -m benchmarks.static_page`; needs Chromium.

Chromium shows the page of out/page with a camera that repeats one frame of 4:3, once with as many threads as the page
takes and once with one thread, without the service worker that allows more. After `SETTLE` seconds, in which the page
chooses the size, the frames of `SECONDS` seconds are counted. Chromium shares the processor with the page.
"""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from adain.evaluation.report import markdown
from benchmarks.timing import machine

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "out" / "page"
SETTLE = 30
SECONDS = 30

COUNT_FRAMES = """
window.frames_shown = 0;
new MutationObserver(() => frames_shown++).observe(document.querySelector("#rate"), { childList: true });
"""
"""The page writes its rate once for each frame."""


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *_: Any) -> None:
        """Print nothing."""


def find_chromium() -> str | None:
    """The path of the installed Chromium, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder as any static host does; the value is the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def camera_flags(frame: Image.Image, folder: Path) -> list[str]:
    """The flags of a Chromium whose camera shows `frame`; `folder` receives the clip."""
    encoded = BytesIO()
    frame.save(encoded, "JPEG", quality=95)
    clip = folder / "clip.mjpeg"
    clip.write_bytes(3 * encoded.getvalue())
    return ["--use-fake-device-for-media-stream", f"--use-file-for-fake-video-capture={clip}"]


def measure(browser: Browser, address: str, service_workers: Any) -> dict[str, Any]:
    """A row of the table."""
    context = browser.new_context(permissions=["camera"], service_workers=service_workers)
    page = context.new_page()
    page.set_default_timeout(240_000)
    page.goto(address)
    page.wait_for_selector("body[data-state=done]")
    page.click("#camera")
    page.wait_for_selector("body[data-state=live]")
    page.evaluate(COUNT_FRAMES)
    page.wait_for_timeout(1000 * SETTLE)
    first, start = page.evaluate("frames_shown"), time.perf_counter()
    page.wait_for_timeout(1000 * SECONDS)
    rate = (page.evaluate("frames_shown") - first) / (time.perf_counter() - start)
    width, height = page.evaluate("[document.querySelector('#result').width, document.querySelector('#result').height]")
    threads = page.evaluate("document.body.dataset.threads")
    context.close()
    return {"threads": threads, "frame": f"{width} x {height} px", "frames per second": rate}


def main() -> None:
    """Print the machine, the browser, and the table."""
    path = find_chromium()
    if not path or not (PAGE / "runtime").is_dir():
        sys.exit("error: this needs Chromium and the page in out/page, which `make page` builds")
    with Image.open(ROOT / "examples" / "content" / "astronaut.png") as image:
        frame = image.convert("RGB").crop((0, 0, 480, 360))
    with TemporaryDirectory() as folder, sync_playwright() as playwright, serve(PAGE) as address:
        flags = ["--no-sandbox", *camera_flags(frame, Path(folder))]
        browser = playwright.chromium.launch(executable_path=path, args=flags)
        rows = [measure(browser, address, workers) for workers in ("allow", "block")]
        print(f"{machine()}; Chromium {browser.version.split('.')[0]}, headless\n")
        browser.close()
    print(markdown(rows), end="")


if __name__ == "__main__":
    main()
