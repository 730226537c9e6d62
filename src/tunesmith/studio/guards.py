"""What a request passes before any route of the studio, and what every answer says to the browser.

Hosts, origins and sizes are checked as the server of runs does. Besides, nobody is answered but the user who was told
the address with its key: other users of the machine reach its ports, too.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from dataclasses import replace
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from tunesmith.serve.errors import RefusedError
from tunesmith.serve.figures import Figures
from tunesmith.serve.guards import App, Guards, Message, Receive, Scope, Send, refuse
from tunesmith.serve.settings import ServeSettings

UPLOADS = "/api/uploads"
_ASKS = re.compile(r"/api/found/[^/]+/try/[^/]+")
"""Where models are asked, and may be shown images."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
OPEN = frozenset({"/", "/health"})
"""Addresses that answer whoever has no key: they tell nothing. The first page says where to find it."""


class StudioGuards:
    """Checks every request, and adds to every answer what keeps a page from doing more than it should."""

    def __init__(self, app: App, settings: ServeSettings, key: str, most_upload_bytes: int) -> None:
        self._app, self._key = app, key
        self.cookie = f"tunesmith-studio-{settings.port}"
        """Cookies do not tell ports apart: two studios of one machine have two names."""
        self._requests = Guards(app, settings, Figures(), frozenset())
        # What is uploaded is written as it comes: its body is not read here.
        self._uploads = Guards(app, replace(settings, max_body_bytes=most_upload_bytes), Figures(), frozenset())
        with_images = replace(settings, max_body_bytes=settings.max_image_body_bytes)
        self._questions = Guards(app, with_images, Figures(), frozenset())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sending = _with_headers(send)
        is_upload = scope["path"] == UPLOADS and scope["method"] == "POST"
        requests = self._questions if _ASKS.fullmatch(scope["path"]) else self._requests
        try:
            (self._uploads if is_upload else requests).check(scope)
            self._check_kind(scope, is_upload=is_upload)
            self._check_key(scope)
        except RefusedError as error:
            await refuse(error, sending)
            return
        await (self._app if is_upload else requests)(scope, receive, sending)

    def _check_kind(self, scope: Scope, *, is_upload: bool) -> None:
        """Refuse what another site could make a browser send without asking first."""
        if scope["method"] in ("GET", "HEAD"):
            return
        headers = _headers(scope)
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            raise RefusedError(403, "Pages of other sites may not ask the studio.", "foreign_origin")
        wanted = "application/octet-stream" if is_upload else "application/json"
        if headers.get("content-type", "").partition(";")[0].strip().lower() != wanted:
            raise RefusedError(415, f"The content type is to be {wanted}.", "content_type")

    def _check_key(self, scope: Scope) -> None:
        if scope["path"] in OPEN or scope["path"].startswith("/static/"):
            return
        if not self.knows(scope):
            raise RefusedError(
                401,
                "This session has expired, or began with another studio. Open the address that 'tunesmith studio' "
                "shows in the terminal.",
                "no_session",
            )

    def knows(self, scope: Scope) -> bool:
        """Say whether a request shows the key, by its cookie."""
        try:
            cookies = SimpleCookie(_headers(scope).get("cookie", ""))
        except CookieError:
            return False
        found = cookies.get(self.cookie)
        return found is not None and self.is_key(found.value)

    def is_key(self, text: str) -> bool:
        """Say whether a text is the key."""
        return hmac.compare_digest(text.encode("utf-8", "replace"), self._key.encode())

    def has_key(self, scope: Scope) -> bool:
        """Say whether an address holds the key (``/?key=...``)."""
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("key", [""])
        return self.is_key(given[0])


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}


def _with_headers(send: Send) -> Send:
    """Add the headers that every answer has, but for those that it sets itself."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = list(message.get("headers", []))
            names = {name.lower() for name, _ in given}
            more = [(name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in names]
            message = {**message, "headers": [*given, *more]}
        await send(message)

    return sending
