"""Processes that outlive the studio, and are known again by their number and the time at which they began."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

SLACK = 2.0
"""Seconds by which a process may seem to have begun after what it wrote: clocks of different kinds are compared."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process of this machine: its number alone may be another's by now."""

    pid: int
    began: float

    @property
    def is_alive(self) -> bool:
        return self._found() is not None

    @property
    def memory(self) -> int | None:
        """Bytes that it holds in memory, with the processes that it started; None where it is gone."""
        found = self._found()
        if found is None:
            return None
        total = 0
        with suppress(psutil.Error):
            for one in (found, *found.children(recursive=True)):
                total += int(one.memory_info().rss)
        return total or None

    def stop(self) -> bool:
        """Ask it to stop, as Ctrl-C does: a training saves what it has reached. Say whether it was there."""
        found = self._found()
        if found is None:
            return False
        with suppress(psutil.Error):
            found.send_signal(signal.SIGTERM)
        return True

    def _found(self) -> psutil.Process | None:
        try:
            found = psutil.Process(self.pid)
            if abs(found.create_time() - self.began) > SLACK or found.status() == psutil.STATUS_ZOMBIE:
                return None
        except psutil.Error:
            return None
        return found


def start(words: Sequence[str], output: Path) -> tuple[Process, subprocess.Popen[bytes]]:
    """Run ``tunesmith`` with these words in a session of its own; it writes into the folder ``output``.

    No shell takes part: whatever the words are, they are arguments.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    with (output / "stdout").open("wb") as out, (output / "stderr").open("wb") as err:
        child = subprocess.Popen(
            [sys.executable, "-m", "tunesmith", *words],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            env=environment,
        )
    try:
        began = psutil.Process(child.pid).create_time()
    except psutil.Error:  # it is over already
        began = 0.0
    return Process(child.pid, began), child


def holder(content: Any) -> Process | None:
    """Return the process that holds a folder, from what it wrote beside its lock; None where it is gone.

    The lock itself is not tried: whoever held it for a moment would be in the way of a training that begins.
    """
    try:
        if content["host"] != socket.gethostname():
            return None
        since = datetime.fromisoformat(content["since"]).timestamp()
        found = psutil.Process(int(content["pid"]))
        began = found.create_time()
    except (psutil.Error, KeyError, TypeError, ValueError):
        return None
    process = Process(found.pid, began)
    return process if began <= since + SLACK and process.is_alive else None
