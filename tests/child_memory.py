"""The memory of the processes in which strangers' files and templates are read."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tunesmith.bounded import Worker

INTERVAL = 0.002
"""Seconds between two looks; what fills memory takes a hundred times as long."""


@dataclass
class Peak:
    """The most that the process of a worker held at once."""

    num_bytes: int = 0

    def look(self, worker: Worker) -> None:
        process = worker._process
        if process is None:
            return
        try:
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        except OSError:  # it has ended
            return
        found = re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)
        if found is not None:  # a process that has ended and was not waited for has no memory
            self.num_bytes = max(self.num_bytes, int(found[1]) << 10)


@contextmanager
def peak_of(worker: Worker) -> Iterator[Peak]:
    """Watch a worker's process.

    What ``getrusage`` tells of children will not do: it is the largest of all children since the start, and a child
    that was started by ``vfork`` counts what its parent held before.
    """
    peak, done = Peak(), threading.Event()

    def watch() -> None:
        while not done.wait(INTERVAL):
            peak.look(worker)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        peak.look(worker)
        done.set()
        thread.join()
