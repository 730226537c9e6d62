"""Connections that are closed where a request's head does not come to its end: each holds a place that others need."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.auto import AutoHTTPProtocol

HEAD_SECONDS = 10.0
MAX_HEAD_BYTES = 64 * 1024


class ImpatientProtocol(AutoHTTPProtocol):  # type: ignore[valid-type,misc]  # one of two classes, by what is installed
    """uvicorn's protocol, which waits for the rest of a head for ever and reads on, with an end to its patience.

    Bodies have limits of their own (``serve.guards``), and so has the time between two requests.
    """

    head_seconds = HEAD_SECONDS
    _timer: asyncio.TimerHandle | None = None
    _num_bytes = 0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch(len(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    @property
    def _waits(self) -> bool:
        """Whether no request is being answered: what comes is a head, or a part of one."""
        return self.cycle is None or self.cycle.response_complete

    def _watch(self, num_bytes: int = 0) -> None:
        """Begin to count seconds and bytes where a head is waited for, and stop where one has come."""
        if not self._waits:
            self._rest()
            return
        self._num_bytes += num_bytes
        if self._num_bytes > MAX_HEAD_BYTES:
            self.transport.close()
        elif self._timer is None:
            self._timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _rest(self) -> None:
        self._num_bytes = 0
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._waits:
            self.transport.close()
