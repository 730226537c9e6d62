"""Files that grow at their end: the record of a run's steps, events for TensorBoard.

What is appended is there whole or not at all: where the disk takes only a part of it, the part is cut off
again. Nothing is lost by that either, since it is kept in memory and tried again with what comes next.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from tunesmith.files.operations import clear_errors, make_folder, perform, sync_file, sync_folder
from tunesmith.types import RunError


class GrowingFile:
    """Appends to ``path``, which is created, with its folder, by the first append that is written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._size = 0
        self._waiting: list[bytes] = []

    def append(self, data: bytes) -> None:
        """Write ``data`` at the end. Raises ``RunError`` when the disk is full; it is then written later."""
        self._waiting.append(data)
        self.flush()

    def flush(self) -> None:
        """Write what could not be written before; ``RunError`` when it still cannot be."""
        if not self._waiting:
            return
        descriptor = self._open()
        data = b"".join(self._waiting)
        try:
            perform("append", self.path, lambda: _write_all(descriptor, data))
        except (OSError, RunError):
            with suppress(OSError):
                os.ftruncate(descriptor, self._size)
            raise
        self._size += len(data)
        self._waiting.clear()

    def sync(self) -> None:
        """Make everything that was appended durable."""
        self.flush()
        if self._descriptor is not None:
            sync_file(self.path)

    def close(self) -> None:
        """Let go of the file; what could not be written until now is lost."""
        try:
            with suppress(OSError, RunError):
                self.flush()
        finally:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            make_folder(self.path.parent)
            is_new = not self.path.exists()
            with clear_errors(self.path):
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
                self._descriptor = os.open(self.path, flags, 0o666)
                self._size = os.fstat(self._descriptor).st_size
            if is_new:
                sync_folder(self.path.parent)
        return self._descriptor


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]
