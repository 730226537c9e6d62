"""What reading a file of a stranger may take: so much for any, and more with its size.

A few bytes of a packed file can stand for any number of rows. It is read in a process with limits (``bounded``).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from tunesmith.bounded import StoppedError, Worker
from tunesmith.data.encodings import max_bytes_of
from tunesmith.types import InputError


class Limits(TypedDict):
    """Those of one file, as ``Worker.ask`` takes them."""

    seconds: float
    max_bytes: int


@dataclass(frozen=True, slots=True)
class FileBounds:
    """Processor time and memory for a file of any size, and for each million of its bytes or each byte."""

    seconds: float
    seconds_per_mb: float
    memory: int
    memory_growth: int

    def of(self, size: int) -> Limits:
        """Return those of a file of ``size`` bytes."""
        return {
            "seconds": self.seconds + self.seconds_per_mb * size / 1e6,
            "max_bytes": self.memory + self.memory_growth * size,
        }


def ask_about(path: Path, request: bytes, worker: Worker, bounds: FileBounds, *, name: str) -> bytes:
    """Return the ``worker``'s answer about a file, which it may write as text.

    Raises ``InputError``, which calls the file ``name``, where reading it takes more than its bounds.
    """
    size = path.stat().st_size
    try:
        return worker.ask(request, **bounds.of(size), max_file_bytes=max_bytes_of(size))
    except StoppedError as error:
        message = f"{name}, a file of {size:,} bytes, was not read on: {error}."
        raise InputError(message, "Give it as CSV or JSONL, if its content is what you expect.") from None
