"""The course of a contest: every method tuned alike on validation rows, then trained and judged with fresh seeds.

What is decided and what comes of every training is in the journal, and is taken from there by whoever goes on with the
contest: the course is the same whether it was interrupted or not.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tunesmith.readable import duration
from tunesmith.run import RunConfig
from tunesmith.study.board import Board, Line, State, Watchers
from tunesmith.study.contest_config import CompareConfig, Contestant
from tunesmith.study.contest_runs import ContestRuns, Outcome, Training, tuning_seconds
from tunesmith.study.folder import Journal
from tunesmith.study.rate_search import (
    FIRST_SHARE,
    Tried,
    Yardstick,
    best_rate,
    better_half,
    first_stop,
    further_rate,
    num_trainings,
    rounds,
)
from tunesmith.study.time_budget import Cost, Scope, fit
from tunesmith.types import InputError, Problem

OVERRUN = 1.05
"""How much more than what is left of the budget a part of the contest may be expected to take."""


@dataclass(frozen=True, slots=True)
class Settled:
    """What is known of a method before its first training."""

    rate: float
    """Its default learning rate here."""
    steps: int
    cost: Cost


@dataclass
class Course:
    """Goes through a contest from wherever it stands."""

    config: CompareConfig
    contestants: Mapping[str, Contestant]
    reference: str
    runs: ContestRuns
    journal: Journal
    watchers: Watchers
    board: Board
    yardstick: Yardstick
    """What the values are worth that rates are chosen by."""
    saved: Callable[[], None]
    """Called whenever something has changed that the study's record holds."""
    opened: Callable[[], None]
    """Called whenever test rows were opened."""
    settled: dict[str, Settled] = field(default_factory=dict)
    tried: dict[str, dict[float, Tried]] = field(default_factory=dict)
    rates: dict[str, float] = field(default_factory=dict)
    """The rate that each method is judged with."""
    cuts: list[str] = field(default_factory=list)
    num_seeds: int = 0
    """Seeds that time is kept for while rates are tried."""
    num_rates: int = 1
    """Rates that are tried for each method, as far as the time goes."""

    def go(self, settled: Mapping[str, Settled]) -> None:
        """Tune, train and judge everybody."""
        self.settled = dict(settled)
        scope = self._scope_at_first()
        self.num_seeds, self.num_rates = scope.seeds, scope.rates
        for name in set(self.settled) - set(scope.methods):
            self.leave_out(name, "cut", "there was no time for it")
        names = [name for name in self.settled if name in scope.methods]
        if scope.rates > 1:
            self._tune(names, scope.rates)
        else:
            for name in names:
                self.rates[name] = self._line(name).chosen_rate = self.settled[name].rate
        self._judge([name for name in names if name in self.rates])

    # ---- tuning ----------------------------------------------------------------------------------

    def _tune(self, names: Sequence[str], number: int) -> None:
        """Find the rate of every method: as many trials, steps and rows for each."""
        self.tried = {name: {} for name in names}
        self._try_rounds(names, {name: rounds(self.settled[name].rate, number) for name in names})
        finished = {name: better_half(self.tried[name], self.yardstick) for name in names}
        self._begin_rates(finished, whole=True)
        for name in names:
            for rate in self.tried[name]:
                if rate not in finished[name]:
                    self.runs.forget_state(self.contestants[name], rate)
            for rate in finished[name]:
                self._try(name, rate, whole=True)
        if len(self.tried[names[0]]) > 1:
            further = {name: further_rate(self.tried[name], finished[name], self.yardstick) for name in names}
            beyond = {name: rate for name, rate in further.items() if rate is not None and rate not in self.tried[name]}
            self._begin_rates({name: [rate] for name, rate in beyond.items()}, whole=True)
            for name, rate in beyond.items():
                self._try(name, rate, whole=True)
                finished[name].append(rate)
        for name in names:
            self._choose(name, finished[name])

    def _try_rounds(self, names: Sequence[str], planned: Mapping[str, Sequence[Sequence[float]]]) -> None:
        """Follow all rates for a third of the training, a round after the other as far as the time goes."""
        for turn in range(len(planned[names[0]])):
            if turn and not self._has_time_for_tuning(names, len(planned[names[0]][turn])):
                break
            self._begin_rates({name: self._at_once(planned[name], turn) for name in names}, whole=False)
            for name in names:
                for rate in planned[name][turn]:
                    self._try(name, rate, whole=False)

    def _begin_rates(self, rates: Mapping[str, Sequence[float]], *, whole: bool) -> None:
        """Have others begin with what is followed next, where there are others."""
        for name, chosen in rates.items():
            self.runs.begin(self._of_rate(name, rate, whole=whole) for rate in chosen)

    def _choose(self, name: str, finished: Sequence[float]) -> None:
        chosen = best_rate({rate: self.tried[name][rate] for rate in finished}, self.yardstick)
        if chosen is None:
            self.leave_out(name, "failed", "no learning rate that was tried gave a model")
            return
        self.rates[name] = self._line(name).chosen_rate = chosen
        self._set(name, "waiting")

    def _try(self, name: str, rate: float, *, whole: bool) -> None:
        """Follow a rate for a third of the training, or to its end."""
        self._set(name, "tuning", f"{self._line(name).title}, learning rate {rate:g}")
        outcome = self.runs.finish(self._of_rate(name, rate, whole=whole))
        self.tried[name][rate] = Tried(outcome.value, outcome.loss)
        known = dict(self._line(name).rates) | {rate: outcome.value}
        self._line(name).rates = sorted(known.items())
        if whole:
            self.runs.forget_state(self.contestants[name], rate)
        if outcome.reason:
            self.note(Problem("warning", f"{name} with the learning rate {rate:g}: {outcome.reason}."))
        self._changed(outcome)

    def _of_rate(self, name: str, rate: float, *, whole: bool) -> Training:
        steps = self.settled[name].steps
        third = first_stop(steps)
        paused_at = third if whole and rate in self.tried[name] else None
        return self.runs.of_rate(
            self.contestants[name], rate, steps if whole else third, whole=whole, paused_at=paused_at
        )

    def _at_once(self, rounds_of_rates: Sequence[Sequence[float]], turn: int) -> list[float]:
        """Return the rates that may be begun with: those of a round or, where no budget ends them early, of all."""
        later = rounds_of_rates[turn : turn + 1] if self.board.budget is not None else rounds_of_rates[turn:]
        return [rate for one in later for rate in one]

    # ---- judging ---------------------------------------------------------------------------------

    def _judge(self, names: Sequence[str]) -> None:
        """Train every method with every seed, all of them with one before the next; judge each on the test rows.

        How many there is time for is known only now, whatever was foreseen.
        """
        self.runs.workshop.networks.close()  # nothing begins twice alike from here on
        going = list(names)
        for turn in range(self.config.seeds):
            if turn and not self._has_time_for_seeds(going, turn):
                break
            seeds = range(turn, turn + 1 if self.board.budget is not None else self.config.seeds)
            self.runs.begin(
                self.runs.of_seed(self.contestants[name], self.rates[name], self.config.train.seed + 1 + one)
                for one in seeds
                for name in going
            )
            for name in list(going):
                seed = self.config.train.seed + 1 + turn
                self._line(name).cells[seed].state = "training"
                self._set(name, "training", f"{self._line(name).title}, seed {seed}")
                outcome = self.runs.finish(self.runs.of_seed(self.contestants[name], self.rates[name], seed))
                if outcome.is_new and not outcome.reason:
                    place = self.runs.folder.run(self.contestants[name].folder, seed)
                    self.journal.add("opened", folder=place.relative_to(self.runs.folder.path).as_posix())
                    self.opened()
                cell = self._line(name).cells[seed]
                cell.state, cell.value = ("failed", None) if outcome.reason else ("done", outcome.value)
                if outcome.reason:
                    self.leave_out(name, "failed", f"seed {seed}: {outcome.reason}")
                    going.remove(name)
                self._changed(outcome)
        for name in going:
            self._set(name, "done")

    # ---- time ------------------------------------------------------------------------------------

    def _scope_at_first(self) -> Scope:
        """Return how much is done in the time there is, as it was decided when the contest began.

        More time later is time for more seeds: what was tuned in the time there was stays.
        """
        wanted = Scope(tuple(self.settled), self.config.rates, self.config.seeds)
        budget = self.board.budget
        if known := self.journal.of("scope"):
            scope = Scope(tuple(known[0]["methods"]), known[0]["rates"], known[0]["seeds"], tuple(known[0]["cuts"]))
        elif budget is None:
            return wanted
        else:
            costs = {name: one.cost for name, one in self.settled.items()}
            found = fit(wanted, costs, self.reference, budget - self.journal.seconds)
            if found is None:
                cheapest = min((cost.needed(1, 1), name) for name, cost in costs.items())
                least = 1.1 * sum(cost.needed(1, 1) for cost in costs.values())
                raise InputError(
                    f"The budget of {duration(budget)} is too short for a comparison: {cheapest[1]} alone takes about "
                    f"{duration(cheapest[0])} for one seed.",
                    f"Give at least {duration(least)} for one seed of each method, name fewer methods, or train on "
                    "fewer rows (--data.limit).",
                )
            scope = found
            self.journal.add("scope", methods=scope.methods, rates=scope.rates, seeds=scope.seeds, cuts=scope.cuts)
        for cut in scope.cuts:
            self._cut(cut)
        return scope

    def _cost(self, name: str) -> Cost:
        """Return what a method takes, by what it has taken so far."""
        known = [
            event["seconds"] / (FIRST_SHARE if event["stage"] == "third" else 1.0)
            for event in self.journal.of("tried")
            if event["method"] == name and event["stage"] == "third" and not event["reason"]
        ]
        whole = [event for event in self.journal.of("judged") if event["method"] == name and not event["reason"]]
        before = self.settled[name].cost
        if whole:
            return Cost(statistics.median(event["seconds"] for event in whole), 0.0)
        return Cost(statistics.median(known), before.finishing) if known else before

    def _has_time_for_tuning(self, names: Sequence[str], number: int) -> bool:
        """Say whether there is time to try ``number`` more rates of each method, and for everything after that."""
        if self.board.budget is None:
            return True
        after = sum(
            self._cost(name).needed(len(self.tried[name]) + number, self.num_seeds)
            - self._cost(name).training * len(self.tried[name]) * FIRST_SHARE
            for name in names
        )
        tried = len(self.tried[names[0]])
        return self._decide(
            f"rates-{tried}",
            after,
            lambda left: f"{tried} learning rates tried for each method: {left}",
            stays=bool(self.journal.of("judged")),
        )

    def _has_time_for_seeds(self, names: Sequence[str], turn: int) -> bool:
        """Say whether there is time for one more seed of all methods."""
        if self.board.budget is None:
            return True
        after = sum(self._cost(name).needed(1, 1) for name in names)
        done = "1 seed" if turn == 1 else f"{turn} seeds"
        return self._decide(
            f"seeds-{turn}", after, lambda left: f"{done} of each method instead of {self.config.seeds}: {left}"
        )

    def _decide(self, what: str, seconds: float, words: Callable[[str], str], *, stays: bool = False) -> bool:
        """Say whether the time left allows for something that takes ``seconds``.

        What there was no time for is decided anew where there is more time now, unless it ``stays``.
        """
        budget = self.board.budget
        assert budget is not None
        decided = [event for event in self.journal.of("time") if event["what"] == what]
        known = next(
            (event for event in decided if stays or event["enough"] or event.get("budget", math.inf) >= budget), None
        )
        if known is None:
            left = budget - self.journal.seconds
            enough = seconds <= left * OVERRUN
            reason = f"the next would take about {duration(seconds)}, and there were {duration(max(left, 0.0))} left"
            known = self.journal.add(
                "time", what=what, enough=enough, cut="" if enough else words(reason), budget=budget
            )
        if not known["enough"]:
            self._cut(known["cut"])
        return bool(known["enough"])

    def _cut(self, words: str) -> None:
        self.cuts.append(words)
        self.note(Problem("note", f"To keep to the budget: {words}."))

    # ---- saying so -------------------------------------------------------------------------------

    def note(self, problem: Problem) -> None:
        """Keep a note or warning for the study's record, and tell the watchers."""
        if all(event["text"] != str(problem) for event in self.journal.of("note")):
            self.journal.add("note", severity=problem.severity, text=str(problem))
            self.watchers.noted(problem)

    def leave_out(self, name: str, state: State, reason: str) -> None:
        """Go on without a method."""
        line = self._line(name)
        line.state, line.reason = state, reason
        for cell in line.cells.values():
            if cell.state in ("waiting", "training"):
                cell.state = "cut"
        self.rates.pop(name, None)
        self.note(Problem("warning" if state == "failed" else "note", f"{name} is left out: {reason}."))

    def _line(self, name: str) -> Line:
        return self.board.lines[name]

    def _set(self, name: str, state: State, working: str = "") -> None:
        self._line(name).state = state
        self.board.working, self.board.progress = working, None
        self._tell()

    def _changed(self, outcome: Outcome) -> None:
        if outcome.is_new:
            self.saved()
        self._tell()

    def _tell(self) -> None:
        self.board.spent = self.journal.seconds
        self.board.left = self._time_left()
        self.watchers.changed(self.board)

    def _time_left(self) -> float | None:
        """Return the seconds that the trainings to come will take; None until something is known of every method."""
        going = [line for line in self.board.lines.values() if line.state not in ("failed", "cut")]
        methods = [line for line in going if line.name in self.settled]
        if not methods or not all(self._cost(line.name).training for line in methods):
            return None
        return sum(self._tuning_left(line) + self._seeds_left(line) for line in methods)

    def _tuning_left(self, line: Line) -> float:
        """Return the seconds that a method's rates will take until one is chosen."""
        if line.chosen_rate is not None:
            return 0.0
        whole = self._cost(line.name).training * num_trainings(self.num_rates)
        return max(0.0, whole - tuning_seconds(self.journal, line.name))

    def _seeds_left(self, line: Line) -> float:
        waiting = sum(cell.state in ("waiting", "training") for cell in line.cells.values())
        return self._cost(line.name).needed(1, waiting)


def seeds_of(config: RunConfig, number: int) -> list[int]:
    """Return the seeds of the runs that count: others than the one that rates were tried with."""
    return [config.train.seed + 1 + turn for turn in range(number)]


def settled_from(event: Mapping[str, Any]) -> Settled:
    """Return what a line of the journal says of a method."""
    return Settled(event["rate"], event["steps"], Cost(event["training"], event["finishing"]))
