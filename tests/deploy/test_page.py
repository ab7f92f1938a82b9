import asyncio
import base64
import importlib.util
import os
import re
import shutil
import signal
import socket
import sys
import threading
import urllib.request
from functools import partial
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import gradio as gr
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from adain.deploy.web import app, examples, image_picker, mask_painter, page
from adain.deploy.web.history import History
from adain.deploy.web.service import Upload
from tests.conftest import ROOT, exit_code


def mount(service, host):
    """The application with small limits, for one method."""

    async def mounted():
        options = app.ServerOptions(host, max_upload=0.01, queue=3)
        return app.mount(page.StylizePage(service, "adain-lite"), options)

    return asyncio.run(mounted())


@pytest.fixture
def client(service):
    with TestClient(mount(service, "127.0.0.1"), base_url="http://127.0.0.1:7860") as client:
        yield client


serve = partial(exit_code, "serve")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--port 70000", "--port must be between 0 (any free port) and 65535, got 70000"),
        ("--port http", "port"),
        ("--host 192.0.2.1 --port 0", "cannot listen on 192.0.2.1, port 0 ("),
        ("--method magic", "adain-lite"),
        ("--device tpu --port 0", "device tpu cannot be used here"),
        ("--max-pixels 0", "--max-pixels must be greater than 0, got 0"),
        ("--max-upload -1", "--max-upload must be greater than 0, got -1"),
        ("--queue 0", "--queue must be greater than 0, got 0"),
    ],
)
def test_wrong_flags_are_reported_in_one_line_with_exit_code_2(flags, message, capsys):
    assert serve(*flags.split()) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_a_taken_port_is_reported(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert serve("--port", port) == 2
    assert f"cannot listen on 127.0.0.1, port {port} (" in capsys.readouterr().err


def test_without_gradio(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    for module in ("api", "app", "history", "image_picker", "mask_painter", "middleware", "page", "uploads"):
        monkeypatch.delitem(sys.modules, f"adain.deploy.web.{module}")
    assert serve() == 2
    assert "pip install '.[web]' in the repository" in capsys.readouterr().err


@pytest.fixture
def hangup():
    """Set SIGHUP to its default handler, even if the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serve the page, and call `visit` in a thread once the server has started; returns the exit code."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    start = app.uvicorn.Server.startup
    for variable in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "GRADIO_RUN_HISTORY"):
        monkeypatch.setenv(variable, "")  # restored after the test

    def call(visit):
        async def started(server, sockets=None):
            await start(server, sockets)
            threading.Thread(target=visit).start()

        monkeypatch.setattr(app.uvicorn.Server, "startup", started)
        return serve("--port", "0", "--method", "adain-lite")

    return call


def opened(capsys):
    """Open the page at the address that `adain serve` prints; returns the response."""
    address = re.search(r"^adain: (\S+) until Ctrl-C$", capsys.readouterr().out, re.MULTILINE)[1]
    return urllib.request.urlopen(address, timeout=60)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_it_serves_until_a_signal_and_removes_its_files(name, tmp_path, capsys, served, hangup):
    seen = []

    def visit():
        try:
            folder = Path(os.environ["GRADIO_TEMP_DIR"])
            with opened(capsys) as answer:
                seen.extend([answer.headers["Content-Security-Policy"], folder.parent, any(folder.iterdir())])
        finally:
            os.kill(os.getpid(), getattr(signal, name))

    assert served(visit) == 0
    assert seen == [app.POLICY, tmp_path, True]
    assert [*tmp_path.iterdir()] == []


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_under_nohup_a_closed_terminal_does_not_end_it(capsys, served, hangup):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    seen = []

    def visit():
        try:
            os.kill(os.getpid(), signal.SIGHUP)
            with opened(capsys) as answer:
                seen.extend([answer.status, signal.getsignal(signal.SIGHUP)])
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    assert served(visit) == 0
    assert seen == [200, signal.SIG_IGN]


def test_other_hosts_large_files_and_files_of_the_computer_are_refused(client, tmp_path, make_picture):
    assert client.get("/").status_code == 200
    assert client.get("/", headers={"Host": "elsewhere.example"}).status_code == 400
    small, large = ({"files": ("a.png", b"\0" * size)} for size in (1000, 20_000))
    (path,) = client.post("/gradio_api/upload", files=small).json()
    assert Path(path).is_relative_to(tmp_path / "cache")
    refused = client.post("/gradio_api/upload", files=large)
    assert (refused.status_code, "maximum allowed size" in refused.text) == (413, True)
    refused = client.post("/gradio_api/queue/join", json={"data": ["x" * 200_000]})
    assert (refused.status_code, "send smaller files" in refused.text) == (413, True)
    assert client.get(f"/gradio_api/file={make_picture('private.png')}").status_code == 403


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Gradio uses what pandas no longer recommends
def test_requests_beyond_the_queue_are_refused(service, monkeypatch):
    started, release = threading.Event(), threading.Event()

    def optimize_until_released(*_):
        started.set()
        return release.wait(60) and gr.skip()

    monkeypatch.setattr(page.StylizePage, "on_optimize", optimize_until_released)
    application = mount(service, "127.0.0.1")
    with TestClient(application, base_url="http://127.0.0.1:7860") as client:
        try:
            config = client.get("/config").json()
            (event,) = (one for one in config["dependencies"] if one["api_name"] == "optimized")
            values = {one["id"]: one["props"].get("value") for one in config["components"]}
            data = [values[component] for component in event["inputs"]]
            request = {"fn_index": event["id"], "data": data, "session_hash": "visitor"}
            answers = [client.post("/gradio_api/queue/join", json=request)]
            assert started.wait(60), "the first request has left the queue"
            answers += [client.post("/gradio_api/queue/join", json=request) for _ in range(4)]
        finally:
            release.set()
    codes = [answer.status_code for answer in answers]
    assert codes == [200] * 4 + [503], "one may run, and three may wait"
    assert "Queue is full" in answers[4].text


@pytest.mark.parametrize("host", ["::1", "127.0.0.2", "localhost"])
def test_every_loopback_address_refuses_other_hosts(service, host):
    with TestClient(mount(service, host)) as client:
        for own in ("[::1]:7860", "[::1]", "127.0.0.1:7860", "127.0.0.2", "localhost:7860"):
            assert client.get("/", headers={"Host": own}).status_code == 200, own
        for other in ("elsewhere.example", "192.0.2.1:7860", "[2001:db8::1]:7860", "[::1", "localhost.example", ""):
            assert client.get("/", headers={"Host": other}).status_code == 400, other


def test_the_page_contacts_no_other_host_and_records_nothing(client):
    config = client.get("/config").json()
    assert config["analytics_enabled"] is False
    assert config["footer_links"] == []
    assert "fonts.googleapis.com" not in client.get("/theme.css").text


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError("/tmp/x/photo.jpg is not\n a readable image"), "<b>.jpg is not a readable image"),
        (ValueError("alpha must be between"), "alpha must be between"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "out of memory; choose a smaller size"),
        (MemoryError(), "out of memory; choose a smaller size"),
    ],
)
def test_errors_are_one_line_with_the_visitors_file_names(error, message):
    with (
        pytest.raises(gr.Error) as reported,
        image_picker.reports_errors(Upload("/tmp/x/photo.jpg", "<b>.jpg", (1, 1))),
    ):
        raise error
    assert reported.value.message == message.replace("<b>", "&lt;b&gt;")
    assert not reported.value.print_exception


def test_a_bug_is_not_hidden():
    with pytest.raises(RuntimeError, match="shapes"), image_picker.reports_errors():
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize(
    ("method", "shown"),
    [
        ("adain", {"style", "second", "stylize", "alpha", "strokes"}),
        ("johnson", {"stylize"}),
        ("gatys", {"style", "second", "optimize", "stop", "alpha", "strokes", "steps"}),
    ],
)
def test_the_page_shows_what_the_method_needs(method, shown):
    names = ["style", "second", "stylize", "optimize", "stop", "color", "alpha", "mix", "strokes", "steps"]
    *changes, note = page.method_updates(method, None)
    updates = dict(zip(names, changes, strict=True))
    assert {name for name, update in updates.items() if update.get("visible")} == shown
    assert note == page.METHOD_NOTES[method]
    assert updates["color"]["choices"] == ["style", "keep-luminance", *["coral"] * (method != "johnson")]


def test_every_method_has_a_note():
    assert page.METHOD_NOTES.keys() == page.METHODS.keys()


def blocks(service, kind, *styles):
    """The blocks of one kind of the page."""

    async def built():
        return page.StylizePage(service, "adain", styles).build().blocks.values()

    return [block for block in asyncio.run(built()) if type(block) is kind]


def test_without_examples_the_page_starts_empty(service, monkeypatch, tmp_path):
    assert len(blocks(service, gr.Gallery)) == 4, "photos, styles, second styles, and the results of the visit"
    monkeypatch.setattr(examples, "EXAMPLES", tmp_path)
    assert [gallery.elem_id for gallery in blocks(service, gr.Gallery)] == ["history"]
    assert [state.value for state in blocks(service, gr.State)][:3] == [None] * 3


def test_the_styles_of_a_folder_come_first_with_captions(service, make_picture):
    own = make_picture("my_own-style.png")
    _, styles, *_ = blocks(service, gr.Gallery, own)
    captions = [item["caption"] for item in styles.value]
    assert captions[0] == "My own style"
    assert "The Starry Night\nVincent van Gogh" in captions


def test_every_example_has_the_title_of_the_static_page():
    page_of_titles = (ROOT / "docs" / "page" / "examples.js").read_text(encoding="utf-8")
    names = {path.stem: path for folder in ("content", "style") for path in examples.images(folder)}
    entries = re.findall(r'name: "(\w+)", title: "([^"]+)"(?:, painter: "([^"]+)")?', page_of_titles)
    expected = {name: "\n".join(filter(None, words)) for name, *words in entries}
    assert {name: examples.caption(path) for name, path in names.items()} == expected
    assert len(examples.TITLES) == len(names)


def test_an_example_is_chosen_at_first_unless_it_is_too_large(service, tmp_path):
    assert [state.value for state in blocks(service, gr.State)][:2] == [None, None], "10,000 pixels at most"
    service.max_pixels = 10**7
    names = [state.value.name for state in blocks(service, gr.State)[:2]]
    assert names == [f"examples/{examples.FIRST_CONTENT}", f"examples/{examples.FIRST_STYLE}"]


def test_an_installed_package_has_its_own_examples(tmp_path):
    """The command line has the whole path, as there is no clone to be in."""
    at_top, in_package = tmp_path / "examples", tmp_path / "adain" / "examples"
    found = examples_at(tmp_path / "adain" / "deploy" / "web")
    assert at_top == found.EXAMPLES
    path = found.EXAMPLES / found.FIRST_STYLE
    assert found.command_path(path) == f"examples/{found.FIRST_STYLE}"
    in_package.mkdir()
    found = examples_at(tmp_path / "adain" / "deploy" / "web")
    assert in_package == found.EXAMPLES
    path = found.EXAMPLES / found.FIRST_STYLE
    assert found.command_path(path) == path.as_posix()
    assert found.caption(path) == "Composition VII\nWassily Kandinsky"


def examples_at(folder):
    """The module as if it were in another folder."""
    folder.mkdir(parents=True, exist_ok=True)
    copy = shutil.copy(examples.__file__, folder)
    specification = importlib.util.spec_from_file_location("copied_examples", copy)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def data_url(image):
    file = BytesIO()
    image.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def test_what_was_painted_is_the_mask():
    painting = Image.new("RGBA", (6, 4))
    assert mask_painter.painted_area("") is mask_painter.painted_area(data_url(painting)) is None
    painting.paste((99, 102, 241, 255), (0, 1, 6, 2))
    painting.putpixel((5, 3), (99, 102, 241, 128))
    mask = mask_painter.painted_area(data_url(painting))
    expected = np.zeros((4, 6))
    expected[1], expected[3, 5] = 255, 128
    assert (mask.mode, np.array_equal(mask, expected)) == ("L", True)


@pytest.mark.parametrize("painting", ["data:,", "data:image/png;base64,%", data_url(Image.new("RGBA", (641, 1)))])
def test_what_is_no_painting_is_refused(painting):
    with pytest.raises((ValueError, OSError)):
        mask_painter.painted_area(painting)


def test_the_history_lists_each_result_once_the_newest_first(service):
    async def built():
        with gr.Blocks():
            return History(gr.State(None))

    history = asyncio.run(built())
    results = [SimpleNamespace(jpeg=Path(f"{i}/photo__style.jpg"), path=Path("photo__style.png")) for i in range(20)]
    kept = []
    for result in results:
        kept, images = history.on_result(result, kept)
    assert kept == results[:-13:-1]
    assert images[0] == ("19/photo__style.jpg", "photo__style")
    unchanged = gr.skip()
    assert history.on_result(results[15], kept) == history.on_result(None, kept) == (unchanged, unchanged)


def test_a_wrong_folder_of_styles_is_reported(tmp_path, capsys):
    assert serve("--port", "0", "--styles", str(tmp_path)) == 2
    assert str(tmp_path) in capsys.readouterr().err
