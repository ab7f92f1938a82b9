"""The HTTP API of `adain serve --api`."""

import asyncio
import threading
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from io import BytesIO

import pytest
import torch
from PIL import Image
from starlette.testclient import TestClient

import adain
from adain.deploy.web import api, app, page
from adain.imaging import reader

LOCAL = "http://127.0.0.1:7860"


def mount(service, queue=3, api=True):
    async def mounted():
        options = app.ServerOptions("127.0.0.1", max_upload=0.01, queue=queue, api=api)
        return app.mount(page.StylizePage(service, "adain-lite"), options)

    return asyncio.run(mounted())


@pytest.fixture
def client(service):
    with TestClient(mount(service), base_url=LOCAL) as client:
        yield client


@pytest.fixture
def files(make_picture):
    return {"content": make_picture("c.png").read_bytes(), "style": make_picture("s.png", seed=1).read_bytes()}


def image(answer):
    assert answer.status_code == 200, answer.text
    return reader.load_image(Image.open(BytesIO(answer.content)))


def test_it_returns_what_the_package_returns(client, files):
    style = Image.open(BytesIO(files["style"]))
    for size, options in ((None, {}), (32, {"alpha": 0.5, "style_size": 24, "color": "coral", "detail": 0.5})):
        answer = client.post(api.ROUTE, files=files, data=options | ({"size": size} if size else {}))
        assert answer.headers["content-type"] == "image/png"
        content = reader.load(files["content"], size)
        expected = adain.stylize(content, style, "adain-lite", device="cpu", **options).pixels
        assert torch.equal(image(answer).mul(255).round().byte(), expected)


def test_transparency_and_the_format_of_the_result(client, files):
    transparent = BytesIO()
    Image.new("RGBA", (20, 16), (200, 30, 30, 100)).save(transparent, "PNG")
    files = {**files, "content": transparent.getvalue()}
    with Image.open(BytesIO(client.post(api.ROUTE, files=files).content)) as png:
        assert png.mode == "RGBA"
        assert png.getpixel((3, 3))[3] == 100
    answer = client.post(api.ROUTE, files=files, data={"format": "jpeg"})
    assert answer.headers["content-type"] == "image/jpeg"
    with Image.open(BytesIO(answer.content)) as jpeg:
        assert (jpeg.format, jpeg.size) == ("JPEG", (20, 16))


def test_a_method_with_a_built_in_style_takes_none(client, files):
    content = {"content": files["content"]}
    assert image(client.post(api.ROUTE, files=content, data={"method": "johnson"})).shape == (1, 3, 40, 48)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"method": "magic"}, "unknown method magic; choose from adain, "),
        ({"method": "gatys"}, "gatys takes minutes; use the command line or the page"),
        ({"alpha": 2}, "alpha"),
        ({"alpha": "half"}, "Expected alpha to be a number, got half"),
        ({"size": "1.5"}, "Expected size to be a whole number, got 1.5"),
        ({"size": "9" * 5000}, "Expected size to be a whole number, got " + "9" * 60 + " ..."),
        ({"photorealistic": "may\nbe"}, "Expected photorealistic to be true or false, got may be"),
        ({"color": "pink"}, "Expected color to be style, keep-luminance or coral, got pink"),
        ({"format": "gif"}, "Expected format to be png or jpeg, got gif"),
        ({"size": 0}, "size"),
        ({"size": 5000}, "limit of 10000"),
        ({"style_size": 2000}, "style_size must be at most 1024, got 2000"),
        ({"style_size": 500}, "limit of 10000"),
    ],
)
def test_wrong_fields_are_reported_in_one_line(client, files, fields, message):
    answer = client.post(api.ROUTE, files=files, data=fields)
    assert answer.status_code == 400
    assert message in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


def test_wrong_files_are_reported_in_one_line(client, files, make_picture):
    def reported(files):
        answer = client.post(api.ROUTE, files=files)
        assert answer.status_code == 400
        return answer.json()["error"]

    assert reported({"style": files["style"]}) == "Expected content, got none"
    assert "style" in reported({"content": files["content"]})
    assert reported({**files, "style": b"no picture"}).startswith("style is not a readable image (unsupported")
    assert reported({**files, "content": b"no picture"}).startswith("content is not a readable image (unsupported")
    text = client.post(api.ROUTE, files={"style": files["style"]}, data={"content": "photo.jpg"})
    assert (text.status_code, text.json()) == (400, {"error": "Expected content to be a file, got photo.jpg"})
    assert "10000 pixels" in reported({**files, "content": make_picture("large.png", (120, 90)).read_bytes()})


def test_large_requests_and_other_hosts_are_refused(client, files):
    answer = client.post(api.ROUTE, files={**files, "content": bytes(200_000)})
    assert answer.status_code == 413
    assert "send smaller files" in answer.json()["error"]
    other = client.post(api.ROUTE, files=files, headers={"Host": "example.com"})
    assert (other.status_code, other.json()) == (400, {"error": "Invalid host header"})


def test_a_result_too_large_for_the_format_is_reported_in_one_line(client, files, service):
    service.max_pixels = 100_000
    wide = BytesIO()
    Image.new("RGB", (66_000, 1)).save(wide, "PNG")
    answer = client.post(api.ROUTE, files={**files, "content": wide.getvalue()}, data={"format": "jpeg"})
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("cannot write an image as .jpeg (VipsJpeg: Maximum supported image")


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "10", "Transfer-Encoding": "chunked"}], ids=len)
def test_a_chunked_body_of_any_length_is_not_read(client, headers):
    def body():
        raise AssertionError("read")
        yield

    answer = client.post(api.ROUTE, content=body(), headers=headers)
    expected = {"error": "Expected the header Content-Length, and no Transfer-Encoding"}
    assert (answer.status_code, answer.json()) == (411, expected)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", api.ROUTE, 405), ("GET", "/api/other", 404), ("POST", "/api/other", 404), ("POST", f"{api.ROUTE}/", 404)],
)
def test_other_paths_and_methods_are_refused_as_all_errors_are(client, method, path, status):
    headers = {"Content-Length": "0"} if method == "POST" else {}
    answer = client.request(method, path, headers=headers, follow_redirects=False)
    assert answer.status_code == status
    assert answer.json() == {"error": f"Expected POST {api.ROUTE}, got {method} {path}"}
    assert answer.headers.get("Allow") == ("POST" if status == 405 else None)


def test_what_is_no_form_and_a_bug_are_reported_as_all_errors_are(service, files, monkeypatch):
    with TestClient(mount(service), base_url=LOCAL, raise_server_exceptions=False) as client:
        broken = client.post(api.ROUTE, content=b"zzz", headers={"Content-Type": "multipart/form-data"})
        assert broken.status_code == 400
        assert broken.json()["error"].startswith("Expected a form (multipart/form-data), got one that cannot be read (")
        monkeypatch.setattr(api.writer, "encode", lambda *_, **__: 1 / 0)
        failed = client.post(api.ROUTE, files=files)
    assert (failed.status_code, failed.json()) == (500, {"error": "the server failed; its output has the reason"})


def test_it_is_off_by_default(service, files):
    with TestClient(mount(service, api=False), base_url=LOCAL) as client:
        assert client.post(api.ROUTE, files=files).status_code in (404, 405)


def test_requests_beyond_the_queue_are_refused(service, files, monkeypatch):
    started, finish = threading.Event(), threading.Event()

    def slow(*_):
        started.set()
        assert finish.wait(60)
        return b"done"

    monkeypatch.setattr(api.StylizeApi, "_stylized_file", slow)
    with TestClient(mount(service, queue=1), base_url=LOCAL) as client, ThreadPoolExecutor(3) as pool:
        first = pool.submit(client.post, api.ROUTE, files=files)
        assert started.wait(60)
        others = {pool.submit(client.post, api.ROUTE, files=files) for _ in range(2)}
        refused, waiting = wait(others, timeout=60, return_when=FIRST_COMPLETED)
        finish.set()
    assert [answer.result().status_code for answer in refused] == [503]
    assert "try again later" in next(iter(refused)).result().json()["error"]
    assert [answer.result().content for answer in (first, *waiting)] == [b"done", b"done"]
