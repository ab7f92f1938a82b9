"""The page of docs/page in a browser; `make test-browser` fetches the runtime that it loads from a CDN."""

import mimetypes
import os
import re
import sys
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import torch

import adain
from adain.imaging import photo, reader
from tests.conftest import ROOT

pytestmark = pytest.mark.browser

PAGE = ROOT / "docs" / "page"
CDN = re.compile(r"https://cdn\.jsdelivr\.net/npm/(onnxruntime-web)@[\d.]+/(dist/.*)")
NPM = Path(os.environ.get("NPM_FOLDER", Path(sys.prefix) / "npm"), "node_modules")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address():
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=PAGE))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def page(browser, address):
    """The page after it has stylized its first examples. Requests to other hosts and errors make the test fail."""
    if not (NPM / "onnxruntime-web").is_dir():
        pytest.skip(f"no onnxruntime-web in {NPM}; make test-browser fetches it")
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    foreign_requests, errors = [], []

    def answer(route):
        if found := CDN.fullmatch(route.request.url):
            path = NPM / found[1] / found[2]
            kind = mimetypes.guess_type(path.name)[0] or "text/javascript"
            route.fulfill(path=path, content_type=kind, headers={"access-control-allow-origin": "*"})
        elif route.request.url.startswith((address, "data:", "blob:")):
            route.continue_()
        else:
            foreign_requests.append(route.request.url)
            route.abort()

    context.route("**/*", answer)
    page = context.new_page()
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    page.goto(address)
    page.wait_for_selector("body[data-state=done]", timeout=60_000)
    yield page
    context.close()
    assert not foreign_requests
    assert not errors


def result(page):
    page.wait_for_selector("body[data-state=done]", timeout=60_000)
    numbers = page.evaluate(
        "(() => { const c = document.querySelector('#result'); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height); return [d.height, d.width, Array.from(d.data)]; })()"
    )
    return torch.tensor(numbers[2]).view(*numbers[:2], 4)[..., :3].permute(2, 0, 1)[None] / 255


def choose(page, kind, path):
    page.set_input_files(f".drop[data-kind={kind}] input", path)
    page.wait_for_selector(f".examples[data-kind={kind}] [aria-pressed=true]", state="detached")


@pytest.fixture
def images(examples, tmp_path):
    """A photo and a style that need no resizing, as files."""
    found = {"content": "content/chelsea.png", "style": "style/starry_night.jpg"}
    for kind, name in found.items():
        image = photo.resize(reader.read(examples / name), 220)
        image.save(tmp_path / f"{kind}.png")
    return {kind: tmp_path / f"{kind}.png" for kind in found}


def test_it_gives_the_result_of_the_package(page, images):
    for kind, path in images.items():
        choose(page, kind, path)
    for alpha in (1, 0):
        page.fill("#alpha", str(100 * alpha))
        wanted = adain.stylize(images["content"], images["style"], "adain-lite", alpha=alpha, precision="fp32")
        found = result(page)
        assert found.shape == wanted.shape
        assert (found - wanted).abs().mean() < 10 / 255, "within the error of int8"
    assert "%" in page.text_content("output")


def test_sizes_downloads_and_upright_photos(page, make_picture, tmp_path):
    from PIL import Image

    sideways = make_picture("sideways.jpg", (640, 480))
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(sideways) as image:
        image.save(sideways, exif=exif)
    choose(page, "content", sideways)
    page.select_option("#size", "256")
    assert result(page).shape == (1, 3, 256, 192)
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "sideways__starry_night.png"
    with Image.open(download.value.path()) as image:
        assert image.size == (192, 256)


def test_a_file_that_is_not_an_image_is_reported_in_one_line(page):
    before = result(page)
    dropped = "(d => { d.items.add(new File(['no picture'], 'notes.txt')); return d; })(new DataTransfer())"
    page.dispatch_event(".drop[data-kind=style]", "drop", {"dataTransfer": page.evaluate_handle(dropped)})
    page.wait_for_selector("body[data-state=failed]")
    assert page.text_content("#status").startswith("notes.txt is not an image that this browser can read.")
    page.click(".examples[data-kind=style] button:last-child")
    assert (result(page) - before).abs().mean() > 0.05, "the page still works"


def test_a_missing_connection_is_reported(browser, address):
    with browser.new_page() as page:
        page.route(CDN, lambda route: route.abort())
        page.goto(address)
        page.wait_for_selector("body[data-state=failed]")
        assert page.text_content("#status").startswith("The network could not be loaded")


@pytest.mark.parametrize("width", [1280, 390])
def test_everything_fits_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/page{width}.png", full_page=width < 800)
