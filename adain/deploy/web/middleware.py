"""Middleware that refuses large requests, and those which other websites make in the browser of a visitor."""

import ipaddress
from urllib.parse import urlsplit

from adain.utils.extras import require_extra

with require_extra("web", "the web page"):
    from starlette.datastructures import Headers
    from starlette.responses import JSONResponse
    from starlette.types import ASGIApp, Receive, Scope, Send


class LoopbackOnly:
    """Middleware that refuses requests whose Host header is not a loopback name or address.

    It prevents DNS rebinding, where a website lets its own name point to this computer. Starlette's
    TrustedHostMiddleware does not understand IPv6 addresses.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with status 400."""
        if scope["type"] in ("http", "websocket"):
            header = Headers(scope=scope).get("host", "")
            try:
                name = urlsplit(f"//{header}").hostname or ""
            except ValueError:  # an unmatched bracket
                name = ""
            if not is_loopback(name):
                refusal = {"error": "Invalid host header"}
                await JSONResponse(refusal, status_code=400)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class SameOriginOnly:
    """Middleware that refuses requests from pages of other origins.

    Any website can make a browser send a form to any server. Browsers report on HTTPS and to this computer whether the
    origin is the same (Sec-Fetch-Site), which is correct behind a reverse proxy, too. Otherwise the host of the origin
    is compared with that of the request. Links and programs other than browsers send no origin.
    """

    def __init__(self, app: ASGIApp):
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with status 403."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            origin = headers.get("origin")
            if origin is not None and not _is_same_origin(origin, headers):
                refusal = {"error": f"Expected a request of this page or of a program, got one of {origin}"}
                await JSONResponse(refusal, status_code=403)(scope, receive, send)
                return
        await self.app(scope, receive, send)


class SizeLimit:
    """Middleware that refuses requests whose body is larger than `largest` bytes, before the body is read.

    Gradio limits the files of an upload only, and reads other requests whole.
    """

    def __init__(self, app: ASGIApp, largest: int):
        self.app = app
        self.largest = largest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer with status 411 if its length is unknown, or 413 if it is too large."""
        if scope["type"] == "http":
            headers = Headers(scope=scope)
            length = headers.get("content-length", "0")
            # A chunked body may be longer than its Content-Length.
            if "transfer-encoding" in headers or not length.isdecimal():
                refusal = {"error": "Expected the header Content-Length, and no Transfer-Encoding"}
                await JSONResponse(refusal, status_code=411)(scope, receive, send)
                return
            if int(length) > self.largest:
                refusal = {"error": f"Expected at most {self.largest} bytes, got {length}; send smaller files"}
                await JSONResponse(refusal, status_code=413)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _is_same_origin(origin: str, headers: Headers) -> bool:
    """Whether a request with this origin comes from a page of this server."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return origin.partition("://")[2] == headers.get("host")


def is_loopback(host: str) -> bool:
    """Whether a name or an IPv4 or IPv6 address is a loopback address of this computer."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        return False
