"""Stopping on request: SIGTERM, Ctrl-C and a closing terminal save what was reached; a second signal does not wait.

Outside of training there is nothing to save and a signal stops at once, with the words that whoever is at work
has left in ``StopRequests.advice``. While a step or a save is under way it is only noted, and
``StopRequests.check`` raises at the next safe point. The second signal ends the process at once: saves are atomic,
so that even this leaves only whole checkpoints.

A terminal that closes (SIGHUP) is nobody's impatience: the system and the shell both tell of it, and whoever logs out
has SIGTERM sent besides. It stops nothing that was begun by ``nohup``, which has it ignored.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
HANG_UP: int | None = getattr(signal, "SIGHUP", None)
"""What tells of a terminal that closes; not on every system."""
NOTHING_SAVED = "Stopped before training began; nothing was saved."


class Stopped(BaseException):
    """The user or the system asked to stop; ``advice`` says how to go on."""

    def __init__(self, signal_number: int, advice: str = "") -> None:
        self.exit_code = 128 + signal_number
        self.advice = advice
        super().__init__(advice)


class StopRequests:
    """Receives signals and decides when they take effect."""

    def __init__(self, grace: float = 0.0) -> None:
        """Within ``grace`` seconds of the first, a second signal is taken for the same one: launchers pass them on."""
        self.received: int | None = None
        self.advice = NOTHING_SAVED
        """What is true of the work when it is stopped now, and how to go on."""
        self._deferred = 0
        self._grace = grace
        self._received_at = 0.0

    def check(self) -> None:
        """Raise ``Stopped`` if a signal has arrived."""
        if self.received is not None:
            raise Stopped(self.received, self.advice)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Only note signals inside the block; ``check`` says so later."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        if self.received is not None:
            if number == HANG_UP or time.monotonic() - self._received_at < self._grace:
                return
            if self.received == HANG_UP:  # nobody has asked before: the next time will be the second
                self.received = number
                return
            os._exit(128 + number)
        self.received, self._received_at = number, time.monotonic()
        if not self._deferred:
            raise Stopped(number, self.advice)


def hang_ups() -> tuple[int, ...]:
    """Return the signal that a closing terminal sends, unless whoever began this process has it ignored (``nohup``)."""
    return () if HANG_UP is None or signal.getsignal(HANG_UP) is signal.SIG_IGN else (HANG_UP,)


@contextmanager
def stop_requests(grace: float = 0.0) -> Iterator[StopRequests]:
    """Handle SIGINT, SIGTERM and SIGHUP inside the block (in the main thread; elsewhere they go on as before)."""
    requests = StopRequests(grace)
    if threading.current_thread() is not threading.main_thread():
        yield requests
        return
    previous = {number: signal.signal(number, requests._handle) for number in (*SIGNALS, *hang_ups())}
    try:
        yield requests
    finally:
        for number, handler in previous.items():
            # What was set by other code than Python's is not known, and cannot be set again from here.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
