"""Refusals, in the form in which clients of OpenAI's API read them."""

from __future__ import annotations

from typing import Any


class RefusedError(Exception):
    """A request that is not answered, with the status that says why."""

    def __init__(
        self, status: int, message: str, code: str, *, retry_after: int | None = None, param: str | None = None
    ) -> None:
        """``param`` is the field of the request that it is about."""
        super().__init__(message)
        self.status = status
        self.code = code
        self.retry_after = retry_after
        self.param = param

    def body(self) -> dict[str, Any]:
        """Return what the client is sent."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        return {"error": {"message": str(self), "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to it."""
        found = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return found | ({"WWW-Authenticate": "Bearer"} if self.status == 401 else {})


def overloaded() -> RefusedError:
    """Return the refusal of a request that too many others are before."""
    return RefusedError(429, "Too many requests wait already. Come again in a second.", "overloaded", retry_after=1)


def stopping() -> RefusedError:
    """Return the refusal of a request that came when the server was on its way out."""
    return RefusedError(503, "The server is stopping.", "stopping", retry_after=5)
