"""Where a contest stands, as its watchers are told of it: a table of methods and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from tunesmith.types import Problem

State = Literal["waiting", "tuning", "training", "done", "failed", "cut"]


@dataclass
class Cell:
    """A run that counts: one method with one seed."""

    state: State = "waiting"
    value: float | None = None
    """The test metric, once it is there."""


@dataclass
class Line:
    """What is known of a method."""

    name: str
    title: str
    cells: dict[int, Cell]
    """By seed."""
    rates: list[tuple[float, float | None]] = field(default_factory=list)
    """Learning rates tried, with the best validation value of each."""
    chosen_rate: float | None = None
    state: State = "waiting"
    reason: str = ""

    @property
    def mean(self) -> float | None:
        """The mean of the test metric over the seeds that are done."""
        values = [cell.value for cell in self.cells.values() if cell.value is not None]
        return sum(values) / len(values) if values else None


@dataclass
class Board:
    """The whole contest. It changes as the contest goes on; watchers read it and keep nothing of it."""

    metric: str
    higher_is_better: bool
    lines: dict[str, Line]
    working: str = ""
    """What is being done now, in words."""
    progress: tuple[int, int] | None = None
    """Steps made and steps in all of the training under way."""
    spent: float = 0.0
    """Seconds."""
    budget: float | None = None
    left: float | None = None
    """Seconds that the rest will take, as far as that can be said."""

    @property
    def best(self) -> Line | None:
        """The method with the best mean so far."""
        known = [line for line in self.lines.values() if line.mean is not None]
        sign = 1 if self.higher_is_better else -1
        return max(known, key=lambda line: sign * (line.mean or 0.0), default=None)


class Watcher:
    """Watches a contest. Override what interests."""

    def changed(self, board: Board) -> None:
        """Call whenever something has changed: a step, a state, a value."""

    def noted(self, problem: Problem) -> None:
        """Call with every note or warning."""

    def close(self) -> None:
        """Call once, also after an error; release what is held."""


class Watchers(Watcher):
    """Passes everything on to several watchers."""

    def __init__(self, watchers: Sequence[Watcher]) -> None:
        self._watchers = list(watchers)

    def changed(self, board: Board) -> None:
        for watcher in self._watchers:
            watcher.changed(board)

    def noted(self, problem: Problem) -> None:
        for watcher in self._watchers:
            watcher.noted(problem)

    def close(self) -> None:
        while self._watchers:
            self._watchers.pop().close()
