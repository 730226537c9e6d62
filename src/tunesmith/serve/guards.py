"""What a request passes before any route: whether it may come in, and how much of it there may be."""

from __future__ import annotations

import asyncio
import hmac
import json
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from tunesmith.serve.errors import RefusedError, overloaded
from tunesmith.serve.figures import Figures
from tunesmith.serve.settings import ServeSettings, is_loopback

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_HOST = re.compile(r"(\[[0-9a-fA-F:.]+\]|[^\s:\[\]/@]+)(?::\d+)?")
"""A name or an address, and perhaps a port: of anything else it cannot be said whom it means."""

OPEN = frozenset({"/health"})
"""Routes that need no token: they tell nothing."""


class Guards:
    """Checks host, origin, token and size of every request, reads its body, and counts it."""

    def __init__(
        self,
        app: App,
        settings: ServeSettings,
        figures: Figures,
        routes: frozenset[str],
        most_bytes: Callable[[], int] | None = None,
    ) -> None:
        """``routes`` are those that are counted by their names; all others count as one.

        ``most_bytes`` says how large a body may be now, where that is not what the settings say.
        """
        self._app, self._settings, self._figures, self._routes = app, settings, figures, routes
        self._most_bytes = most_bytes or (lambda: settings.max_body_bytes)
        self._num_held_bytes = 0
        """Of the bodies of requests that are being sent or answered."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status, body = time.monotonic(), 500, b""

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            self.check(scope)
            body = await self._read(scope, receive)
            await self._app(scope, _replay(body, receive), noting)
        except RefusedError as error:
            await refuse(error, noting)
        finally:
            self._num_held_bytes -= len(body)
            route = scope["path"] if scope["path"] in self._routes else "other"
            self._figures.add_request(route, status, time.monotonic() - began)

    def check(self, scope: Scope) -> None:
        """Raise ``RefusedError`` for a request that may not come in: its host, origin, token or stated size."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        named = _HOST.fullmatch(headers.get("host", ""))
        host = named[1].strip("[]").lower() if named else ""
        known = {self._settings.host.lower(), *(name.lower() for name in self._settings.allowed_hosts)}
        # A page of another host may let its own name point to this machine: by its address alone nobody can.
        is_known = host in known or is_loopback(host) or (not self._settings.is_local and _is_address(host))
        if not is_known:
            raise RefusedError(421, f"This server does not answer for the host {host!r}.", "foreign_host")
        origin = headers.get("origin")
        if origin is not None and origin not in self._settings.allowed_origins:
            parts = urlsplit(origin)
            if parts.netloc != headers.get("host"):
                raise RefusedError(403, f"Pages of {origin} may not ask this server.", "foreign_origin")
        if self._settings.token is not None and scope["path"] not in OPEN:
            given = headers.get("authorization", "").removeprefix("Bearer ").strip()
            if not hmac.compare_digest(given.encode(), self._settings.token.encode()):
                raise RefusedError(401, "The token is missing or wrong (Authorization: Bearer ...).", "no_token")
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > self._most_bytes():
            raise self._too_large()

    async def _read(self, scope: Scope, receive: Receive) -> bytes:
        if scope["method"] in ("GET", "HEAD", "OPTIONS"):
            return b""
        parts: list[bytes] = []
        size, most = 0, self._most_bytes()
        try:
            async with asyncio.timeout(self._settings.body_seconds):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RefusedError(400, "The request ended before its body did.", "incomplete")
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    self._num_held_bytes += len(parts[-1])
                    if size > most:
                        raise self._too_large()
                    if self._num_held_bytes > max(self._settings.max_held_bytes, most):
                        raise overloaded()
                    if not message.get("more_body"):
                        return b"".join(parts)
        except BaseException as error:
            self._num_held_bytes -= size
            if isinstance(error, TimeoutError):
                raise RefusedError(408, "The request took too long to be sent.", "slow") from None
            raise

    def _too_large(self) -> RefusedError:
        return RefusedError(413, f"The request is larger than {self._most_bytes()} bytes.", "request_too_large")


def _is_address(host: str) -> bool:
    return host.replace(".", "").isdigit() or ":" in host


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body that was read once more, and after it what comes in then: that the client is gone."""
    given = False

    async def replaying() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replaying


async def refuse(error: RefusedError, send: Send) -> None:
    """Send a refusal."""
    body = json.dumps(error.body()).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers()}
    encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
