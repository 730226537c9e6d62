"""What is fetched from elsewhere, told to whoever listens: how much there is before it comes, then how far it is.

Nothing here prints. Whoever wants to know says so by ``telling``; where nobody does, nothing is measured.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Protocol

from tunesmith.readable import duration, size

SECONDS = 1.0
"""Between two looks at how much has come."""


class Listener(Protocol):
    """Whoever is told."""

    def __call__(self, text: str, *, lasting: bool) -> None:
        """Hear ``text``; one that is not ``lasting`` is true for a moment and followed by the next."""


_listeners: ContextVar[tuple[Listener, ...]] = ContextVar("listeners", default=())


@contextmanager
def telling(listener: Listener) -> Iterator[None]:
    """Let ``listener`` be told of what is fetched inside the block."""
    token = _listeners.set((*_listeners.get(), listener))
    try:
        yield
    finally:
        _listeners.reset(token)


def tell(text: str, *, lasting: bool = False) -> None:
    """Tell everybody who listens."""
    for listener in _listeners.get():
        listener(text, lasting=lasting)


@contextmanager
def watched(what: str, folder: Path, num_bytes: int) -> Iterator[None]:
    """Tell how far a download of ``num_bytes`` is that writes files into ``folder`` inside the block.

    It is looked at on the disk, in a thread: whatever fetches it, and however many parts of it at a time.
    """
    listeners = _listeners.get()
    if not listeners or num_bytes <= 0:
        yield
        return
    end = threading.Event()

    def say(text: str) -> None:
        for listener in listeners:
            listener(text, lasting=False)

    thread = threading.Thread(target=_watch, args=(what, folder, num_bytes, say, end), name="watching a download")
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def _watch(what: str, folder: Path, num_bytes: int, say: Callable[[str], None], end: threading.Event) -> None:
    before, began = bytes_in(folder), time.monotonic()
    while not end.wait(SECONDS):
        done = min(max(bytes_in(folder) - before, 0), num_bytes)
        rate = done / (time.monotonic() - began)
        left = f", {size(rate)}/s, {duration((num_bytes - done) / rate)} left" if rate else ""
        say(f"{what} ({size(done)} of {size(num_bytes)}{left})")


def bytes_in(folder: Path) -> int:
    """Return the bytes of the files in a folder; those that are taken away meanwhile count nothing."""
    total = 0
    try:
        for entry in folder.iterdir():
            try:
                total += entry.stat().st_size
            except OSError:
                continue
    except OSError:
        return 0
    return total
