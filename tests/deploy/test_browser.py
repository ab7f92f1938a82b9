"""`adain serve` in a real Chromium."""

import os
import re
import shlex
import signal
import subprocess
import sys
from contextlib import suppress
from io import BytesIO
from urllib.parse import urlparse

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import TimeoutError

from adain.cli import main
from tests.conftest import ROOT, picture

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a server with small limits; after it shuts down, no file of it may remain."""
    folder = tmp_path_factory.mktemp("server")
    code = "import sys; from adain.cli import main; sys.exit(main.main())"
    flags = ["--port", "0", "--method", "adain-lite", "--max-upload", "1", "--max-pixels", "1000000"]
    command = [sys.executable, "-c", code, "serve", *flags]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"TMPDIR": str(folder)}, **pipes) as process:
        yield next(line for line in process.stdout if line.startswith("adain:")).split()[1]
        written = [*folder.iterdir()]
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
    assert len(written) == 1, "all files are in one folder"
    assert [*folder.iterdir()] == []
    assert (process.returncode, "Traceback" in errors) == (0, False)


@pytest.fixture
def visit(browser, server):
    """A function that opens the page for another visitor, who first sees an example.

    No page may send a request to another host.
    """
    contexts, hosts = [], set()

    def visit(**options):
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(60_000)
        page.on("request", lambda request: hosts.add(urlparse(request.url).netloc))
        page.goto(server)
        command(page, "summer_palace.jpg")
        return page

    yield visit
    for context in contexts:
        context.close()
    assert hosts - {""} == {urlparse(server).netloc}, "'' stands for data: and blob: URLs"


@pytest.fixture
def files(tmp_path):
    """A photo and a style."""
    return picture(tmp_path / "photo of a #1.png", (120, 100), 1), picture(tmp_path / "a style.jpg", (90, 90), 2)


def give(page, photo, style):
    """Upload both, at a small size."""
    set_size(page, 64)
    drop(page, "photo", photo)
    drop(page, "style", style)


def drop(page, box, path):
    """Upload a file; try again if Gradio redrew the box at the same moment and lost the upload."""
    for _ in range(4):
        page.set_input_files(f"#{box} input[type=file]", path)
        with suppress(TimeoutError):
            return page.locator(f"#{box} img").wait_for(timeout=15_000)
    raise AssertionError(f"{path} never arrived")


def set_size(page, size):
    page.fill("#size input[type=number]", str(size))
    page.press("#size input[type=number]", "Enter")


def choose(page, label, value):
    page.click(f"#{label} input")
    page.get_by_role("option", name=value, exact=True).click()


def shown(page, before=None):
    """Wait for a result at an address other than `before`; returns its bytes and its address.

    The first image of the slider is the photo, the last one is the result.
    """
    changed = (
        "before => { const i = [...document.querySelectorAll('#result img')].at(-1);"
        " return i && i.src !== before && i.complete }"
    )
    page.wait_for_function(changed, arg=before)
    address = page.locator("#result img").last.get_attribute("src")
    return page.request.get(address).body(), address


def command(page, *parts):
    """Wait until the command line contains these parts; returns it."""
    has = "parts => parts.every(part => document.querySelector('#command textarea')?.value.includes(part))"
    page.wait_for_function(has, arg=parts)
    return page.input_value("#command textarea")


def values(data):
    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_upload_move_the_slider_see_the_result_change_and_download_it(visit, files, tmp_path, monkeypatch):
    page = visit()
    give(page, *files)
    command(page, "photo of a #1.png", "a style.jpg", "--size 64")
    first, address = shown(page)
    box = page.locator("#alpha input[type=range]").bounding_box()
    page.mouse.click(box["x"] + 0.3 * box["width"], box["y"] + box["height"] / 2)
    second, _ = shown(page, address)
    assert values(first).shape == values(second).shape == (64, 77, 3)
    assert np.abs(values(first) - values(second)).mean() > 1
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "photo of a #1__a style.png"
    downloaded = download.value.path().read_bytes()
    assert downloaded == second

    words = shlex.split(command(page, "--alpha 0.3"))
    monkeypatch.chdir(tmp_path)
    assert words[:2] == ["adain", "stylize"]
    assert main.main([*words[1:], "--quiet"]) == 0
    again = (tmp_path / download.value.suggested_filename).read_bytes()
    assert np.abs(values(again) - values(downloaded)).max() <= 1, "equal up to rounding"


def test_examples_a_second_style_and_a_method_without_a_style_input(visit):
    page = visit()
    set_size(page, 64)
    page.click("#second-style-section > button")
    for name in ("photo", "style", "second-style"):
        page.locator(f"#{name}-gallery button").first.click()
    line = command(page, "examples/content/astronaut.png", "--style-weight 0.5 0.5")
    assert line.count("examples/style/composition_vii.jpg") == 2
    page.locator("#mix input[type=range]").press("ArrowRight")
    command(page, "--style-weight 0.45 0.55")
    choose(page, "color", "keep-luminance")
    command(page, "--color keep-luminance")
    choose(page, "method", "johnson")
    assert "--style" not in command(page, "--method johnson")
    page.wait_for_selector("#style", state="hidden")
    assert not page.is_visible("#alpha")
    assert "only the style that it was trained on" in page.inner_text("#note")


def test_paint_where_the_second_style_goes_and_look_at_an_earlier_result(visit, tmp_path, monkeypatch):
    page = visit()
    set_size(page, 64)
    page.click("#second-style-section > button")
    page.locator("#second-style-gallery button").nth(1).click()
    command(page, "--style-weight 0.5 0.5", "--size 64")
    mixed, address = shown(page)
    canvas = page.locator("#mask canvas")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.5 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.5 * box["height"], steps=8)
    page.mouse.up()
    command(page, "--mask mask.png", "--feather 4")
    painted, _ = shown(page, address)
    assert np.abs(values(painted) - values(mixed)).mean() > 1
    with page.expect_download() as download:
        page.click("#download-mask")
    mask = values(download.value.path().read_bytes())
    height, width = mask.shape[:2]
    assert mask[height // 2, width // 2].min() == 255
    assert mask[:, : width // 8].max() == 0
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/mask.png", full_page=True)

    page.click("#history-section > button")
    page.locator("#history button").nth(1).click()
    page.get_by_text("An earlier result of this visit.").wait_for()
    command(page, "--style-weight 0.5 0.5")
    assert shown(page, None)[0] == mixed


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("no picture.png", b"no picture", "no picture.png is not a readable image"),
        ("notes.txt", b"no picture", "notes.txt is not a readable image|Invalid file type"),
        ("large.png", b"\x89PNG" + bytes(2**20), "exceed|maximum allowed size"),
        ("wide.png", (1001, 1000), "wide.png is not a readable image (1001 x 1000 is over the limit"),
    ],
)
def test_wrong_and_too_large_uploads_are_reported(visit, files, tmp_path, name, data, message):
    if isinstance(data, tuple):
        picture(tmp_path / name, data)
    else:
        (tmp_path / name).write_bytes(data)
    page = visit()
    page.set_input_files("#photo input[type=file]", tmp_path / name)
    words = [re.escape(part) for part in message.split("|")]
    toast = page.get_by_test_id("toast-body").filter(has_text=re.compile("|".join(words)))
    toast.first.wait_for()
    if name != "notes.txt":  # the browser does not send it, and the page keeps the image before
        page.locator("#photo img").wait_for(state="detached")
    give(page, *files)
    shown(page)


def test_two_visitors_at_once(visit, files, tmp_path):
    photo, style = files
    other = picture(tmp_path / "other.png", (110, 100), 3)
    one, two = visit(), visit()
    give(one, photo, style)
    give(two, other, style)
    command(one, "photo of a #1.png", "--size 64")
    command(two, "other.png", "--size 64")
    assert values(shown(one)[0]).shape == (64, 77, 3)
    assert values(shown(two)[0]).shape == (64, 70, 3)


def test_an_optimization_shows_its_progress_and_stops(visit, files):
    page = visit()
    choose(page, "method", "gatys")
    give(page, *files)
    page.click("#optimize")
    page.get_by_text(re.compile(r"Step \d+ of \d+ at 64 px, loss .* left\.")).wait_for()
    shown(page)
    page.click("#stop")
    page.get_by_text("Stopped. This is the best result so far.").wait_for()
    page.wait_for_selector("#result img[src$='.png']")
    stopped, address = shown(page)
    assert address.endswith(".png")
    assert values(stopped).shape == (64, 77, 3)
    steps = int(re.search(r"--gatys.steps (\d+)", command(page, "--method gatys"))[1])
    assert 0 < steps < 200
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.path().read_bytes() == stopped


def test_it_fits_on_a_phone(visit, files):
    page = visit(viewport={"width": 360, "height": 740})
    give(page, *files)
    shown(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.evaluate("scrollTo(0, 0)")
    result, controls = page.locator("#result").bounding_box(), page.locator("#photo").bounding_box()
    assert result["y"] + result["height"] < controls["y"] < 740, "the result is above the controls, and both are seen"
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/phone.png")


@pytest.mark.parametrize(("width", "smallest"), [(1280, 10), (360, 12)])
def test_captions_are_whole(visit, width, smallest):
    page = visit(viewport={"width": width, "height": 800})
    captions = page.locator("#photo-gallery .caption-label, #style-gallery .caption-label")
    measured = captions.evaluate_all(
        "all => all.map(e => [e.innerText, e.scrollWidth <= e.clientWidth && e.scrollHeight <= e.clientHeight,"
        " e.getBoundingClientRect().bottom <= e.closest('.grid-wrap').getBoundingClientRect().bottom,"
        " parseFloat(getComputedStyle(e).fontSize) >= " + str(smallest) + "])"
    )
    texts = [text for text, *_ in measured]
    assert len(texts) == 10
    assert {"A cat", "The Wreck of a Transport Ship\nJ. M. W. Turner"} <= {*texts}
    assert all(all(checks) for _, *checks in measured), measured
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=f"{folder}/captions-{width}.png", full_page=True)


def test_a_screenshot_for_the_readme(visit, tmp_path, request):
    target = request.config.getoption("--screenshot") or tmp_path / "web.webp"
    page = visit()
    page.locator("#photo-gallery button").nth(1).click()
    page.locator("#style-gallery button").nth(2).click()
    shown(page)
    command(page, "chelsea.png", "starry_night.jpg")
    page.mouse.move(0, 0)
    page.wait_for_timeout(500)  # until animations have ended
    with Image.open(BytesIO(page.screenshot())) as image:
        image.convert("RGB").save(target, quality=85, method=6)
        assert image.size == (1280, 800)
    assert page.evaluate("document.documentElement.scrollHeight") <= 800, "fits on one screen"
    assert os.path.getsize(target) < 150_000
