"""Which files the events of the web page read."""

import asyncio
import json

import gradio as gr
import pytest
from starlette.testclient import TestClient

from adain.deploy.web import app, page

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Gradio uses what pandas no longer recommends

TYPE = {"meta": {"_type": "gradio.FileData"}}


@pytest.fixture
def client(service):
    async def mounted():
        options = app.ServerOptions("127.0.0.1", max_upload=0.01, queue=20)
        return app.mount(page.StylizePage(service, "adain-lite"), options)

    with TestClient(asyncio.run(mounted()), base_url="http://127.0.0.1:7860") as client:
        yield client


@pytest.fixture
def read(service, monkeypatch):
    """A list of all paths and URLs that would be read. None is, as reading a device would never end."""
    paths = []

    def record(path, *_, **__):
        paths.append(path)
        raise OSError("not read")

    monkeypatch.setattr(service, "open_upload", record)
    for function in ("save_file_to_cache", "async_ssrf_protected_download"):
        monkeypatch.setattr(gr.processing_utils, function, record)
    monkeypatch.setattr("gradio.routes.secure_url_stream_response", record)
    return paths


def answers(client, value):
    """Fire each event of the page that takes a value of the visitor, with this one; returns the answers by name."""
    config = client.get("/config").json()
    states = {one["id"] for one in config["components"] if one["type"] == "state"}
    names = {}
    for event in config["dependencies"]:
        if not states.issuperset(event["inputs"]):
            request = {"fn_index": event["id"], "data": [value] * len(event["inputs"]), "session_hash": "visitor"}
            joined = client.post("/gradio_api/queue/join", json=request)
            names[joined.json()["event_id"]] = event["api_name"]
    lines = client.get("/gradio_api/queue/data", params={"session_hash": "visitor"}).text.splitlines()
    messages = [json.loads(line.removeprefix("data: ")) for line in lines if line]
    return {names[one["event_id"]]: one for one in messages if one["msg"] == "process_completed"}


def test_an_upload_is_opened_by_every_picker(client, make_picture):
    files = {"files": ("a.png", make_picture("a.png").read_bytes())}
    (path,) = client.post("/gradio_api/upload", files=files).json()
    given = answers(client, {"path": path, "orig_name": "a.png", **TYPE})
    assert [given[name]["success"] for name in ("take", "take_1", "take_2")] == [True] * 3


@pytest.mark.parametrize(
    "file",
    [
        {"path": "{folder}/private.png", **TYPE},
        {"path": "{folder}/private.png"},
        {"path": "{folder}/cache/../private.png", **TYPE},
        {"path": "private.png", **TYPE},
        {"path": "/dev/zero", **TYPE},
        {"path": "\0", **TYPE},
        {"path": "https://example.com/a.png", **TYPE},
        {"path": "https://example.com/../../../../../../../../../../../..{folder}/cache/a.png", **TYPE},
        {"path": "{folder}/cache/a.png", "more": [{"path": "https://example.com/a.png", **TYPE}]},
    ],
    ids=str,
)
def test_no_event_reads_another_file_or_a_url(client, read, file, make_picture, tmp_path, capsys, monkeypatch):
    make_picture("private.png")
    monkeypatch.chdir(tmp_path)
    given = answers(client, json.loads(json.dumps(file).replace("{folder}", tmp_path.as_posix())))
    assert given.keys() == {"take", "take_1", "take_2", "painted", "_fit", "stylized", "optimized"}
    assert {one["success"] for one in given.values()} == {False}
    assert {one["output"]["error"] for one in given.values()} == {
        "Expected an uploaded file, got another path; upload the file"
    }
    assert read == []
    assert capsys.readouterr().err == ""


def test_the_server_downloads_nothing_for_a_visitor(client, read):
    for url in ("https://example.com/a.png", "http://example.com/a.png"):
        answer = client.get(f"/gradio_api/file={url}")
        assert (answer.status_code, answer.json()) == (403, {"error": "Expected the path of a file, got a URL"})
    assert read == []
