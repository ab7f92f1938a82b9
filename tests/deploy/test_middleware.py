"""Requests of other websites are refused, by the page and by the HTTP API."""

import asyncio

import pytest
from starlette.testclient import TestClient

from adain.deploy.web import api, app, page
from adain.deploy.web.service import StylizeService

UPLOAD = "/gradio_api/upload"
FILES = {"files": ("a.png", b"a")}


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    """A client of the page with the HTTP API, as on a server that other computers can open."""
    folder = tmp_path_factory.mktemp("cache")
    service = StylizeService(folder, "cpu", 10_000)

    async def mounted():
        options = app.ServerOptions("0.0.0.0", max_upload=0.01, queue=3, api=True)
        return app.mount(page.StylizePage(service, "adain-lite"), options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        with TestClient(asyncio.run(mounted())) as client:
            yield client
    service.close()


def statuses(client, host, headers):
    """The status of an upload, of an empty request to the API, and of the configuration, which is read by GET."""
    headers = {"Host": host, **headers}
    uploaded = client.post(UPLOAD, files=FILES, headers=headers)
    return [
        uploaded.status_code,
        client.post(api.ROUTE, files={"style": b"a"}, headers=headers).status_code,
        client.get("/config", headers=headers).status_code,
    ]


@pytest.mark.parametrize(
    ("host", "headers"),
    [
        ("127.0.0.1:7860", {}),
        ("127.0.0.1:7860", {"Origin": "http://127.0.0.1:7860"}),
        ("[::1]:7860", {"Origin": "http://[::1]:7860"}),
        ("192.0.2.1:8000", {"Origin": "http://192.0.2.1:8000"}),
        ("photos.example", {"Origin": "https://photos.example"}),
        # A reverse proxy with HTTPS that sends its own name for the server.
        ("127.0.0.1:7860", {"Origin": "https://photos.example", "Sec-Fetch-Site": "same-origin"}),
        # A link on another website.
        ("127.0.0.1:7860", {"Sec-Fetch-Site": "cross-site"}),
    ],
    ids=str,
)
def test_requests_of_the_page_and_of_programs_are_answered(client, host, headers):
    assert statuses(client, host, headers) == [200, 400, 200], "400 as the request to the API has no content"


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://other.example"},
        {"Origin": "https://other.example", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:7860", "Sec-Fetch-Site": "cross-site"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "http://127.0.0.1:3000", "Sec-Fetch-Site": "same-site"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://[::1"},
    ],
    ids=str,
)
@pytest.mark.parametrize("host", ["127.0.0.1:7860", "[::1]:7860", "192.0.2.1:8000"])
def test_requests_of_other_websites_are_refused(client, host, headers):
    assert statuses(client, host, headers) == [403] * 3


def test_the_refusal_is_one_line(client):
    answer = client.post(api.ROUTE, headers={"Origin": "https://other.example"})
    message = "Expected a request of this page or of a program, got one of https://other.example"
    assert answer.json() == {"error": message}
