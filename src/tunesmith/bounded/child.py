"""The process of a ``Worker``: waits for requests, answers each within its limits, ends with its parent or when idle.

Requests and answers are frames: a head and bytes. The kernel counts the processor time of each request
(``ITIMER_PROF``, whose signal ends the process wherever it is), and what may be allocated and written.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import select
import signal
import struct
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import BinaryIO

from tunesmith.types import InputError, RunError

REQUEST = struct.Struct("<dQQQ")
"""Seconds of processor time, bytes of memory, bytes of a file, bytes that follow."""
ANSWER = struct.Struct("<BQ")
"""How it went, bytes that follow."""
DONE, NO_MEMORY, REFUSED, ENDED, FAILED = range(5)
READY = b"\x01"
"""Comes before all answers: the function has been loaded."""
IDLE_SECONDS = 60.0
"""The process ends when it has waited so long for a request; for the next one there will be another."""


def main(target: str) -> None:
    """Answer requests by the function ``module:name`` until there are no more."""
    # What the function prints must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    answer = _load(target)
    answers.write(READY)
    answers.flush()
    requests = sys.stdin.buffer
    while _is_asked(requests) and (head := requests.read(REQUEST.size)):
        if len(head) < REQUEST.size:
            break
        seconds, max_bytes, max_file_bytes, size = REQUEST.unpack(head)
        _limit(max_bytes, max_file_bytes)
        _serve(answer, requests, size, seconds, answers)


def _is_asked(requests: BinaryIO) -> bool:
    """Wait for a request, of which nothing has been read yet; False where none comes."""
    if os.name != "posix":  # no pipe can be waited for
        return True
    return bool(select.select([requests], [], [], IDLE_SECONDS)[0])


def _load(target: str) -> Callable[[bytes], bytes]:
    module, _, name = target.partition(":")
    packages = module.split(".")[:-1]
    for depth in range(2, len(packages) + 1):
        # A room's own __init__ gathers all that is in the room; here one module of it is needed.
        spec = importlib.util.find_spec(".".join(packages[:depth]))
        assert spec is not None
        sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    answer: Callable[[bytes], bytes] = getattr(importlib.import_module(module), name)
    return answer


def _serve(answer: Callable[[bytes], bytes], requests: BinaryIO, size: int, seconds: float, answers: BinaryIO) -> None:
    try:
        request = requests.read(size)
        allow(seconds)
        kind, content = DONE, answer(request)
    except InputError as error:
        kind, content = REFUSED, json.dumps([asdict(problem) for problem in error.problems]).encode()
    except RunError as error:
        kind, content = ENDED, str(error).encode("utf-8", "backslashreplace")
    except MemoryError:
        kind, content = NO_MEMORY, b""
    except BaseException as error:  # panics of Rust too; the parent is told, which knows what was asked for
        kind, content = FAILED, f"{type(error).__name__}: {error}"[:2000].encode("utf-8", "backslashreplace")
    allow(0)
    answers.write(ANSWER.pack(kind, len(content)) + content)
    answers.flush()


def allow(seconds: float) -> None:
    """Allow so much processor time from now on; the process ends when it is spent. 0 takes the limit away."""
    if hasattr(signal, "setitimer"):  # not on Windows
        signal.setitimer(signal.ITIMER_PROF, seconds)


def _limit(max_bytes: int, max_file_bytes: int) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    # Data, not addresses, where there is a choice: a mapped file is no memory.
    kinds = [resource.RLIMIT_DATA if sys.platform == "linux" else resource.RLIMIT_AS, resource.RLIMIT_FSIZE]
    for kind, limit in zip([*kinds, resource.RLIMIT_CORE], [max_bytes, max_file_bytes, 0], strict=True):
        _, hard = resource.getrlimit(kind)
        wanted = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        try:
            resource.setrlimit(kind, (wanted, hard if kind != resource.RLIMIT_CORE else wanted))
        except (OSError, ValueError):  # this system does not bound it
            continue
