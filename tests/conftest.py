import os
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adain.cli import main
from adain.evaluation import evaluate
from adain.imaging import reader
from adain.inference import preparation

os.environ["HF_DATASETS_OFFLINE"] = os.environ["HF_HUB_OFFLINE"] = "1"
THREADS = max(
    1, 2 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
)  # two in total, for machines with two cores
os.environ["OMP_NUM_THREADS"] = str(THREADS)  # for subprocesses of the tests
torch.set_num_threads(THREADS)

ROOT = Path(__file__).parents[1]

QUICK = {"gatys": {"steps": 2}}
"""Settings that make slow methods fast enough for tests."""


def pytest_addoption(parser):
    parser.addoption(
        "--screenshot", metavar="PNG", help="file for the screenshot of the web page that test_browser.py takes"
    )


def pytest_collection_modifyitems(items):
    for item in items:
        if item.get_closest_marker("gpu") and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="there is no CUDA device"))


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def examples():
    return ROOT / "examples"


def exit_code(*words):
    """Run the `adain` command and return its exit code."""
    try:
        return main.main([*map(str, words)])
    except SystemExit as stop:
        return stop.code


def picture(path, size=(48, 40), seed=0):
    """Write a colored noise image with some structure to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path)
    return path


def picture_of_bytes(path, **options):
    """As `picture`, for a name that is not UTF-8, which Pillow does not write."""
    picture(path.with_name("new.png"), **options).rename(path)
    return path


def picture_folders(base, count):
    """Make a folder of contents and a folder of styles in `base`, with `count` images of different widths each."""
    for side, key in (("content", 0), ("style", 100)):
        for i in range(count):
            picture(base / side / f"{i}.png", (44 + i, 44), key + i)
    return base / "content", base / "style"


@pytest.fixture(scope="session")
def lite():
    return preparation.prepare("adain-lite", "cpu", "fp32")


@pytest.fixture(scope="session")
def painting():
    return reader.load_picture(ROOT / "examples" / "style" / "starry_night.jpg", 64)


@pytest.fixture
def no_memory_probe(monkeypatch):
    """`evaluate` does not start a process for each method to measure its memory."""
    monkeypatch.setattr("adain.evaluation.evaluate.peak_memory", lambda *_: None)


@pytest.fixture
def small_metrics(monkeypatch):
    """`sweep` computes the metrics of small copies of its results."""
    monkeypatch.setattr(evaluate, "evaluate", partial(evaluate.evaluate, size=64))


@pytest.fixture
def make_picture(tmp_path):
    return lambda name="picture.png", size=(48, 40), seed=0: picture(tmp_path / name, size, seed)


@pytest.fixture
def folders(tmp_path):
    """Two nested folders of 14 small images each, with a text file and a broken image among them."""
    for side, key in (("content", 0), ("style", 100)):
        for i in range(14):
            picture(tmp_path / side / f"genre{i % 2}" / f"{i}.png", (40 + i, 44), key + i)
        (tmp_path / side / "notes.txt").write_text("not a picture")
        (tmp_path / side / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    return tmp_path / "content", tmp_path / "style"


SIZES = {"a": (40, 32), "cats/b": (32, 48), "cats/c": (40, 32), "dogs/b": (40, 32)}
"""Names and sizes of the content images of `tree`."""


@pytest.fixture
def tree(tmp_path):
    """Four content images in subfolders, three style images, and an output folder."""
    for i, (name, size) in enumerate(SIZES.items()):
        picture(tmp_path / "content" / f"{name}.png", size, i)
    for i, name in enumerate("xyz"):
        picture(tmp_path / "style" / f"{name}.png", (40, 36 + i), 9 + i)
    return tmp_path / "content", tmp_path / "style", tmp_path / "out"


def wait_for(condition, process, seconds=240):
    """Wait until `condition` is true and return its value. Fail if the process ends before that, or hangs."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        late = time.monotonic() > deadline
        if late:
            process.kill()
        assert process.poll() is None and not late, process.communicate()
        time.sleep(0.05)
    return found


def write_csv(path, *rows):
    path.write_text("".join(f"{row}\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def launch_chromium():
    """A function that starts Debian's headless Chromium, with more flags, as a Playwright `Browser`."""
    from playwright.sync_api import sync_playwright

    from benchmarks.static_page import find_chromium

    path = find_chromium()
    if not path:
        pytest.fail("the tests marked browser need Chromium: apt-get install chromium")
    quiet = "background-networking", "component-update", "sync", "gpu", "quic"
    flags = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    with sync_playwright() as playwright:
        browsers = []

        def launch(*more_flags):
            browsers.append(playwright.chromium.launch(executable_path=path, args=[*flags, *more_flags]))
            return browsers[-1]

        yield launch
        for browser in browsers:
            browser.close()


@pytest.fixture(scope="session")
def browser(launch_chromium):
    """A Chromium in which each test opens its own contexts."""
    return launch_chromium()
