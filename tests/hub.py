"""A local stand-in for the Hugging Face Hub: the part of its HTTP interface with which datasets are read.

`tests.model_hub` has the part for models.
"""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

REPO = r"(?P<repo>[^/]+/[^/]+)"
API = re.compile(rf"/api/datasets/{REPO}/(?P<call>revision|tree)/[^/]+(/(?P<path>.*))?")
FILE = re.compile(rf"/(datasets/{REPO}/resolve/[^/]+|cdn/(?P<cdn_repo>[^/]+/[^/]+))/(?P<path>.+)")


class LocalServer:
    """An HTTP server on localhost, which runs while it is entered as a context manager.

    Args:
        handler: The class of `http.server` that answers the requests; it logs nothing.
    """

    def __init__(self, handler):
        handler.log_message = lambda *_: None
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()


class Hub(LocalServer):
    """Serves datasets.

    Large files are served like those of the Hub: by a redirect to another address, which supports ranges of bytes.

    Args:
        repos: The files of each dataset by path, by the name of the dataset.
    """

    def __init__(self, repos):
        self.repos = repos
        self.requests = []  # method and path of each
        self.drops = []  # paths of files whose next answer breaks off
        self.dropped = []
        self.sha = hashlib.sha1(repr(sorted(repos)).encode()).hexdigest()
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                Answer(hub, self).get()

            do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

        super().__init__(Handler)


class Answer:
    """The answer to one request."""

    def __init__(self, hub, request):
        self.hub = hub
        self.request = request
        self.url = urlsplit(request.path)
        self.path = unquote(self.url.path)
        hub.requests.append((request.command, self.path))

    def get(self):
        if match := FILE.fullmatch(self.path):
            self.send_file(match)
        elif match := API.fullmatch(self.path):
            self.send_api(match)
        else:
            self.send_error(404, "RepoNotFound")

    def send_api(self, match):
        files = self.hub.repos.get(match["repo"])
        if files is None:
            return self.send_error(404, "RepoNotFound")
        if match["call"] == "tree":
            return self.send_tree(files, match["path"] or "")
        siblings = [{"rfilename": path} for path in files]
        info = {"_id": "0", "id": match["repo"], "sha": self.hub.sha, "private": False, "gated": False}
        return self.send_json({**info, "disabled": False, "downloads": 0, "likes": 0, "tags": [], "siblings": siblings})

    def send_tree(self, files, folder):
        recursive = parse_qs(self.url.query).get("recursive", ["False"])[0].lower() == "true"
        prefix = f"{folder}/" if folder else ""
        entries = {}
        for path, data in files.items():
            if not path.startswith(prefix):
                continue
            first, *deeper = path[len(prefix) :].split("/")
            if deeper:
                entries[prefix + first] = {"type": "directory", "path": prefix + first, "oid": "0" * 40, "size": 0}
            if not deeper or recursive:
                entries[path] = file_entry(path, data)
        if not entries:
            return self.send_error(404, "EntryNotFound")
        return self.send_json([*entries.values()])

    def send_file(self, match):
        files = self.hub.repos.get(match["repo"] or match["cdn_repo"], {})
        data = files.get(match["path"])
        if data is None:
            return self.send_error(404, "EntryNotFound")
        etag = f'"{digest(data)}"'
        headers = {"X-Repo-Commit": self.hub.sha, "ETag": etag, "Accept-Ranges": "bytes"}
        if match["repo"] and match["path"].endswith(".parquet"):
            location = f"{self.hub.url}/cdn/{match['repo']}/{match['path']}"
            linked = {"Location": location, "X-Linked-Size": str(len(data)), "X-Linked-ETag": etag}
            return self.send(302, b"", {**headers, **linked})
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.request.headers.get("Range", ""))
        if not wanted:
            return self.send(200, data, headers, match["path"])
        first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
        return self.send(206, data[first : last + 1], headers, match["path"])

    def send_json(self, value):
        self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def send_error(self, status, code):
        self.send(status, b"", {"X-Error-Code": code})

    def send(self, status, data, headers, path=""):
        """Send an answer; break off in its middle if the next answer for this path is to be dropped."""
        request = self.request
        request.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            request.send_header(name, value)
        request.end_headers()
        if request.command == "HEAD":
            return
        if path in self.hub.drops:
            self.hub.drops.remove(path)
            self.hub.dropped.append(path)
            data = data[: len(data) // 2]
            request.close_connection = True
        request.wfile.write(data)


def digest(data):
    return hashlib.sha256(data).hexdigest()


def file_entry(path, data):
    """The entry of a file in the listing of a folder."""
    entry = {"type": "file", "path": path, "oid": hashlib.sha1(data).hexdigest(), "size": len(data)}
    if path.endswith(".parquet"):
        entry["lfs"] = {"oid": digest(data), "size": len(data), "pointerSize": 134}
    return entry
