"""What the processes of the tests do."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from pathlib import Path

from tunesmith.types import InputError, Problem, RunError


def reversed_bytes(request: bytes) -> bytes:
    print("what is printed is no answer")  # noqa: T201
    return request[::-1]


def waits_once(request: bytes) -> bytes:
    """Answer at the second attempt; the first one waits for a signal. The request names a file."""
    place = Path(os.fsdecode(request))
    if place.exists():
        return b"again"
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    place.write_bytes(b"")
    time.sleep(60)
    return b"first"


def by_name(request: bytes) -> bytes:
    match request:
        case b"endless_loop":
            while True:
                pass
        case b"endless_in_c":
            return str(len(dict.fromkeys(range(0, 10**5 * (2**61 - 1), 2**61 - 1)))).encode()
        case b"much_memory":
            return bytes(1 << 30)
        case b"ends_itself":
            os._exit(7)
        case b"killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case b"fails":
            raise KeyError("nothing")
        case b"writes_much":
            with tempfile.TemporaryFile() as file:
                file.write(b"x" * 1000)
        case b"refuses":
            raise InputError(Problem("error", "no good", "make it good", 2, ("a:1", "b:2")))
        case b"disk":
            raise RunError("disk full")
        case b"environment":
            return repr(dict(os.environ)).encode()
    return request
