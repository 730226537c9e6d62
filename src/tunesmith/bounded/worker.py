"""The caller's side of a process with limits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from types import TracebackType
from typing import Self

from tunesmith.bounded.child import ANSWER, DONE, ENDED, FAILED, NO_MEMORY, READY, REFUSED, REQUEST
from tunesmith.types import InputError, Problem, RunError

_START = """\
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.path[:] = {path!r}
from tunesmith.bounded.child import main
main({target!r})
"""
_KEPT_VARIABLES = ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "SYSTEMROOT", "TMPDIR", "LANG", "LC_ALL")
"""Of the environment, which may hold secrets; what is needed to start is passed on."""
_FOR_PROCESS = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others reserve more than they use
    "MALLOC_ARENA_MAX": "2",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
_OTHERS_SIGNALS = {
    getattr(signal, name).value
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1")
    if hasattr(signal, name)
}
"""What schedulers and terminals send to all processes of a job; it says nothing of the work."""
_ATTEMPTS = 3
_NOT_STARTED = "The process in which files and templates of strangers are read could not be started"


_workers: weakref.WeakSet[Worker] = weakref.WeakSet()


def _after_fork() -> None:
    """Give the workers of a forked copy locks of its own: who holds them is the parent's business."""
    for worker in _workers:
        worker._lock = threading.Lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_after_fork)


class StoppedError(Exception):
    """Work was ended because it asked for too much, or broke off; the message says why (``it takes ...``)."""


class Worker:
    """Calls one function of bytes to bytes in another process, started when first asked and again after its death.

    Threads share it, one request at a time. A forked copy of the caller starts a process of its own.
    """

    def __init__(self, target: str) -> None:
        """``target`` is ``module:function``."""
        self._target = target
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[[int, subprocess.Popen[bytes]], Worker] | None = None
        self._owner = 0
        _workers.add(self)

    def ask(self, request: bytes, *, seconds: float, max_bytes: int, max_file_bytes: int = 0) -> bytes:
        """Return the function's answer, got within ``seconds`` of processor time and ``max_bytes`` of memory.

        No file may become longer than ``max_file_bytes``.

        Raises:
            InputError, RunError: The function raised it.
            StoppedError: It took too long or too much, or raised something else.
        """
        frame = REQUEST.pack(seconds, max_bytes, max_file_bytes, len(request)) + request
        with self._lock:
            kind, content = self._answered(frame, seconds)
        if kind == DONE:
            return content
        if kind == REFUSED:
            raise InputError([Problem(**{**one, "rows": tuple(one["rows"])}) for one in json.loads(content)])
        if kind == ENDED:
            raise RunError(content.decode("utf-8"))
        if kind == NO_MEMORY:
            raise StoppedError(f"it asks for more than {max_bytes >> 20} MB of memory")
        assert kind == FAILED, kind
        raise StoppedError(f"it breaks off: {content.decode('utf-8')}")

    def close(self) -> None:
        """End the process; a later request starts another."""
        with self._lock:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _answered(self, frame: bytes, seconds: float) -> tuple[int, bytes]:
        """Return the answer to a request; asked again where the process ended, but not by what it was asked."""
        for attempt in range(1, _ATTEMPTS + 1):
            process = self._running()
            try:
                return _exchange(process, frame)
            except EOFError:
                status = process.wait()
                self._stop()
                if not _ended_by_others(status) or attempt == _ATTEMPTS:
                    raise StoppedError(_reason(status, seconds)) from None
            except BaseException:
                # An answer that nobody waits for must not be taken for the next one's.
                self._stop()
                raise
        raise AssertionError  # the last attempt returns or raises

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._owner == os.getpid() and self._process.poll() is None:
            return self._process
        self._stop()
        code = _START.format(
            path=[entry for entry in sys.path if entry],  # never the current folder: it may hold anything
            target=self._target,
        )
        environment = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ} | _FOR_PROCESS
        for _ in range(_ATTEMPTS):
            self._process = process = _start(code, environment)
            self._owner = os.getpid()
            self._end = weakref.finalize(self, _ended, self._owner, process)
            try:
                assert process.stdout is not None
                if process.stdout.read(len(READY)) == READY:
                    return process
                status = process.wait()
            except BaseException:
                self._stop()
                raise
            self._stop()
            if not _ended_by_others(status):
                break
        raise RunError(
            f"{_NOT_STARTED}: it ended at once (status {status}).\n  → Look whether 'import tunesmith' works in a new "
            f"process of {sys.executable}."
        )

    def _stop(self) -> None:
        if self._end is not None:
            self._end()
        self._process = self._end = None


def _start(code: str, environment: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start the process, in a group of its own: Ctrl-C in a terminal goes to all of the foreground's."""
    if not sys.executable or getattr(sys, "frozen", False):
        raise RunError(f"{_NOT_STARTED}: this program has no Python interpreter of its own.")
    try:
        return subprocess.Popen(
            [sys.executable, "-I", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            process_group=0 if os.name == "posix" else None,
        )
    except OSError as error:
        raise RunError(f"{_NOT_STARTED}: {error.strerror or error}.") from error


def _ended_by_others(status: int) -> bool:
    """Say whether a process ended by what was sent to it, or since it was not needed."""
    return status == 0 or -status in _OTHERS_SIGNALS


def _exchange(process: subprocess.Popen[bytes], frame: bytes) -> tuple[int, bytes]:
    """Send a frame and return the answer; ``EOFError`` when the process ended instead."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(frame)
        process.stdin.flush()
    except BrokenPipeError:
        raise EOFError from None
    head = process.stdout.read(ANSWER.size)
    if len(head) < ANSWER.size:
        raise EOFError
    kind, size = ANSWER.unpack(head)
    content = process.stdout.read(size)
    if len(content) < size:
        raise EOFError
    return kind, content


def _reason(status: int, seconds: float) -> str:
    if status == -getattr(signal, "SIGPROF", 0):
        return f"it takes more than {seconds:.3g} seconds"
    name = signal.Signals(-status).name if -status in set(signal.Signals) else f"status {status}"
    return f"it breaks off ({name})"


def _ended(owner: int, process: subprocess.Popen[bytes]) -> None:
    if owner != os.getpid():
        return  # a fork's copy: the process is its parent's
    with contextlib.suppress(OSError):
        process.kill()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            with contextlib.suppress(OSError):
                stream.close()
    process.wait()
