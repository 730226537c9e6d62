"""What a person at the terminal sees of a training: one progress line, and the notes above it."""

from __future__ import annotations

import math
import sys
import time
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tunesmith.cli import collecting, terminal
from tunesmith.readable import compact, duration, interval, metric_title, number, size
from tunesmith.run.observers import Observer, RunPlan
from tunesmith.types import Interval, Problem, StepInfo

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

SMOOTHING = 0.95
"""Weight of the past in the loss shown."""
RATE_STEPS = 20
"""Steps over which the token rate is measured."""
PLAIN_SECONDS = 10.0
"""Where there is no terminal, a line is written this often, or at every tenth of the steps."""
MAX_METRICS = 3
FAVOURITES = ("accuracy", "subset_accuracy", "macro_f1", "micro_f1", "r2", "spearman", "mae", "rmse")
"""Metrics that are shown during training, as far as the task has them; its main metric always is."""

_STYLES = {"error": "bold red", "warning": "yellow", "note": "cyan"}


class Meter:
    """The figures of the progress line, from the steps seen so far."""

    def __init__(self, plan: RunPlan, now: float) -> None:
        self.plan = plan
        self.started = now
        self.step = plan.first_step
        self.epoch = 0.0
        self._loss = 0.0
        self._weight = 0.0
        self._measured: Mapping[str, float] = {}
        self._recent: deque[tuple[int, float]] = deque(maxlen=RATE_STEPS)

    def update(self, info: StepInfo) -> None:
        """Take in one step; the loss of a skipped one is left out of the average."""
        self.step, self.epoch = info.step, info.epoch
        self._recent.append((info.num_tokens, info.seconds))
        self._measured = info.measured
        if math.isfinite(info.loss) and not info.skipped:
            self._loss = SMOOTHING * self._loss + (1 - SMOOTHING) * info.loss
            self._weight = SMOOTHING * self._weight + (1 - SMOOTHING)

    @property
    def loss(self) -> float:
        """The loss as a running mean without a start-up bias; nan before the first step."""
        return self._loss / self._weight if self._weight else math.nan

    @property
    def tokens_per_second(self) -> float:
        """Real tokens (padding not counted) per second of the last steps."""
        seconds = sum(seconds for _, seconds in self._recent)
        return sum(tokens for tokens, _ in self._recent) / seconds if seconds else math.nan

    def remaining_seconds(self, now: float, total_steps: int) -> float:
        """Return the time left, at the mean pace since the start, evaluations included."""
        done = self.step - self.plan.first_step
        return (now - self.started) / done * (total_steps - self.step) if done else math.nan

    def describe(self, now: float, total_steps: int) -> str:
        """Return the progress line."""
        parts = [
            f"step {self.step}/{total_steps}",
            f"epoch {self.epoch:.2f}",
            f"loss {number(self.loss)}",
            *(f"{metric_title(name).lower()} {number(value)}" for name, value in list(self._measured.items())[:1]),
            f"{compact(self.tokens_per_second)} tokens/s",
            size(used_memory(self.plan.device)),
            f"{duration(self.remaining_seconds(now, total_steps))} left",
        ]
        return "  ".join(parts)


def used_memory(device: str) -> float:
    """Return the peak of the accelerator's memory in bytes, or what this process holds on the CPU."""
    torch = sys.modules.get("torch")
    if device.startswith("cuda") and torch is not None:
        return float(torch.cuda.max_memory_allocated(device))
    import psutil

    return float(psutil.Process().memory_info().rss)


class ConsoleObserver(Observer):
    """Shows a training on stderr, so that stdout stays free for results."""

    def __init__(self, *, quiet: bool = False, console: Console | None = None, heading: str = "") -> None:
        """Show what is said of a run on ``console``, below ``heading`` where it is one of several."""
        self.quiet = quiet
        self._heading = heading
        self.console = console or terminal.console(stderr=True)
        self._status: Status | None = None
        self._meter: Meter | None = None
        self._last_line = -math.inf
        self._last_tenth = 0
        self._last_work = ("", -math.inf)
        """What was said to be worked on, and when."""

    def started(self, plan: RunPlan) -> None:
        collecting.settle()  # what was imported on the way here stays
        self._meter = Meter(plan, time.monotonic())
        if self.quiet:
            return
        rows = ", ".join(f"{count:,} {split}" for split, count in plan.num_rows.items())
        trained = compact(plan.num_trained_parameters)
        if plan.num_trained_parameters != plan.num_parameters:
            share = plan.num_trained_parameters / max(plan.num_parameters, 1)
            trained += f" of {compact(plan.num_parameters)} ({share:.2%})"
        self._say(f"{plan.task} with {plan.model}, method {plan.method}: {trained} parameters trained")
        place = plan.device if plan.num_ranks == 1 else f"{plan.num_ranks} ranks of {plan.device}"
        self._say(f"rows: {rows}; {plan.total_steps} steps on {place} in {plan.precision}, layout {plan.layout}")
        if plan.decided:
            self._say(plan.decided)
        if plan.first_step:
            self._say(f"resumed after step {plan.first_step}")
        self._say(f"run directory: {plan.folder}")

    def working(self, what: str) -> None:
        if self.quiet:
            return
        self._show_heading()
        if self.console.is_terminal:
            self._show_line(f"{what} …")
        elif not self._was_said(what):
            self._say(f"{what} …")

    def _was_said(self, what: str) -> bool:
        """Say whether a line on the same work, but for how far it is, was written a moment ago."""
        now, work = time.monotonic(), what.partition(" (")[0]
        if work == self._last_work[0] and now - self._last_work[1] < PLAIN_SECONDS:
            return True
        self._last_work = (work, now)
        return False

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        assert self._meter is not None
        self._meter.update(info)
        if self.quiet:
            return
        now = time.monotonic()
        if self.console.is_terminal:
            self._show_line(self._meter.describe(now, total_steps))
            return
        tenth = 10 * info.step // max(total_steps, 1)
        if now - self._last_line >= PLAIN_SECONDS or tenth > self._last_tenth:
            self._last_line, self._last_tenth = now, tenth
            self._say(self._meter.describe(now, total_steps))

    def evaluated(self, record: dict[str, Any]) -> None:
        if self.quiet:
            return
        metrics = record["metrics"]
        names = list(dict.fromkeys([*list(metrics)[:1], *(name for name in FAVOURITES if name in metrics)]))
        shown = [
            f"{metric_title(name)} {'undefined' if value is None or math.isnan(value) else number(value)}"
            for name in names[:MAX_METRICS]
            for value in (metrics[name],)
        ]
        if (fit := record.get("fit")) is not None and math.isfinite(fit["gap"]["low"]):
            gap = Interval(*(fit["gap"][end] for end in ("value", "low", "high")))
            shown.append(f"better on training rows by {interval(gap)}")
        self._say(", ".join([f"{record['split']} after step {record['step']}: loss {number(record['loss'])}", *shown]))

    def noted(self, problem: Problem) -> None:
        if self.quiet and problem.severity == "note":
            return
        from rich.text import Text

        self._show_heading()
        text = Text(f"{problem.severity.capitalize()}: ", style=_STYLES[problem.severity])
        text.append(terminal.visible(str(problem)), style="default")
        self.console.print(text, soft_wrap=True)

    def finished(self, summary: dict[str, Any]) -> None:
        self._clear_line()
        if self.quiet:
            return
        self._say(
            f"{summary.get('status', 'finished')} after {summary.get('steps', '?')} steps "
            f"in {duration(summary.get('seconds'))}, {compact(summary.get('tokens_per_second'))} tokens/s, "
            f"peak memory {size(summary.get('peak_memory_bytes'))}"
        )

    def close(self) -> None:
        self._clear_line()

    def _show_heading(self) -> None:
        if self._heading:
            self._say(self._heading)
            self._heading = ""

    def _say(self, text: str) -> None:
        self.console.print(terminal.visible(text), markup=False, soft_wrap=True)

    def _show_line(self, text: str) -> None:
        from rich.text import Text

        line = Text(terminal.visible(text), no_wrap=True, overflow="ellipsis")
        if self._status is None:
            self._status = self.console.status(line, spinner="dots", refresh_per_second=8)
            self._status.start()
        else:
            self._status.update(line)

    def _clear_line(self) -> None:
        if self._status is not None:
            self._status.stop()
            self._status = None
