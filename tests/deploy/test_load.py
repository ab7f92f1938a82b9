"""`adain serve` under load, in a process of its own: answers or refusals, memory that stays flat, no files left."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import pyvips

from tests.conftest import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory of a process of Linux"),
]

QUEUE = 20
SIDE = 64


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The process of all tests of this file, and its address."""
    folder = tmp_path_factory.mktemp("temporary")
    code = "import sys; from adain.cli.main import main; sys.exit(main())"
    flags = ["--port", "0", "--method", "adain-lite", "--device", "cpu", "--queue", str(QUEUE)]
    errors_file = tmp_path_factory.mktemp("messages") / "errors.txt"
    with (
        errors_file.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", code, "serve", *flags],
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(folder)},
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        address = re.match(r"adain: (\S+)/ until", process.stdout.readline())[1]
        yield process, address
        process.terminate()
        assert process.wait(60) == 0
    assert not errors_file.read_text(), "no traceback, whatever visitors do"
    assert not list(folder.iterdir()), "all temporary files are deleted"


class Visitor:
    """A browser that has the page open; a context manager."""

    def __init__(self, address, name):
        self.client = httpx.Client(base_url=address, timeout=300)
        self.name = name
        config = self.client.get("/config").json()
        self.events = {event["api_name"]: event for event in config["dependencies"] if event["api_name"]}
        self.values = {one["id"]: one["props"].get("value") for one in config["components"]}
        self.elements = {one["props"].get("elem_id"): one["id"] for one in config["components"]}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.client.close()

    def call(self, name, **changes):
        """Fire an event with some components changed; returns the data of its answer, or the reason of a refusal."""
        event = self.events[name]
        values = {**self.values, **{self.elements[element]: value for element, value in changes.items()}}
        data = [values[component] for component in event["inputs"]]
        request = {"fn_index": event["id"], "data": data, "session_hash": self.name}
        joined = self.client.post("/gradio_api/queue/join", json=request)
        if joined.status_code == 503:
            return "queue full"
        joined.raise_for_status()
        with self.client.stream("GET", "/gradio_api/queue/data", params={"session_hash": self.name}) as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data: ") or "{}")
                if message.get("event_id") == joined.json()["event_id"] and message["msg"] == "process_completed":
                    assert message["success"], message
                    return message["output"]["data"]
        raise AssertionError("the stream ended without an answer")

    def upload(self, event, element, path):
        files = {"files": (path.name, path.read_bytes())}
        (stored,) = self.client.post("/gradio_api/upload", files=files).raise_for_status().json()
        file = {"path": stored, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}
        return self.call(event, **{element: file})

    def open_images(self, images):
        answers = [self.upload("take", "photo", images[0]), self.upload("take_1", "style", images[1])]
        return "queue full" if "queue full" in answers else "opened"

    def stylize(self, alpha=1.0):
        answer = self.call("stylized", alpha=alpha, size=SIDE)
        if answer == "queue full":
            return answer
        _, after = answer[0]
        result = self.client.get(f"/gradio_api/file={after['path']}").raise_for_status().content
        image = pyvips.Image.new_from_buffer(result, "")
        assert min(image.width, image.height) == SIDE
        return "stylized"


@pytest.fixture
def images(make_picture):
    return [make_picture("photo.png", (80, 64)), make_picture("painting.png", (80, 64), seed=1)]


def resident_mib(process):
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) / 1024


def test_a_hundred_visitors_at_once_get_answers_or_refusals(server, images):
    def visit(number):
        with Visitor(server[1], f"visitor-{number}") as visitor:
            opened = visitor.open_images(images)
            return visitor.stylize() if opened == "opened" else opened

    with ThreadPoolExecutor(100) as pool:
        outcomes = Counter(pool.map(visit, range(100)))
    assert outcomes.keys() <= {"stylized", "queue full"}
    # A visitor queues three times, for two images and for the result, and may be refused each time.
    assert outcomes["stylized"] >= QUEUE // 2
    with Visitor(server[1], "afterward") as visitor:
        assert visitor.open_images(images) == "opened"
        assert visitor.stylize() == "stylized"


def test_a_thousand_requests_in_turn_do_not_let_memory_grow(server, images):
    sizes = []
    with Visitor(server[1], "patient") as visitor:
        visitor.open_images(images)
        for number in range(1000):
            assert visitor.stylize(0.05 * (number % 20) + 0.05) == "stylized"
            if number in (199, 999):
                sizes.append(resident_mib(server[0]))
    assert sizes[1] - sizes[0] < 40, f"MiB after 200 and 1,000 requests: {sizes}"


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "/etc/../etc/passwd", "%2Fetc%2Fpasswd", "../../../etc/passwd", "//etc/passwd", "README.md"]
)
def test_no_file_of_the_computer_can_be_read(server, path):
    url = urlsplit(server[1])
    connection = HTTPConnection(url.hostname, url.port, timeout=60)  # sends the path as it is
    connection.request("GET", f"/gradio_api/file={path}")
    answer = connection.getresponse()
    assert answer.status in (403, 404)
    assert b"root:" not in answer.read()
    connection.close()
