"""Who may see the page, and what a browser may do with it."""

import re
import secrets
from ipaddress import ip_address

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "imednet-connector"
_HOST = re.compile(r"(\[(?P<ipv6>[0-9a-f:]+)\]|(?P<name>[0-9a-z.-]+?)\.?)(:[0-9]+)?")
_CYTOSCAPE_STYLE = "'sha256-pgvDUBa4IjFA2yuSJ2cqcyxmNYJMborsd0ORcRv9vw8='"
"""The hash of the style sheet that cytoscape.js 3.35.0 adds to the page."""
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'"
        f" {_CYTOSCAPE_STYLE}; img-src 'self' data:;"
        " connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware: adds `HEADERS`, and asks for the token if there is one.

    Without a token only requests for a loopback name are answered, so that a foreign page whose
    name resolves to this machine cannot read ours.
    """

    def __init__(self, app: ASGIApp, token: str | None) -> None:
        self._app, self._token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                if not scope["path"].startswith("/assets/"):
                    headers["Cache-Control"] = "no-store"
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        connection = HTTPConnection(scope)
        if self._token is None:
            found = _HOST.fullmatch(connection.headers.get("host", "").lower())
            if found and is_loopback(found["ipv6"] or found["name"]):
                return None
            return Response("Open this page under its loopback address\n", 403)
        if (
            scope["path"] == "/login"
            or scope["path"].startswith("/assets/")
            or self._knows_token(connection)
        ):
            return None
        if "hx-request" in connection.headers or "authorization" in connection.headers:
            return Response("The token is missing or wrong\n", 401, {"HX-Redirect": "/login"})
        return RedirectResponse("/login", 303)

    def _knows_token(self, connection: HTTPConnection) -> bool:
        bearer = connection.headers.get("authorization", "").removeprefix("Bearer ")
        given = (bearer, connection.cookies.get(COOKIE, ""))
        return any(is_token(self._token, each) for each in given)


def is_token(token: str | None, given: str) -> bool:
    """Whether ``given`` is the token, compared in constant time."""
    return token is not None and secrets.compare_digest(token.encode(), given.encode())
