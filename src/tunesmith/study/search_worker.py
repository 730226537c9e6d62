"""A process that follows trials for a search: asked on standard input, answering on standard output, a JSON line each.

It is asked ``{"config", "metric", "higher"}`` and answers ``{"kind": "report", "part", "value"}`` (whereupon it is told
``{"prune": ..}``), and at the end ``{"kind": "end", "state", "value", "loss", "reason"}``. It ends with whoever
started it: when standard input closes.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

from tunesmith.run import RunConfig, Workshop
from tunesmith.run.kept_states import MOST_LOST
from tunesmith.run.signals import Stopped
from tunesmith.study.search_trial import Report, TrialEnd, follow_trial
from tunesmith.types import DiskError, RunError


class Worker:
    """Such a process, from the outside. One thread uses it."""

    def __init__(self, log: Path, num_threads: int) -> None:
        """Start it with ``num_threads`` cores of its own; what it writes besides answers goes to ``log``."""
        threads = {name: str(num_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        self._log = log.open("ab")
        # A session of its own: Ctrl-C is for the search, which then asks its workers to stop.
        self._process = subprocess.Popen(
            [sys.executable, "-c", f"import sys; from {__name__} import main; sys.exit(main())"],
            env={**os.environ, **threads},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            start_new_session=True,
            text=True,
            encoding="utf-8",
        )

    def follow(self, config: RunConfig, metric: str, report: Report, *, higher: bool) -> TrialEnd | None:
        """Have a trial followed to its end; None where the process was asked to stop meanwhile.

        Raises ``RunError`` where it ended without a word, and ``DiskError`` where the disk takes nothing any more.
        """
        plain = config.model_dump(mode="json", exclude_unset=True, serialize_as_any=True)
        self._tell({"config": plain, "metric": metric, "higher": higher})
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            match said["kind"]:
                case "report":
                    self._tell({"prune": report(said["part"], said["value"])})
                case "end":
                    return TrialEnd(said["state"], said["value"], said["loss"], said["reason"])
                case "disk":
                    raise DiskError(said["what"], "Mend that, then continue with: the same command")
                case "stopped":
                    return None
        code = self._process.wait()
        raise RunError(f"its process ended without a word (exit status {code}); see {self._log.name}")

    def stop(self) -> None:
        """Ask the process to stop at the next safe point."""
        if self._process.poll() is None:
            self._process.terminate()

    def close(self) -> None:
        """End the process and wait for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _tell(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            code = self._process.wait()
            raise RunError(f"its process ended (exit status {code}); see {self._log.name}") from None


def main() -> int:
    """Follow trials until standard input closes."""
    from tunesmith.config.build import build

    asked: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what a library prints is no answer

    def listen() -> None:
        for line in sys.stdin:
            asked.put(json.loads(line))
        os._exit(1)  # nobody is left to train for

    def answer(kind: str, **values: Any) -> None:
        answers.write(json.dumps({"kind": kind, **values}) + "\n")
        answers.flush()

    def report(part: int, value: float) -> bool:
        answer("report", part=part, value=value)
        return bool(asked.get()["prune"])

    threading.Thread(target=listen, daemon=True).start()
    with Workshop(keeps_networks=True, most_lost=MOST_LOST) as workshop:
        while True:
            wish = asked.get()
            try:
                config = build(RunConfig, cast("dict[str, Any]", wish["config"]))
                end = follow_trial(config, workshop, wish["metric"], report, higher=wish["higher"])
            except DiskError as error:
                answer("disk", what=error.what)
                return 1
            except Stopped:
                answer("stopped")
                return 0
            answer("end", **asdict(end))
