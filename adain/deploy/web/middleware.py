"""Middleware that refuses large requests, and those which other websites make in the browser of a visitor."""

import ipaddress
from urllib.parse import urlsplit

from adain.utils.extras import require_extra

with require_extra("web", "the web page"):
    from starlette.datastructures import Headers
    from starlette.responses import JSONResponse
    from starlette.types import ASGIApp, Receive, Scope, Send


class RequestFilter:
    """Middleware that passes requests on, or refuses them with a status and an error in JSON."""

    kinds: tuple[str, ...] = ("http",)
    """The types of connections that are checked: `http`, `websocket`."""

    def __init__(self, app: ASGIApp):
        self.app = app

    def refusal(self, headers: Headers) -> tuple[int, str] | None:
        """Return the status and the message for a request with these headers if it is refused, None otherwise."""
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer or pass on a connection."""
        refusal = self.refusal(Headers(scope=scope)) if scope["type"] in self.kinds else None
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            status, message = refusal
            await JSONResponse({"error": message}, status_code=status)(scope, receive, send)


class LoopbackOnly(RequestFilter):
    """Middleware that refuses requests whose Host header is not a loopback name or address, with status 400.

    It prevents DNS rebinding, where a website lets its own name point to this computer. Starlette's
    TrustedHostMiddleware does not understand IPv6 addresses.
    """

    kinds = ("http", "websocket")

    def refusal(self, headers: Headers) -> tuple[int, str] | None:
        """Refuse a host that is not loopback."""
        try:
            name = urlsplit(f"//{headers.get('host', '')}").hostname or ""
        except ValueError:  # an unmatched bracket
            name = ""
        return None if is_loopback(name) else (400, "Invalid host header")


class SameOriginOnly(RequestFilter):
    """Middleware that refuses requests from pages of other origins, with status 403.

    Any website can make a browser send a form to any server. Browsers report on HTTPS and to this computer whether the
    origin is the same (Sec-Fetch-Site), which is correct behind a reverse proxy, too. Otherwise the host of the origin
    is compared with that of the request. Links and programs other than browsers send no origin.
    """

    def refusal(self, headers: Headers) -> tuple[int, str] | None:
        """Refuse another origin."""
        origin = headers.get("origin")
        if origin is None or _is_same_origin(origin, headers):
            return None
        return 403, f"Expected a request of this page or of a program, got one of {origin}"


class SizeLimit(RequestFilter):
    """Middleware that refuses requests whose body is larger than `largest` bytes, before the body is read.

    Gradio limits the files of an upload only, and reads other requests whole.
    """

    def __init__(self, app: ASGIApp, largest: int):
        super().__init__(app)
        self.largest = largest

    def refusal(self, headers: Headers) -> tuple[int, str] | None:
        """Refuse a body of unknown length with status 411, and one that is too large with status 413."""
        length = headers.get("content-length", "0")
        # A chunked body may be longer than its Content-Length.
        if "transfer-encoding" in headers or not length.isdecimal():
            return 411, "Expected the header Content-Length, and no Transfer-Encoding"
        if int(length) > self.largest:
            return 413, f"Expected at most {self.largest} bytes, got {length}; send smaller files"
        return None


def _is_same_origin(origin: str, headers: Headers) -> bool:
    """Return whether a request with this origin comes from a page of this server."""
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site == "same-origin"
    return origin.partition("://")[2] == headers.get("host")


def is_loopback(host: str) -> bool:
    """Return whether a name or an IPv4 or IPv6 address is a loopback address of this computer."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # another name
        return False
