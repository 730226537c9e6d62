"""A process that trains for a study: asked on standard input, answering on standard output, a JSON line each.

It is asked to follow a trial of a search, ``{"kind": "follow", "config", "metric", "higher"}``, and answers
``{"kind": "report", "part", "value"}`` (whereupon it is told ``{"prune": ..}``), and at the end ``{"kind": "end",
"state", "value", "loss", "reason"}``. Or it is asked to train, ``{"kind": "train", "config", "until"}``, and answers
``{"kind": "trained", "reason", "warnings", "seconds"}``. It ends with whoever started it: when standard input closes.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

from tunesmith.files.lock import wait_until_free
from tunesmith.run import Observer, RunConfig, Workshop, train
from tunesmith.run.directory import RunDirectory
from tunesmith.run.signals import Stopped
from tunesmith.study.search_trial import Report, TrialEnd, follow_trial
from tunesmith.study.workplace import HOW_TO_RESUME
from tunesmith.types import DiskError, InputError, Problem, RunError

LET_GO_SECONDS = 60.0
"""How long a folder may stay locked by a process that was lost: a system takes a moment to end one."""


class LostProcessError(RunError):
    """A process ended without a word; what it worked on can be gone on with."""


@dataclass(frozen=True, slots=True)
class Trained:
    """What came of a training, besides what is in its folder."""

    reason: str
    """Why it could not go on; empty where it came to its end."""
    warnings: tuple[str, ...]
    seconds: float


class TrainingProcess(ABC):
    """A process that trains, from the outside, wherever it is. One thread uses it, but for ``stop``."""

    def follow(self, config: RunConfig, metric: str, report: Report, *, higher: bool) -> TrialEnd | None:
        """Have a trial followed to its end; None where the process was asked to stop meanwhile.

        Raises ``LostProcessError`` where it ended without a word, and ``DiskError`` where the disk takes nothing any
        more.
        """
        self._tell({"kind": "follow", "config": _plain(self._sent(config)), "metric": metric, "higher": higher})
        while (said := self._hear_or_stop()) is not None:
            if said["kind"] == "report":
                self._tell({"prune": report(said["part"], said["value"])})
            else:
                return TrialEnd(said["state"], said["value"], said["loss"], said["reason"])
        return None

    def train(self, config: RunConfig, until: int | None) -> Trained | None:
        """Have a run trained up to a step, or to its end; None and errors as of ``follow``."""
        self._tell({"kind": "train", "config": _plain(self._sent(config)), "until": until})
        said = self._hear_or_stop()
        return None if said is None else Trained(said["reason"], tuple(said["warnings"]), said["seconds"])

    def _sent(self, config: RunConfig) -> RunConfig:
        """Return a configuration as the process has to read it."""
        return config

    def _hear_or_stop(self) -> dict[str, Any] | None:
        """Return the next answer; None where the process was asked to stop."""
        said = self._hear()
        if said["kind"] == "disk":
            raise DiskError(said["what"], "Mend that, then continue with: the same command")
        return None if said["kind"] == "stopped" else said

    @abstractmethod
    def stop(self) -> None:
        """Ask the process to stop at the next safe point."""

    @abstractmethod
    def close(self) -> None:
        """End the process and wait for it."""

    @abstractmethod
    def _tell(self, message: Mapping[str, Any]) -> None:
        """Send a message. Raises ``LostProcessError``."""

    @abstractmethod
    def _hear(self) -> dict[str, Any]:
        """Wait for the next answer. Raises ``LostProcessError``."""


class LocalProcess(TrainingProcess):
    """Such a process on this machine."""

    def __init__(self, log: Path, num_threads: int) -> None:
        """Start it with ``num_threads`` cores of its own; what it writes besides answers goes to ``log``."""
        threads = {name: str(num_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}
        self._log = log.open("ab")
        # A session of its own: Ctrl-C is for the study, which then asks its processes to stop.
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

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.terminate()

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def tell_line(self, line: str) -> None:
        """Send a message as it is written."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            code = self._process.wait()
            raise LostProcessError(f"its process ended (exit status {code}); see {self._log.name}") from None

    def hear_line(self) -> str:
        """Wait for the next answer, as it is written."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            raise LostProcessError(f"its process ended without a word (exit status {code}); see {self._log.name}")
        return line

    def _tell(self, message: Mapping[str, Any]) -> None:
        self.tell_line(json.dumps(message))

    def _hear(self) -> dict[str, Any]:
        return cast("dict[str, Any]", json.loads(self.hear_line()))


class WarningsKept(Observer):
    """Keeps what a training warns of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def noted(self, problem: Problem) -> None:
        if problem.severity == "warning":
            self.warnings.append(problem.message)


def _plain(config: RunConfig) -> dict[str, Any]:
    """Return a configuration as it is sent: what was given, and nothing that says nothing."""
    values = config.model_dump(mode="json", exclude_unset=True, serialize_as_any=True)
    return {name: value for name, value in values.items() if value is not None and name != "version"}


def _train(config: RunConfig, workshop: Workshop, until: int | None) -> Trained:
    """Train, or go on with a training, and say why it could not go on."""
    place, watching, began = RunDirectory(Path(str(config.output))), WarningsKept(), time.monotonic()
    reason = ""
    wait_until_free(place.path, LET_GO_SECONDS)
    try:
        train(
            config,
            resume=place.has_begun,
            observers=[watching],
            workshop=workshop,
            until=until,
            how_to_resume=HOW_TO_RESUME,
        )
    except DiskError:
        raise
    except (RunError, InputError) as error:
        reason = str(error).split("\n", 1)[0].rstrip(".")
    return Trained(reason, tuple(watching.warnings), time.monotonic() - began)


def main() -> int:
    """Do what is asked until standard input closes."""
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
    with Workshop() as workshop:
        while True:
            wish = asked.get()
            try:
                config = build(RunConfig, cast("dict[str, Any]", wish["config"]))
                if wish["kind"] == "train":
                    answer("trained", **asdict(_train(config, workshop, wish["until"])))
                    continue
                wait_until_free(Path(str(config.output)), LET_GO_SECONDS)
                end = follow_trial(config, workshop, wish["metric"], report, higher=wish["higher"])
            except DiskError as error:
                answer("disk", what=error.what)
                return 1
            except Stopped:
                answer("stopped")
                return 0
            answer("end", **asdict(end))
