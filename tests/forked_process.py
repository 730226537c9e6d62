"""Processes that may be killed, each forked from one that has torch and the rest imported: none pays for that anew."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

_FORKING = multiprocessing.get_context("forkserver")
_FORKING.set_forkserver_preload(
    [
        "tunesmith.cli.train",
        "tunesmith.run.training",
        "tunesmith.study",
        "transformers.models.bert.modeling_bert",
        "transformers.models.llama.modeling_llama",
        "sklearn.linear_model",
        "torch.distributed.fsdp",
    ]
)

TIMEOUT_SECONDS = 240.0


@cache
def _place() -> str:
    """Return a folder for what processes read and write, deleted when this one ends."""
    folder = tempfile.mkdtemp(prefix="tunesmith-forked-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


class ForkedProcess:
    """A process that calls a function of an importable module; what it writes is kept."""

    def __init__(self, call: Callable[..., object], *arguments: object, stdin: str = "") -> None:
        folder = Path(tempfile.mkdtemp(dir=_place()))
        self._streams = [folder / name for name in ("stdin", "stdout", "stderr")]
        self._streams[0].write_text(stdin, encoding="utf-8")
        wanted = (call, arguments, dict(os.environ), self._streams)
        self._process = _FORKING.Process(target=_begin, args=wanted, daemon=True)
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        return self._process.is_alive()

    @property
    def stdout(self) -> str:
        return self._streams[1].read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return self._streams[2].read_text(encoding="utf-8")

    def send_signal(self, number: int) -> None:
        """Send a signal; one that has ended gets none."""
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, timeout: float = TIMEOUT_SECONDS) -> int:
        """Wait for its end and return the status as ``subprocess`` gives it: that of its exit, or -n of signal n."""
        self._process.join(timeout)
        if self._process.exitcode is None:
            self._process.kill()
            raise AssertionError(f"it has not ended after {timeout} seconds: {self.stderr}")
        return self._process.exitcode


def command(*arguments: str, stdin: str = "") -> ForkedProcess:
    """Start ``tunesmith`` with arguments, as a shell does."""
    return ForkedProcess(_run_command, list(arguments), stdin=stdin)


def _run_command(arguments: list[str]) -> None:
    from tunesmith.cli import main

    sys.argv = ["tunesmith", *arguments]
    main()


def _begin(call: Callable[..., object], arguments: tuple[Any, ...], environment: dict[str, str], streams: Any) -> None:
    os.environ.clear()
    os.environ.update(environment)
    for number, path in enumerate(streams):
        descriptor = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode) for number, mode in enumerate("rww"))
    call(*arguments)
    sys.stdout.flush()
