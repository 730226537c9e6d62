"""One writer per folder, by a lock of the operating system.

The lock belongs to the process and ends with it, however it ends; no timestamp is ever
compared, so that a clock set back or a machine that slept changes nothing. Who holds it is
written beside the lock for the message alone.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from tunesmith.files.operations import clear_errors, make_folder, perform
from tunesmith.types import InputError, RunError

LOCK = ".lock"
HOLDER = ".lock-holder.json"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold ``folder`` (created if missing) for this process until the block ends.

    Raises ``InputError`` at once, naming the holder, when another process has it.
    """
    from filelock import FileLock, Timeout

    make_folder(folder)
    lock = FileLock(folder / LOCK)
    try:
        with clear_errors(folder):
            lock.acquire(timeout=0)
    except Timeout:
        raise InputError(
            f"{folder} is in use by {_describe_holder(folder)}.",
            "Wait until it has finished, stop it, or choose another folder with --output.",
        ) from None
    try:
        with suppress(OSError, RunError):  # it is for a message alone
            _write_holder(folder)
        yield
    finally:
        with suppress(OSError):
            (folder / HOLDER).unlink()
        lock.release()


def wait_until_free(folder: Path, seconds: float) -> None:
    """Wait for up to so long until nobody holds ``folder``: a process that was lost may take a moment to end.

    Nothing is said where it stays held: whoever locks it says by whom.
    """
    from filelock import FileLock, Timeout

    if not (folder / LOCK).exists():
        return
    with suppress(Timeout, OSError):
        lock = FileLock(folder / LOCK)
        lock.acquire(timeout=seconds)
        lock.release()


def _write_holder(folder: Path) -> None:
    holder = {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
    }
    path = folder / HOLDER
    perform("write", path, lambda: path.write_text(json.dumps(holder), encoding="utf-8"))


def _describe_holder(folder: Path) -> str:
    try:
        holder = json.loads((folder / HOLDER).read_text(encoding="utf-8"))
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
