"""What a person at the terminal sees of several runs that are trained together: one progress line for all."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunesmith.cli import collecting
from tunesmith.cli.console import PLAIN_SECONDS, ConsoleObserver, Meter, used_memory
from tunesmith.readable import compact, duration, number, size
from tunesmith.run.observers import Observer, RunPlan
from tunesmith.types import Problem, StepInfo

if TYPE_CHECKING:
    from rich.console import Console


class ConsoleOfMany(ConsoleObserver):
    """The terminal that the runs share; ``observers`` has one for each of them.

    What several runs have to say in the same words is shown once.
    """

    def __init__(self, names: Sequence[str], *, quiet: bool = False, console: Console | None = None) -> None:
        super().__init__(quiet=quiet, console=console)
        self.observers = [_OneOfMany(self, name) for name in names]
        self._seen: set[str] = set()
        self._stage = ""
        self._num_steps = 0
        """Of all runs together."""

    def working(self, what: str) -> None:
        if what != self._stage:
            self._stage = what
            super().working(what)

    def note(self, problem: Problem, name: str = "") -> None:
        """Show a note or warning, with the name of its run if it is given, unless it has been shown."""
        if str(problem) in self._seen:
            return
        self._seen.add(str(problem))
        named = f"{name}: {problem.message}" if name else problem.message
        self.noted(Problem(problem.severity, named, problem.fix, problem.count, problem.rows))

    def say(self, text: str) -> None:
        """Show a line, unless it has been shown or nobody wants to see lines."""
        if not self.quiet and text not in self._seen:
            self._seen.add(text)
            self._say(text)

    def progressed(self, run: _OneOfMany) -> None:
        """Show how far all runs are, when it is time to; ``run`` has just made a step."""
        run.last = self._num_steps
        if self.quiet:
            return
        now = time.monotonic()
        self._num_steps += 1
        num_recent = 2 * len(self.observers)  # who has made no step for so long makes none any more
        running = [
            one.meter for one in self.observers if one.meter is not None and self._num_steps - one.last < num_recent
        ]
        line = _describe(running, now)
        if self.console.is_terminal:
            self._show_line(line)
            return
        tenth = min(10 * meter.step // max(meter.plan.total_steps, 1) for meter in running)
        if now - self._last_line >= PLAIN_SECONDS or tenth > self._last_tenth:
            self._last_line, self._last_tenth = now, max(tenth, self._last_tenth)
            self._say(line)


class _OneOfMany(Observer):
    """Watches one of the runs."""

    def __init__(self, console: ConsoleOfMany, name: str) -> None:
        self._console = console
        self._name = name
        self.meter: Meter | None = None
        self.last = 0
        """Steps of all runs until its last one."""

    def started(self, plan: RunPlan) -> None:
        collecting.settle()  # by now every run has its model
        self.meter = Meter(plan, time.monotonic())
        say = self._console.say
        say(f"{plan.task} with {plan.model}, method {plan.method}, on {plan.device} in {plan.precision}")
        rows = ", ".join(f"{count:,} {split}" for split, count in plan.num_rows.items())
        trained = compact(plan.num_trained_parameters)
        resumed = f", resumed after step {plan.first_step}" if plan.first_step else ""
        say(f"{self._name}: {trained} parameters trained; rows: {rows}; {plan.total_steps} steps{resumed}")
        if plan.decided:
            say(f"{self._name}: {plan.decided}")

    def working(self, what: str) -> None:
        self._console.working(what)

    def stepped(self, info: StepInfo, total_steps: int) -> None:  # noqa: ARG002
        assert self.meter is not None
        self.meter.update(info)
        self._console.progressed(self)

    def evaluated(self, record: dict[str, Any]) -> None:
        if not self._console.quiet:
            self._console.evaluated({**record, "split": f"{self._name}: {record['split']}"})

    def noted(self, problem: Problem) -> None:
        self._console.note(problem, self._name if self.meter is not None else "")

    def finished(self, summary: dict[str, Any]) -> None:
        self._console.say(
            f"{self._name}: {summary.get('status', 'finished')} after {summary.get('steps', '?')} steps, "
            f"its share of the time {duration(summary.get('seconds'))}"
        )

    def close(self) -> None:
        self._console.close()


def _describe(running: Sequence[Meter], now: float) -> str:
    """Return the progress line."""
    losses = [meter.loss for meter in running if meter.step]
    slowest = max(running, key=lambda meter: meter.plan.total_steps - meter.step)
    total = slowest.plan.total_steps
    parts = [
        f"{len(running)} run{'s' if len(running) > 1 else ''}",
        f"step {slowest.step}/{total}",
        f"loss {number(min(losses))} to {number(max(losses))}" if losses else "",
        f"{compact(slowest.tokens_per_second)} tokens/s",
        size(used_memory(slowest.plan.device)),
        f"{duration(slowest.remaining_seconds(now, total))} left",
    ]
    return "  ".join(filter(None, parts))
