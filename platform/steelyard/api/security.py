"""Around every request: whose Host it names, which headers its answer wears, what a crash shows."""

import ipaddress
import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOG = logging.getLogger(__name__)

POLICY = "; ".join(
    (
        "default-src 'self'",
        "img-src 'self' data:",  # pico's icons are data: images in its style sheet
        "object-src 'none'",
        "base-uri 'none'",
        "form-action 'self'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class SecurityHeaders:
    """Puts the headers on every answer, errors included; what may change is not cached."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(HEADERS)
                headers.setdefault("Cache-Control", "no-cache")
            await send(message)

        await self._app(scope, receive, dressed if scope["type"] == "http" else send)


class KnownHosts:
    """Refuses a Host that is not ours.

    A page of another site can point its own name at this address (DNS rebinding) and then read
    answers as if they were its own; its requests still name that site in Host. An address as
    Host cannot be rebound, so a server on a wildcard address takes any literal address.
    """

    def __init__(self, app: ASGIApp, host: str) -> None:
        self._app = app
        self._names = {"localhost", "127.0.0.1", "::1", host.lower()}
        self._any_address = host in ("0.0.0.0", "::", "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http" or self.knows(Headers(scope=scope).get("host", "")):
            await self._app(scope, receive, send)
            return
        told = {"error": "This Host is not served here.", "hint": "Use the configured host's name."}
        await JSONResponse(told, 400)(scope, receive, send)

    def knows(self, host: str) -> bool:
        """Whether a Host header (name or address, with or without a port) is ours."""
        bracketed = host.startswith("[")
        name = (host[1:].partition("]") if bracketed else host.partition(":"))[0].lower()
        return name in self._names or (self._any_address and _is_address(name))


class LastResort:
    """Turns an unforeseen exception into a plain 500 and a line in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            if started or scope["type"] != "http":
                raise
            LOG.exception("unforeseen error at %s", scope.get("path"))
            told = {"error": "Something went wrong here.", "hint": "The API's log says what."}
            await JSONResponse(told, 500)(scope, receive, send)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
