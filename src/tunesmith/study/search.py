"""A search over settings: trials judged on validation rows alone, the hopeless given up, gone on with when killed."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunesmith.engine.rank_group import num_cores
from tunesmith.kernels.waiting import cores_shared
from tunesmith.run import RunConfig
from tunesmith.run.environment import machine
from tunesmith.run.guards import check_method
from tunesmith.run.training import output_name
from tunesmith.study.executing import MakeProcess, processes_for
from tunesmith.study.folder import RUNS
from tunesmith.study.sampler import Sampler, require_optuna
from tunesmith.study.search_config import SearchConfig
from tunesmith.study.search_record import SearchRecord
from tunesmith.study.search_space import Setting, read_space, with_values
from tunesmith.study.search_trial import TrialEnd, follow_trial
from tunesmith.study.training_process import LocalProcess, LostProcessError, TrainingProcess
from tunesmith.study.workplace import HOW_TO_RESUME, Workplace, workplace
from tunesmith.types import InputError, RunError

MOST_ATTEMPTS = 3
"""How often a trial is begun whose process ends without a word, before it counts as failed."""

Watching = Callable[[Mapping[str, Any], Mapping[str, Any] | None, int], None]
"""Told of every trial that has ended, with the best so far and how many are wanted."""


@cores_shared()
def run_search(
    config: SearchConfig, *, overwrite: bool = False, watching: Watching = lambda _trial, _best, _wanted: None
) -> Path:
    """Search as ``config`` says and return the study's folder.

    A search that was killed goes on from where it was when this is called again with the same configuration, and one
    that is finished goes on when it is called with more trials.

    Raises:
        InputError: The configuration, what is to be searched, the data or the model cannot be used; nothing was
            trained.
        MissingExtraError: Optuna is not installed.
        RunError: No trial came to its end; or the disk takes nothing any more, and the same command goes on.
        Stopped: A signal asked to stop; the same command goes on.
    """
    require_optuna()
    base = config.run_config(output=None)
    settings = read_space(config.over, base)
    check_method(base)
    place = Path(config.output or default_output(config))
    with workplace(place, _asked(config), overwrite=overwrite, first="trial") as work:
        search = _Search(config, base, settings, work, watching)
        with work.preparing():
            search.prepare()
        search.go()
    return place


def default_output(config: RunConfig) -> str:
    """Return a folder name from data and model."""
    return output_name(config.data.path, config.model.name, kind="search")


@dataclass
class _Search:
    """Goes through the trials; journal and sampler are used by one thread at a time."""

    config: SearchConfig
    base: RunConfig
    settings: list[Setting]
    work: Workplace
    watching: Watching
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _points: dict[int, list[tuple[int, float]]] = field(default_factory=dict)

    def prepare(self) -> None:
        """Read the rows, and take in what the journal tells of trials before."""
        data = self.work.workshop.data(self.base)
        if "validation" not in data.prepared.splits:
            raise InputError(
                "There are no validation rows to judge trials by.",
                "Give --data.validation FILE, or set --data.validation_fraction above 0.",
            )
        self.metric = self.base.train.early_stopping.metric or data.task.main_metric()
        directions = {**data.task.higher_is_better, "loss": False}
        if self.metric not in directions:
            raise InputError(
                f"train.early_stopping.metric: '{self.metric}' is no metric of the task {data.task.name}.",
                f"Choose one of {', '.join(directions)}.",
            )
        self.higher = directions[self.metric]
        facts = {
            "task": data.task.name,
            "model": self.config.model.name,
            "method": self.config.method.name,
            "data": self.config.data.path,
            "rows": {split: len(rows) for split, rows in data.prepared.splits.items()},
            "machine": self.work.workshop.once(["machine"], machine),
            "num_trials": self.config.trials,
            "workers": self.config.workers,
        }
        folder, journal = self.work.folder, self.work.journal
        self.record = SearchRecord(self.base, self.settings, folder, journal, self.metric, self.higher, facts)
        trials = self.record.trials()
        seed = (self.base.train.seed + len(trials)) % 2**32
        self.sampler = Sampler(self.settings, self.base, higher=self.higher, prune=self.config.prune, seed=seed)
        for trial in trials:
            if trial["state"] != "running":
                self.sampler.learn(trial["values"], trial["state"], trial["value"], trial["points"], trial["number"])
        self._interrupted = [trial for trial in trials if trial["state"] == "running"]
        self._next = len(trials)

    def go(self) -> None:
        """Follow trials until there are as many as wanted, and write what came of them."""
        self.record.write({})
        (self.work.folder.path / RUNS).mkdir(exist_ok=True)
        with processes_for(self.config, self.work, [self.base], self.config.workers) as elsewhere:
            if elsewhere is not None:
                self._follow_side_by_side(elsewhere[0])
            elif self.config.workers > 1:
                self._follow_side_by_side(self._local_process())
            else:
                while (found := self._take()) is not None:
                    self._follow(*found)
        self.work.stop.advice = f"Stopped while the results were computed. Bring it to its end with: {HOW_TO_RESUME}"
        if self.record.best() is None:
            reasons = dict.fromkeys(trial["reason"] for trial in self.record.trials())
            raise RunError(f"None of the {self._next} trials came to its end: {'; '.join(reasons)}.")
        self.record.write(self.sampler.importance(), is_over=True)

    # ---- one after the other ---------------------------------------------------------------------

    def _follow(self, number: int, values: Mapping[str, Any]) -> None:
        self.work.stop.check()
        self.work.stop.advice = f"Stopped in trial {number}. Continue with: {HOW_TO_RESUME}"
        began = time.monotonic()
        report = self._reporter(number)
        end = follow_trial(self._config_of(number, values), self.work.workshop, self.metric, report, higher=self.higher)
        self._ended(number, values, end, time.monotonic() - began)

    # ---- side by side ----------------------------------------------------------------------------

    def _local_process(self) -> MakeProcess:
        """Return what starts a process of this machine, with its part of the cores."""
        share = max(1, num_cores() // self.config.workers)
        return lambda place: LocalProcess(self.work.folder.path / RUNS / f"worker-{place}.log", share)

    def _follow_side_by_side(self, make: MakeProcess) -> None:
        """Let several processes follow trials; a thread waits for each."""
        self.work.workshop.close()
        self.work.stop.advice = f"Stopped. Continue with: {HOW_TO_RESUME}"
        workers: list[TrainingProcess] = []
        failures: list[BaseException] = []
        threads = [
            threading.Thread(target=self._work, args=(name, make, workers, failures), daemon=True)
            for name in range(1, self.config.workers + 1)
        ]
        try:
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                threads[0].join(0.1)
                self.work.stop.check()
        finally:
            with self._lock:
                self._is_over = True
                for worker in workers:
                    worker.stop()
            for thread in threads:
                thread.join()
        if failures:
            raise failures[0]

    def _work(
        self, place: int, make: MakeProcess, workers: list[TrainingProcess], failures: list[BaseException]
    ) -> None:
        """Have trials followed by a process until none is left, or it is asked to stop."""
        worker: TrainingProcess | None = None
        try:
            while (found := self._take()) is not None:
                number, values = found
                if worker is None:
                    worker = make(place)
                    workers.append(worker)
                began = time.monotonic()
                config, report = self._config_of(number, values), self._reporter(number)
                try:
                    end = worker.follow(config, self.metric, report, higher=self.higher)
                    if end is None and not self._is_over:  # as a cluster does that wants its machine back
                        raise LostProcessError("somebody asked its process to stop")
                except LostProcessError as error:
                    if self._is_over:
                        raise
                    worker.close()
                    worker, end = None, self._after_crash(number, error)
                    if end is None:
                        self._interrupted.append({"number": number, "values": values})
                        continue
                if end is None:
                    return
                self._ended(number, values, end, time.monotonic() - began)
        except BaseException as error:
            if not self._is_over:
                failures.append(error)
        finally:
            if worker is not None:
                worker.close()

    def _after_crash(self, number: int, error: RunError) -> TrialEnd | None:
        """Return the end of a trial whose process was killed too often; None where it is begun again."""
        with self._lock:
            begun = [event for event in self.work.journal.of("begun") if event["number"] == number]
        if len(begun) < MOST_ATTEMPTS:
            return None
        return TrialEnd("failed", None, reason=str(error))

    # ---- what all of them share ------------------------------------------------------------------

    _is_over: bool = False

    def _take(self) -> tuple[int, dict[str, Any]] | None:
        """Return the next trial: one that was interrupted, or a new one; None where there are as many as wanted."""
        with self._lock:
            while self._interrupted and not self._is_over:
                trial = self._interrupted.pop(0)
                self.sampler.draw_again(trial["number"], trial["values"])
                begun = [event for event in self.work.journal.of("begun") if event["number"] == trial["number"]]
                if len(begun) >= MOST_ATTEMPTS:
                    reason = f"its training ended {len(begun)} times without a word, perhaps for lack of memory"
                    self._ended(trial["number"], trial["values"], TrialEnd("failed", None, reason=reason), 0.0)
                    continue
                self.work.journal.add("begun", number=trial["number"])
                return trial["number"], dict(trial["values"])
            if self._is_over or self._next >= self.config.trials:
                return None
            number, self._next = self._next, self._next + 1
            values = self.sampler.draw(number)
            self.work.journal.add("drawn", number=number, values=values)
            self.work.journal.add("begun", number=number)
            return number, values

    def _config_of(self, number: int, values: Mapping[str, Any]) -> RunConfig:
        place = self.work.folder.path / self.record.place(number)
        return with_values(self.base, values).model_copy(update={"output": str(place)})

    def _reporter(self, number: int) -> Callable[[int, float], bool]:
        def report(part: int, value: float) -> bool:
            with self._lock:
                self._points.setdefault(number, []).append((part, value))
                return self.sampler.knows(number, part, value)

        return report

    def _ended(self, number: int, values: Mapping[str, Any], end: TrialEnd, seconds: float) -> None:
        with self._lock:
            points = self._points.pop(number, [])
            value = end.value if end.value is not None and math.isfinite(end.value) else None
            self.work.journal.add(
                "ended",
                number=number,
                state=end.state,
                value=value,
                loss=end.loss,
                reason=end.reason,
                seconds=seconds,
                points=[list(point) for point in points],
            )
            self.sampler.learn(values, end.state, value, points, number)
            self.record.write({})
            trial = next(one for one in self.record.trials() if one["number"] == number)
            self.watching(trial, self.record.best(), self.config.trials)


def _asked(config: SearchConfig) -> dict[str, Any]:
    """Return what makes a search this one: how it is computed, and how long it goes on, may change."""
    return {"kind": "search"} | config.asked("trials")
