"""A local stand-in for the Hugging Face Hub: the part of its HTTP interface for model repositories."""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler

from tests.hub import LocalServer

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class ModelHub(LocalServer):
    """Serves model repositories.

    Attributes:
        repos: the files of each repository by path, by its name.
        private: names of private repositories.
        messages: messages of the commits.
    """

    def __init__(self):
        self.repos = {}
        self.private = set()
        self.messages = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                hub.send_file(self)

            do_HEAD = do_GET  # noqa: N815 - the name that http.server calls

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hub.answer(self, body)

        super().__init__(Handler)

    def answer(self, request, body):
        """Answer a request to create a repository, or one of those that lead to a commit."""
        if request.headers.get("Authorization") != "Bearer secret":
            return send(request, 401, {"error": "Invalid username or password."})
        if request.path == "/api/repos/create":
            wanted = json.loads(body)
            name = f"{wanted['organization']}/{wanted['name']}"
            self.repos.setdefault(name, {})
            if wanted.get("private") or wanted.get("visibility") == "private":
                self.private.add(name)
            return send(request, 200, {"url": f"{self.url}/{name}"})
        if request.path == "/api/validate-yaml":
            return send(request, 200, {"errors": [], "warnings": []})
        name, call = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", request.path).groups()
        if call == "preupload":
            paths = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": path, "uploadMode": "regular", "shouldIgnore": False} for path in paths]
            return send(request, 200, {"files": files})
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "header":
                self.messages.append(line["value"]["summary"])
            else:
                self.repos[name][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return send(request, 200, {"commitUrl": f"{self.url}/{name}/commit/{COMMIT}", "commitOid": COMMIT})

    def send_file(self, request):
        found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/(main|v1)/(.+)", request.path)
        data = self.repos.get(found[1], {}).get(found[3]) if found else None
        if data is None:
            known = found and found[1] in self.repos
            return send(request, 404, {}, {"X-Error-Code": "EntryNotFound" if known else "RepoNotFound"})
        return send(request, 200, data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT})


def send(request, status, content, headers=()):
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    request.send_response(status)
    for name, value in {"Content-Type": "application/json", **dict(headers), "Content-Length": str(len(data))}.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data)
