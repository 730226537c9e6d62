"""How far long work is, for whoever waits for it: one line in a terminal, and elsewhere a line now and then."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tunesmith.cli.terminal import console, say, visible

if TYPE_CHECKING:
    from rich.status import Status

PLAIN_SECONDS = 10.0
"""Between two lines where there is no terminal."""


class Progress:
    """Shows on stderr what is said last."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._console = console(stderr=True)
        self._status: Status | None = None
        self._last = -math.inf

    def show(self, what: str) -> None:
        """Show what is done, and how far that is."""
        if self._quiet:
            return
        if self._console.is_terminal:
            line = f"{visible(what)} …"
            if self._status is None:
                self._status = self._console.status(line, spinner="dots", refresh_per_second=8)
                self._status.start()
            else:
                self._status.update(line)
        elif time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            say(what, err=True)

    def close(self) -> None:
        """Leave the line that was shown."""
        if self._status is not None:
            self._status.stop()
            self._status = None


@contextmanager
def progress(*, quiet: bool) -> Iterator[Progress]:
    """Yield what shows how far the work is, until the block ends."""
    shown = Progress(quiet=quiet)
    try:
        yield shown
    finally:
        shown.close()
