import asyncio
import os
import re
import signal
import socket
import sys
import threading
import urllib.request
from functools import partial
from pathlib import Path

import gradio as gr
import pytest
from starlette.testclient import TestClient

from adain.deploy.web import page
from adain.deploy.web.service import StylizeService, Upload
from tests.conftest import exit_code


@pytest.fixture
def studio(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    studio = StylizeService(tmp_path / "cache", "cpu", 10_000)
    yield studio
    studio.close()


@pytest.fixture
def client(studio):
    async def mount():
        return page.mount(page.build(studio, "adain-lite"), "127.0.0.1", max_upload=0.01, queue=3)

    with TestClient(asyncio.run(mount()), base_url="http://127.0.0.1:7860") as client:
        yield client


serve = partial(exit_code, "serve")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ("--port 70000", "a port is 0, for any that is free, to 65535, not 70000"),
        ("--port http", "port"),
        ("--host 192.0.2.1 --port 0", "cannot listen on 192.0.2.1, port 0 ("),
        ("--method magic", "adain-lite"),
        ("--device tpu --port 0", "device tpu cannot be used here"),
        ("--max-pixels 0", "max-pixels is above 0, not 0"),
        ("--max-upload -1", "max-upload is above 0, not -1"),
        ("--queue 0", "queue is above 0, not 0"),
    ],
)
def test_wrong_flags_are_one_line_and_exit_code_2(flags, message, capsys):
    assert serve(*flags.split()) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


def test_a_port_that_is_taken(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert serve("--port", port) == 2
    assert f"cannot listen on 127.0.0.1, port {port} (" in capsys.readouterr().err


def test_without_gradio(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "adain.deploy.web.page")
    assert serve() == 2
    assert "pip install 'adain[web]'" in capsys.readouterr().err


@pytest.fixture
def hangup():
    """SIGHUP as a terminal leaves it, even where these tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Serve the page, and call `visit` in a thread as soon as it is there; the exit code."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    start = page.uvicorn.Server.startup
    for variable in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "GRADIO_RUN_HISTORY"):
        monkeypatch.setenv(variable, "")  # so that it is put back

    def call(visit):
        async def started(server, sockets=None):
            await start(server, sockets)
            threading.Thread(target=visit).start()

        monkeypatch.setattr(page.uvicorn.Server, "startup", started)
        return serve("--port", "0", "--method", "adain-lite")

    return call


def opened(capsys):
    """The page's answer, where `adain serve` says it is."""
    address = re.search(r"^adain: (\S+) until Ctrl-C$", capsys.readouterr().out, re.MULTILINE)[1]
    return urllib.request.urlopen(address, timeout=60)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_it_serves_until_a_signal_and_leaves_nothing(name, tmp_path, capsys, served, hangup):
    seen = []

    def visit():
        try:
            folder = Path(os.environ["GRADIO_TEMP_DIR"])
            with opened(capsys) as answer:
                seen.extend([answer.headers["Content-Security-Policy"], folder.parent, any(folder.iterdir())])
        finally:
            os.kill(os.getpid(), getattr(signal, name))

    assert served(visit) == 0
    assert seen == [page.POLICY, tmp_path, True]
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
    assert client.get(f"/gradio_api/file={make_picture('private.png')}").status_code == 403


@pytest.mark.parametrize("host", ["::1", "127.0.0.2", "localhost"])
def test_every_loopback_address_refuses_other_hosts(studio, host):
    async def mount():
        return page.mount(page.build(studio, "adain-lite"), host, max_upload=0.01, queue=3)

    with TestClient(asyncio.run(mount())) as client:
        for own in ("[::1]:7860", "[::1]", "127.0.0.1:7860", "127.0.0.2", "localhost:7860"):
            assert client.get("/", headers={"Host": own}).status_code == 200, own
        for other in ("elsewhere.example", "192.0.2.1:7860", "[2001:db8::1]:7860", "[::1", "localhost.example", ""):
            assert client.get("/", headers={"Host": other}).status_code == 400, other


def test_the_page_asks_no_other_host_and_records_nothing(client):
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
def test_errors_are_one_line_by_the_visitors_names(error, message):
    with pytest.raises(gr.Error) as told, page.told(Upload("/tmp/x/photo.jpg", "<b>.jpg", (1, 1))):
        raise error
    assert told.value.message == message.replace("<b>", "&lt;b&gt;")
    assert not told.value.print_exception


def test_what_is_our_fault_is_not_hidden():
    with pytest.raises(RuntimeError, match="shapes"), page.told():
        raise RuntimeError("shapes do not fit")


@pytest.mark.parametrize(
    ("method", "shown"),
    [
        ("adain", {"style", "second", "paint", "alpha", "size"}),
        ("johnson", {"paint", "size"}),
        ("gatys", {"style", "second", "optimize", "stop", "alpha", "size", "steps"}),
    ],
)
def test_the_page_shows_what_the_method_needs(method, shown):
    names = ["style", "second", "paint", "optimize", "stop", "color", "alpha", "size", "mix", "steps"]
    parts = dict(zip(names, page._fit(method, None), strict=False))
    assert {name for name, part in parts.items() if part.get("visible")} == shown
    assert parts["color"]["choices"] == ["style", "keep-luminance", *["coral"] * (method != "johnson")]


def test_a_wheel_has_no_examples(studio, monkeypatch, tmp_path):
    async def galleries():
        return sum(type(block) is gr.Gallery for block in page.build(studio, "adain").blocks.values())

    assert asyncio.run(galleries()) == 3
    monkeypatch.setattr(page, "EXAMPLES", tmp_path)
    assert asyncio.run(galleries()) == 0
