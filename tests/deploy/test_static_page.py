"""The static page that `make page` builds, in a Chromium without a network and with a camera from a clip."""

import os
import re
import time
from contextlib import ExitStack
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

import adain
from adain.imaging import photo, reader
from benchmarks import static_page
from tests.conftest import ROOT

pytestmark = pytest.mark.browser

WATCH = """
window.tasks = {};
window.streams = [];
const send = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (message) {
  tasks[message.task] = (tasks[message.task] ?? 0) + 1;
  return send.apply(this, arguments);
};
const open = MediaDevices.prototype.getUserMedia;
MediaDevices.prototype.getUserMedia = async function (wanted) {
  streams.push(await open.call(this, wanted));
  return streams.at(-1);
};
"""
"""Counts the tasks of the worker, and remembers the streams of the camera."""


@pytest.fixture(scope="module")
def serve():
    """A function that serves a folder, as any static host does, and returns the address."""
    with ExitStack() as stack:
        yield lambda folder: stack.enter_context(static_page.serve(folder))


@pytest.fixture(scope="module")
def address(serve):
    if not (static_page.PAGE / "runtime").is_dir():
        pytest.skip(f"no page in {static_page.PAGE}; make page builds it")
    return serve(static_page.PAGE)


@pytest.fixture(scope="module")
def camera_frame(tmp_path_factory):
    """What the camera sees: the left half of the astronaut, so that mirrored frames differ."""
    with Image.open(ROOT / "examples" / "content" / "astronaut.png") as image:
        frame = image.convert("RGB").crop((0, 0, 320, 240))
    frame.save(tmp_path_factory.mktemp("camera") / "frame.jpg", quality=95)
    return frame


@pytest.fixture(scope="module")
def chromium(launch_chromium, camera_frame, tmp_path_factory):
    """A Chromium that reaches only this computer, with a camera that shows `camera_frame`."""
    camera = static_page.camera_flags(camera_frame, tmp_path_factory.mktemp("camera"))
    return launch_chromium(*camera, "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")


@pytest.fixture
def visit(chromium, address):
    """A function that opens the page. Requests to other hosts and errors make the test fail."""
    contexts, foreign_requests, errors = [], [], []

    def note(request):
        if not request.url.startswith((address, "data:", "blob:")):
            foreign_requests.append(request.url)

    def open_page(**options):
        context = chromium.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        contexts.append(context)
        context.on("request", note)
        context.add_init_script(WATCH)
        page = context.new_page()
        page.set_default_timeout(240_000)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(address)
        page.wait_for_selector("body[data-state=done]")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not foreign_requests
    assert not errors


@pytest.fixture
def page(visit):
    """The page after it has stylized its first examples."""
    return visit()


def canvas(page, query):
    """The pixels of a canvas, (1, 3, H, W) in [0, 1]."""
    numbers = page.evaluate(
        "query => { const c = document.querySelector(query); const d = c.getContext('2d')"
        ".getImageData(0, 0, c.width, c.height); return [d.height, d.width, Array.from(d.data)]; }",
        query,
    )
    return torch.tensor(numbers[2]).view(*numbers[:2], 4)[..., :3].permute(2, 0, 1)[None] / 255


def result(page):
    page.wait_for_selector("body[data-state=done]")
    return canvas(page, "#result")


def wait_until(page, expression, *values):
    """Wait for a true value. Playwright's own function for this needs eval, which the page's policy forbids."""
    deadline = time.monotonic() + 240
    while not page.evaluate(expression, *values):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)


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
    for alpha, tolerance in ((1, 10), (0.5, 10), (0, 0.6)):
        page.fill("#alpha", str(100 * alpha))
        wanted = adain.stylize(images["content"], images["style"], "adain-lite", alpha=alpha, precision="fp32")
        found = result(page)
        assert found.shape == wanted.shape
        assert (found - wanted).abs().mean() < tolerance / 255, "within the error of int8"
    assert page.text_content("output") == "0%"


def test_threads_are_used_where_the_service_worker_can_isolate_the_page(visit):
    threads = "[crossOriginIsolated, document.body.dataset.threads, Math.min(navigator.hardwareConcurrency, 4)]"
    isolated, used, possible = visit().evaluate(threads)
    assert (isolated, used) == (True, str(possible))
    isolated, used, _ = visit(service_workers="block").evaluate(threads)
    assert (isolated, used) == (False, "1"), "and it works without, too"


def test_sizes_saved_files_and_upright_photos(page, make_picture, tmp_path):
    sideways = make_picture("sideways.jpg", (640, 480))
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(sideways) as image:
        image.save(sideways, exif=exif)
    choose(page, "content", sideways)
    page.select_option("#size", "256")
    assert result(page).shape == (1, 3, 256, 192)
    for button, suffix in (("Save PNG", "png"), ("Save JPEG", "jpg")):
        with page.expect_download() as download:
            page.get_by_role("button", name=button).click()
        assert download.value.suggested_filename == f"sideways__starry_night.{suffix}"
        with Image.open(download.value.path()) as image:
            assert (image.size, image.format) == ((192, 256), suffix.upper().replace("JPG", "JPEG"))


def test_a_file_that_is_not_an_image_is_reported_in_one_line(page):
    before = result(page)
    dropped = "(d => { d.items.add(new File(['no picture'], 'notes.txt')); return d; })(new DataTransfer())"
    page.dispatch_event(".drop[data-kind=style]", "drop", {"dataTransfer": page.evaluate_handle(dropped)})
    page.wait_for_selector("body[data-state=failed]")
    assert page.text_content("#status").startswith("notes.txt is not an image that this browser can read.")
    page.get_by_role("button", name="The Wreck of a Transport Ship").click()
    assert (result(page) - before).abs().mean() > 0.05, "the page still works"


def test_a_page_that_is_not_built_is_reported(chromium, serve):
    with chromium.new_page() as page:
        page.goto(serve(ROOT / "docs" / "page"))
        page.wait_for_selector("body[data-state=failed]")
        # Files are loaded side by side, so that any of them may be the first that is missing.
        assert re.match(r"The network could not be loaded \(\S+ returned status 404\)", page.text_content("#status"))


def test_the_slider_compares_with_the_photo_also_from_the_keyboard(page):
    slider = page.get_by_role("slider", name="Compare")

    def seen():
        """What is seen of the left half and of the right half, without the handle in the middle."""
        screenshot = Image.open(BytesIO(page.locator("#stage").screenshot())).convert("RGB").resize((64, 64))
        pixels = np.asarray(screenshot, np.float32) / 255
        return pixels[:20, :28], pixels[:20, 36:]

    stylized = seen()
    slider.focus()
    page.keyboard.press("End")
    original = seen()
    assert slider.get_attribute("aria-valuetext") == "100% of the photo"
    assert min(np.abs(a - b).mean() for a, b in zip(stylized, original, strict=True)) > 0.1
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    assert slider.input_value() == "50"
    left, right = seen()
    assert np.abs(left - original[0]).mean() < 0.02
    assert np.abs(right - stylized[1]).mean() < 0.02


@pytest.mark.parametrize("width", [1280, 390])
def test_everything_fits_the_window_and_can_be_touched(visit, width):
    for scheme in ("light", "dark"):
        page = visit(viewport={"width": width, "height": 844 if width < 800 else 800}, color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        for control in page.locator("button, select, .row input[type=range], .drop").all():
            box = control.bounding_box()
            assert min(box["width"], box["height"]) >= 44, control.evaluate("element => element.outerHTML")
        if folder := os.environ.get("SCREENSHOTS"):
            page.screenshot(path=f"{folder}/page-{width}-{scheme}.png", full_page=width < 800)
        page.context.close()


def start_camera(page):
    page.click("#camera")
    page.wait_for_selector("body[data-state=live]")
    wait_until(page, "document.querySelector('#rate').textContent")


def camera_is_on(page):
    return page.evaluate("streams.some(stream => stream.getTracks().some(track => track.readyState === 'live'))")


def test_the_camera_is_stylized_live(visit, camera_frame):
    page = visit(permissions=["camera"])
    tasks = page.evaluate("({...tasks})")
    start_camera(page)
    assert camera_is_on(page)
    wait_until(page, "before => tasks.stylize > before + 4", tasks["stylize"])
    assert page.evaluate("tasks.encode") == tasks["encode"], "the style code is computed once"
    print(page.text_content("figcaption p"))
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/camera.png")

    def difference(mirrored):
        found = canvas(page, "#photo")
        frame = ImageOps.mirror(camera_frame) if mirrored else camera_frame
        frame = frame.resize((found.shape[3], found.shape[2]), Image.Resampling.BILINEAR)
        return (found - torch.from_numpy(np.array(frame)).permute(2, 0, 1) / 255).abs().mean()

    assert difference(mirrored=True) < 0.05 < difference(mirrored=False)
    page.uncheck("#mirror")
    count = page.evaluate("tasks.stylize")
    wait_until(page, "before => tasks.stylize > before + 2", count)
    assert difference(mirrored=False) < 0.05 < difference(mirrored=True)

    page.get_by_role("button", name="Stop the camera").click()
    assert not camera_is_on(page)
    with page.expect_download() as download:
        page.get_by_role("button", name="Save JPEG").click()
    assert download.value.suggested_filename == "camera__starry_night.jpg"


def test_the_camera_is_released_when_the_page_is_hidden_and_when_a_photo_is_chosen(visit):
    page = visit(permissions=["camera"])
    start_camera(page)
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    assert not camera_is_on(page)
    assert "page was hidden" in page.text_content("#status")
    page.evaluate("delete document.hidden")
    start_camera(page)
    page.get_by_role("button", name="A cat").click()
    page.wait_for_selector("body[data-state=done]")
    assert not camera_is_on(page)
    assert "stylized in" in page.text_content("#status")


def test_a_camera_that_is_not_allowed_is_reported(page):
    page.click("#camera")
    page.wait_for_selector("body[data-state=failed]")
    assert page.text_content("#status").startswith("The camera was not allowed.")
    assert page.text_content("#camera") == "Use the camera"


SIMULATION = """
async ([address, timeAt192, overhead]) => {
  const { SizeController } = await import(`${address}live.js`);
  const sizes = new SizeController();
  const chosen = [];
  for (let frame = 0; frame < 120; frame++) {
    const hiccup = frame % 7 === 3 ? 2 : 1; // single slow frames do not count
    sizes.add(hiccup * (overhead + (timeAt192 - overhead) * (sizes.size / 192) ** 2));
    chosen.push(sizes.size);
  }
  return chosen;
}
"""


@pytest.mark.parametrize(
    ("time_at_192", "overhead", "size"),
    [(1000, 0, 128), (100, 0, 128), (66, 0, 192), (20, 0, 320), (30, 20, 320), (1, 0, 768)],
)
def test_the_size_is_the_largest_that_holds_the_frame_rate_and_then_stays(
    chromium, address, time_at_192, overhead, size
):
    with chromium.new_page() as page:
        page.goto(f"{address}live.js")
        chosen = page.evaluate(SIMULATION, [address, time_at_192, overhead])
    assert set(chosen[60:]) == {size}
