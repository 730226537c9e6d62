"""A process that has everything imported and trains in forks of itself, which may be killed: a second for each.

It reads a line of JSON for every training and answers with one: see ``Forked.train``.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 300.0


class Forked:
    """Talks to such a process."""

    def __init__(self) -> None:
        command = [sys.executable, str(Path(__file__).resolve())]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def train(self, config: dict[str, Any], **wishes: Any) -> dict[str, Any]:
        """Train in a fork; return ``status`` (as of ``subprocess``), ``seconds`` and ``error`` (type and text).

        ``resume`` and ``overwrite`` go to ``train``. ``kill_after`` seconds, the fork is killed. ``fill`` names a file
        that is to take up the disk of its folder, all but ``leave`` bytes, at the ``moment``: a step's number, or the
        beginning of a stage's name.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"config": config, **wishes}) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate(timeout=60)


def fill_disk(path: Path, leave: int) -> None:
    """Write a file that leaves ``leave`` bytes of its disk free."""
    piece = b"\0" * 4096
    with path.open("ab", buffering=0) as file:
        try:
            while True:
                file.write(piece)
        except OSError:
            pass
        file.truncate(max(0, file.tell() - leave))


def _train(wish: dict[str, Any]) -> None:
    from tunesmith.config.build import build
    from tunesmith.run import Observer, RunConfig, train

    class Fill(Observer):
        def stepped(self, info: Any, total_steps: int) -> None:
            self._fill_at(info.step)

        def working(self, what: str) -> None:
            self._fill_at(what)

        def _fill_at(self, moment: int | str) -> None:
            wanted = wish["moment"]
            if moment == wanted or (isinstance(moment, str) and isinstance(wanted, str) and moment.startswith(wanted)):
                fill_disk(Path(wish["fill"]), wish["leave"])

    observers = [Fill()] if wish.get("fill") else []
    config = build(RunConfig, wish["config"])
    train(config, resume=wish.get("resume", False), overwrite=wish.get("overwrite", False), observers=observers)


def _in_fork(wish: dict[str, Any], report: int) -> None:
    """Train, and end as the command line does: 1 for work that failed, 2 for wrong input, 70 for our own faults."""
    from tunesmith.types import InputError, RunError

    status, error = 0, ""
    try:
        _train(wish)
    except InputError as problem:
        status, error = 2, f"InputError: {problem}"
    except RunError as problem:
        status, error = 1, f"RunError: {problem}"
    except BaseException:
        status, error = 70, traceback.format_exc()
    os.write(report, error.encode("utf-8")[:60_000])
    os._exit(status)


def _import_what_is_imported_late(wish: dict[str, Any]) -> None:
    """Import, once and for all forks, what a training imports on its way; a first one says what that is."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        before = set(sys.modules)
        with suppress(BaseException), tempfile.TemporaryDirectory() as place:
            _train({"config": {**wish["config"], "output": str(Path(place) / "run")}})
        os.write(writing, json.dumps(sorted(set(sys.modules) - before)).encode("utf-8"))
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        names = json.loads(file.read() or b"[]")
    os.waitpid(process, 0)
    for name in names:
        with suppress(Exception):
            importlib.import_module(name)


def _serve(wish: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    began = time.monotonic()
    process = os.fork()
    if not process:
        os.close(reading)
        _in_fork(wish, writing)
    os.close(writing)
    limit = wish.get("kill_after", TIMEOUT_SECONDS)
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            break
        if time.monotonic() - began >= limit:
            os.kill(process, signal.SIGKILL)
            _, status = os.waitpid(process, 0)
            break
        time.sleep(0.001)
    with os.fdopen(reading, "rb") as file:
        error = file.read().decode("utf-8", "replace")
    seconds = time.monotonic() - began
    return {"status": os.waitstatus_to_exitcode(status), "seconds": seconds, "error": error}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    import tunesmith.run
    import tunesmith.run.training
    from tunesmith.kernels.library import library

    library()
    assert tunesmith.run.training
    is_first = True
    for line in sys.stdin:
        wish = json.loads(line)
        if is_first:
            _import_what_is_imported_late(wish)
            is_first = False
        answers.write(json.dumps(_serve(wish)) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
