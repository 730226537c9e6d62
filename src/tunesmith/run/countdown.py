"""How far long work has come, and when it will be done."""

from __future__ import annotations

import time
from collections.abc import Callable

from tunesmith.readable import count, duration

SECONDS = 1.0
"""Between two words on the same work."""


class Countdown:
    """Tells ``notify`` how many of ``total`` are done, with the time left at the pace so far; not every single one."""

    def __init__(self, what: str, total: int, notify: Callable[[str], None], *, done: int = 0) -> None:
        """``done`` were there before: they say nothing of the pace."""
        self._what = what
        self._total = total
        self._notify = notify
        self._before = done
        self._began = time.monotonic()
        self._last = -SECONDS

    def tell(self, done: int) -> None:
        """Say that ``done`` of all are there, unless that was said a moment ago."""
        now = time.monotonic()
        if now - self._last < SECONDS and done < self._total:
            return
        self._last = now
        new = done - self._before
        left = f", about {duration((now - self._began) / new * (self._total - done))} left" if new > 0 else ""
        self._notify(f"{self._what} ({count(done)} of {count(self._total)}{left if done < self._total else ''})")
