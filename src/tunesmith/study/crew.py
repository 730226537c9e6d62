"""Several processes that train for a study at the same time, and what comes of each training."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from tunesmith.run import RunConfig
from tunesmith.run.signals import StopRequests
from tunesmith.study.training_process import LostProcessError, Trained, TrainingProcess
from tunesmith.types import RunError

MOST_ATTEMPTS = 3
"""How often a training is begun whose process is lost, before it counts as failed."""
WAIT_SECONDS = 0.2
"""Between two looks whether somebody asked to stop."""


@dataclass(frozen=True, slots=True)
class _Job:
    config: RunConfig
    until: int | None
    done: Future[Trained] = field(default_factory=Future)


class Crew:
    """Gives trainings to ``number`` processes as they become free; a thread waits for each.

    A process that is lost is replaced, and its training gone on with, up to ``MOST_ATTEMPTS`` times. As a context
    manager it ends all of them.
    """

    def __init__(self, make: Callable[[int], TrainingProcess], number: int, stop: StopRequests) -> None:
        """Begin with nobody at work: ``make`` is called, with the number of a place from 1, once there is work."""
        self._make = make
        self._stop = stop
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._processes: dict[int, TrainingProcess] = {}
        self._is_over = False
        self._waiting: list[_Job] = []
        self.number = number
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        for job in self._waiting:
            job.done.cancel()
        for process in list(self._processes.values()):
            process.stop()
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()

    def train(self, config: RunConfig, until: int | None) -> Future[Trained]:
        """Have a run trained as soon as somebody is free, and return where its end will be."""
        if len(self._threads) < self.number:
            thread = threading.Thread(target=self._work, args=(len(self._threads) + 1,), daemon=True)
            self._threads.append(thread)
            thread.start()
        job = _Job(config, until)
        self._waiting.append(job)
        self._jobs.put(job)
        return job.done

    def wait(self, future: Future[Trained]) -> Trained:
        """Wait for the end of a training. Raises ``Stopped`` and ``DiskError`` as ``train`` does."""
        while not future.done():
            self._stop.check()
            wait([future], WAIT_SECONDS)
        self._stop.check()
        return future.result()

    def _work(self, place: int) -> None:
        while (job := self._jobs.get()) is not None:
            if self._is_over or not job.done.set_running_or_notify_cancel():
                continue
            try:
                found = self._train(place, job)
            except BaseException as error:
                job.done.set_exception(error)
            else:
                if found is None:  # it was asked to stop
                    job.done.set_exception(CancelledError())
                else:
                    job.done.set_result(found)
        if (process := self._processes.pop(place, None)) is not None:
            process.close()

    def _train(self, place: int, job: _Job) -> Trained | None:
        """Train, with another process where one is lost."""
        lost: RunError | None = None
        for _ in range(MOST_ATTEMPTS):
            try:
                if place not in self._processes:
                    self._processes[place] = self._make(place)
                found = self._processes[place].train(job.config, job.until)
                if found is not None:
                    return found
                lost = RunError("somebody asked its process to stop")  # as a cluster does that wants its machine back
            except LostProcessError as error:
                lost = error
            if (process := self._processes.pop(place, None)) is not None:
                with suppress(RunError):
                    process.close()
            if self._is_over:
                return None
        reason = f"its training ended {MOST_ATTEMPTS} times without a word, perhaps for lack of memory ({lost})"
        return Trained(reason, (), 0.0)
