"""A run that predicts: short requests that come close together are computed together, in a thread of their own."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

from tunesmith.kernels.waiting import cores_shared
from tunesmith.run import Run
from tunesmith.run.written_answers import Writing
from tunesmith.serve.errors import RefusedError, overloaded, stopping
from tunesmith.serve.settings import ServeSettings
from tunesmith.types import InputError, RunError

ROWS_TOGETHER = 256

Columns = Mapping[str, Sequence[Any]]


@dataclass(slots=True)
class _Job:
    columns: Columns
    kind: str
    """What is asked: jobs of one kind are computed together."""
    num_rows: int
    found: Future[list[Any]] = field(default_factory=Future)


class PredictingRun:
    """One finished run and the thread that asks its model."""

    def __init__(self, name: str, run: Run, settings: ServeSettings, computing: threading.Lock) -> None:
        """Start the thread. ``computing`` is held while a model of this process works: they share its cores."""
        self.name, self.run = name, run
        self._settings, self._computing = settings, computing
        self._jobs: queue.Queue[_Job | None] = queue.Queue()
        self._num_waiting = 0
        self._lock = threading.Lock()
        self._is_closed = False
        self._thread = threading.Thread(target=self._work, name=f"predicting {name}", daemon=True)
        self._thread.start()

    @property
    def num_waiting(self) -> int:
        """Requests that wait or are at work."""
        return self._num_waiting

    def submit(self, columns: Columns, kind: str = "predict") -> Future[list[Any]]:
        """Return what is going to hold one result per row. Cancelled before its turn, it costs nothing.

        Raises ``RefusedError`` where too many wait, or there are too many rows.
        """
        num_rows = len(next(iter(columns.values())))
        if num_rows > self._settings.max_rows:
            raise RefusedError(
                413, f"{num_rows} rows are more than the {self._settings.max_rows} of one request.", "too_many_rows"
            )
        with self._lock:
            if self._is_closed:
                raise stopping()
            if self._num_waiting >= self._settings.max_waiting:
                raise overloaded()
            self._num_waiting += 1
            job = _Job(columns, kind, num_rows)
            job.found.add_done_callback(self._leave)
            self._jobs.put(job)
        return job.found

    def close(self, seconds: float) -> None:
        """Take no more jobs, and wait for those that were taken."""
        with self._lock:
            self._is_closed = True
            self._jobs.put(None)
        self._thread.join(seconds)

    def _leave(self, _: Future[list[Any]]) -> None:
        with self._lock:
            self._num_waiting -= 1

    def _work(self) -> None:
        held: _Job | None = None
        while True:
            first = held or self._jobs.get()
            held = None
            if first is None:
                return
            # Whoever is alone need not wait for others.
            patience = self._settings.gather_seconds if self._num_waiting > 1 else 0.0
            jobs, num_rows, until = [first], first.num_rows, time.monotonic() + patience
            while num_rows < ROWS_TOGETHER:
                try:
                    job = self._jobs.get(timeout=max(until - time.monotonic(), 0))
                except queue.Empty:
                    break
                if job is None:
                    self._jobs.put(None)
                    break
                if job.kind != first.kind or set(job.columns) != set(first.columns):
                    held = job
                    break
                jobs.append(job)
                num_rows += job.num_rows
            self._answer([job for job in jobs if job.found.set_running_or_notify_cancel()])

    def _answer(self, jobs: Sequence[_Job]) -> None:
        """Compute jobs together; where that fails, each for itself, so that the others do not suffer."""
        if not jobs:
            return
        try:
            results = self._compute(jobs)
        except Exception as error:
            if len(jobs) > 1:
                for job in jobs:
                    self._answer([job])
                return
            jobs[0].found.set_exception(_as_refusal(error))
            return
        start = 0
        for job in jobs:
            job.found.set_result(results[start : start + job.num_rows])
            start += job.num_rows

    def _compute(self, jobs: Sequence[_Job]) -> list[Any]:
        names = list(jobs[0].columns)
        columns = {name: [value for job in jobs for value in job.columns[name]] for name in names}
        with self._computing, cores_shared():
            if jobs[0].kind.startswith("embed"):
                return list(self.run.embed(columns[names[0]], passages=jobs[0].kind == "embed passages"))
            if jobs[0].kind.startswith("rows"):
                return self.run.predict(columns["rows"])
            return self.run.predictor.predict(self.run.task.complete(columns), Writing())


def _as_refusal(error: Exception) -> Exception:
    if isinstance(error, InputError):
        return RefusedError(400, str(error), "bad_rows")
    if isinstance(error, RunError):
        return RefusedError(500, str(error), "failed")
    return error
