"""Who may watch a run: the console, TensorBoard, or the user's own code. None of them can take it with them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tunesmith.types import Problem, StepInfo


@dataclass(frozen=True, slots=True)
class RunPlan:
    """What is about to be trained."""

    task: str
    model: str
    method: str
    layout: str
    precision: str
    device: str
    num_parameters: int
    num_trained_parameters: int
    num_rows: dict[str, int]
    total_steps: int
    first_step: int
    """Steps already made, when a run is resumed."""
    folder: Path
    decided: str = ""
    """What of the configuration nobody gave and what it became, in one line."""
    num_ranks: int = 1
    """Processes that train together."""


class Observer:
    """Watches a run. Override what interests.

    One that raises an ``Exception`` is told nothing any more, and a warning says so; the run goes on.
    """

    def started(self, plan: RunPlan) -> None:
        """Call before the first step."""

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        """Call after every optimizer step."""

    def evaluated(self, record: dict[str, Any]) -> None:
        """Call after every evaluation with its line of ``metrics.jsonl``."""

    def noted(self, problem: Problem) -> None:
        """Call with every note or warning, as it arises."""

    def working(self, what: str) -> None:
        """Call when a stage that may take a while begins: ``reading data``, ``tokenising``."""

    def finished(self, summary: dict[str, Any]) -> None:
        """Call at the end with the content of ``training.json``."""

    def fetching(self, text: str, *, lasting: bool) -> None:
        """Call with what is fetched from elsewhere, and how far it is (``tunesmith.files.fetching``)."""
        if lasting:
            self.noted(Problem("note", text))
        else:
            self.working(text)

    def close(self) -> None:
        """Call once, also after an error; release what is held."""


class Observers(Observer):
    """Passes everything on to several observers, and lets go of those that fail."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = list(observers)
        self._closing = list(observers)
        self.failures: list[Problem] = []
        """Which observers failed, and how."""

    def add(self, observer: Observer) -> None:
        """Let ``observer`` watch from now on, before all others."""
        self._observers.insert(0, observer)
        self._closing.insert(0, observer)

    def part_with(self, observer: Observer) -> None:
        """Close ``observer`` before the others, if it is still there."""
        if observer in self._closing:
            self._closing.remove(observer)
            self._try(observer, lambda one: one.close())
        if observer in self._observers:
            self._observers.remove(observer)

    def started(self, plan: RunPlan) -> None:
        self._tell(lambda observer: observer.started(plan))

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        self._tell(lambda observer: observer.stepped(info, total_steps))

    def evaluated(self, record: dict[str, Any]) -> None:
        self._tell(lambda observer: observer.evaluated(record))

    def noted(self, problem: Problem) -> None:
        self._tell(lambda observer: observer.noted(problem))

    def working(self, what: str) -> None:
        self._tell(lambda observer: observer.working(what))

    def finished(self, summary: dict[str, Any]) -> None:
        self._tell(lambda observer: observer.finished(summary))

    def close(self) -> None:
        while self._closing:
            with suppress(Exception):  # the work is over, and somebody else's error may be on its way
                self._closing.pop(0).close()

    def _tell(self, call: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            self._try(observer, call)

    def _try(self, observer: Observer, call: Callable[[Observer], None]) -> None:
        try:
            call(observer)
        except Exception as error:
            self._let_go(observer, error)

    def _let_go(self, observer: Observer, error: Exception) -> None:
        if observer not in self._observers:
            return  # it failed again, while it was told of its failure
        self._observers.remove(observer)
        reason = (str(error) or type(error).__name__).split("\n")[0].rstrip(".")
        problem = Problem(
            "warning",
            f"{type(observer).__name__} failed and is told nothing any more of this run, which goes on "
            f"({type(error).__name__}: {reason}).",
        )
        self.failures.append(problem)
        self.noted(problem)
