"""Who may talk to the server: this machine's browser, from the server's own pages, with the token.

A page of another site can make a browser send requests to 127.0.0.1. They are refused by their Host header (DNS
rebinding), by Origin and Sec-Fetch-Site (requests of other pages), and because they lack the cookie, which is
SameSite=Strict. The token is in the address once, and exchanged for the cookie."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from urllib.parse import parse_qsl, urlencode, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
TOKEN = "token"
ELSEWHERE = ("cross-site", "same-site")  # other sites, and other servers of this machine
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "media-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """ASGI middleware that refuses requests from elsewhere, and adds the headers that restrict the pages."""

    def __init__(self, app: ASGIApp, *, token: str, hosts: Collection[str] = ()) -> None:
        """`hosts` are names of this machine that are accepted beside the loopback ones."""
        self.app, self.token = app, token
        self.hosts = LOOPBACK | {plain(name) for name in hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # there are no websockets
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self.refusal(scope)
        await (refusal or self.app)(scope, receive, send_with_headers)

    def refusal(self, scope: Scope) -> Response | None:
        """The response that refuses a request, or that exchanges its token for the cookie; None if it may pass."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if hostname(host) not in self.hosts:
            return _error(403, f"This server does not answer for the host {host!r}; open the address that it printed.")
        if headers.get("sec-fetch-site") in ELSEWHERE:
            return _error(403, "This request came from another site. Paste the address into the address bar.")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return _error(403, "This request came from a page of another origin.")
        cookie = f"kyara-{scope['server'][1] if scope.get('server') else 0}"  # cookies are shared between ports
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        if scope["method"] == "GET" and scope["path"] == "/" and self._right(query.pop(TOKEN, "")):
            answer = RedirectResponse("/" + (f"?{urlencode(query)}" if query else ""), 303)
            answer.set_cookie(cookie, self.token, httponly=True, samesite="strict", path="/")
            return answer
        if self._right(cookie_parser(headers.get("cookie", "")).get(cookie, "")):  # others may hold JSON
            return None
        text = "The token is missing or wrong. Open the address that kyara studio printed, with its token."
        return PlainTextResponse(text, 401) if scope["path"] == "/" else _error(401, text)

    def _right(self, token: str) -> bool:
        return secrets.compare_digest(token.encode(), self.token.encode())


def _error(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status)


def hostname(host: str) -> str:
    """The name in a Host header as `plain`, without the port; empty if it is malformed."""
    try:
        return plain(urlsplit(f"//{host}").hostname or "")
    except ValueError:
        return ""


def plain(name: str) -> str:
    """The name of a host as browsers send it: in lower case; without the brackets of IPv6 and a dot at its end."""
    return name.lower().rstrip(".").strip("[]")
