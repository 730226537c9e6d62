"""The table of methods with what each reached and cost, and the table of all their runs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunesmith import readable
from tunesmith.readable import MISSING, latency
from tunesmith.report.studies.records import Contest, Method, RunOfMethod
from tunesmith.report.studies.table import Cell, Link, RunLink, StripAxis, draw_strip, strip_axis
from tunesmith.report.studies.words import MetricWords, rate, state_mark

DONE = "done"
_MOST_METRICS = 3


@dataclass(frozen=True, slots=True)
class MethodRow:
    """One method."""

    name: str
    code: str
    """How it is named in commands; empty where that is its name here, too."""
    is_reference: bool
    is_done: bool
    state: str
    reason: str
    value: Cell
    bounds: str
    strip: Markup
    seeds: str
    marks: str
    """A sign a seed: done, running, waiting, failed."""
    marks_said: str
    rate: Cell
    seconds: Cell
    memory: Cell
    parameters: Cell
    size: Cell
    latency: Cell


@dataclass(frozen=True, slots=True)
class MethodTable:
    """All methods, the best first, those without a result last."""

    rows: Sequence[MethodRow]
    axis: Markup
    is_cut: bool
    """Whether a method lies beyond the axis."""


@dataclass(frozen=True, slots=True)
class RunRow:
    """One final run."""

    method: str
    seed: Cell
    sign: str
    state: str
    reason: str
    value: Cell
    others: Sequence[str]
    """Other metrics, in the order of ``RunTable.metrics``."""
    seconds: Cell
    memory: Cell
    steps: str
    run: RunLink


@dataclass(frozen=True, slots=True)
class RunTable:
    """All final runs."""

    metrics: Sequence[str]
    rows: Sequence[RunRow]

    @property
    def is_narrow(self) -> bool:
        """Whether the other metrics are so few that they stand beside the main one."""
        return len(self.metrics) <= _MOST_METRICS


def ranked(contest: Contest, words: MetricWords) -> list[Method]:
    """Return the methods, the best first and those without a result last, in their own order."""
    sign = -1 if words.is_higher_better else 1
    return sorted(contest.methods, key=lambda m: sign * m.mean if math.isfinite(m.mean) else math.inf)


def method_table(contest: Contest, words: MetricWords) -> MethodTable:
    """Return the table of methods; dots on its strips are single runs."""
    judged = [method for method in contest.methods if math.isfinite(method.mean)]
    axis = strip_axis([method.interval for method in judged])
    rows = [_method_row(contest, method, axis, words) for method in ranked(contest, words)]
    return MethodTable(rows, axis.labels(words.scale), axis.is_cut)


def _method_row(contest: Contest, method: Method, axis: StripAxis, words: MetricWords) -> MethodRow:
    has_result = math.isfinite(method.mean)
    strip = Markup("")
    if has_result:
        dots = [(run.value, f"seed {readable.count(run.seed)}: {words.value(run.value)}") for run in method.runs]
        says = f"{method.shown}: {words.interval(method.interval)}"
        strip = draw_strip(axis, method.interval, says=says, dots=dots if len(dots) > 1 else ())
    count = Counter(run.state for run in method.runs)
    trained, total = count[DONE], len(method.runs)
    throughput = method.throughput
    return MethodRow(
        name=method.shown,
        code=method.name if method.name != method.shown else "",
        is_reference=method.name == contest.reference,
        is_done=method.state == DONE,
        state=state_mark(method.state)[1],
        reason=method.reason,
        value=Cell(words.value(method.mean), method.mean),
        bounds=words.bounds(method.interval),
        strip=strip,
        seeds=_seeds(method, trained, total),
        marks="".join(state_mark(run.state)[0] for run in method.runs) if trained < total else "",
        marks_said=", ".join(f"{number} {state_mark(state)[1]}" for state, number in count.items()),
        rate=Cell(rate(method.learning_rate), method.learning_rate),
        seconds=Cell(readable.duration(method.seconds), method.seconds, _tuning_note(method)),
        memory=Cell(readable.size(method.peak_memory), method.peak_memory),
        parameters=Cell(readable.compact(method.trained_parameters), method.trained_parameters),
        size=Cell(readable.size(method.size), method.size),
        latency=Cell(
            latency(method.latency),
            method.latency,
            f"{readable.compact(throughput)} rows/s" if math.isfinite(throughput) else "",
        ),
    )


def _seeds(method: Method, trained: int, total: int) -> str:
    if total and trained < total:
        return f"{trained} of {total}"
    return readable.count(method.seeds) if method.seeds > 0 else MISSING


def _tuning_note(method: Method) -> str:
    spent = method.tuning_seconds
    return f"tuning {readable.duration(spent)}" if math.isfinite(spent) and spent > 0 else ""


def run_table(contest: Contest, words: MetricWords, link: Link) -> RunTable | None:
    """Return all final runs, in the order of the methods; ``None`` where there are none yet."""
    pairs = [(method, run) for method in ranked(contest, words) for run in method.runs]
    if not pairs:
        return None
    found = dict.fromkeys(name for _, run in pairs for name in run.metrics if name != contest.metric)
    return RunTable(
        metrics=[readable.metric_title(name) for name in found],
        rows=[_run_row(method, run, list(found), words, link) for method, run in pairs],
    )


def _run_row(method: Method, run: RunOfMethod, metrics: Sequence[str], words: MetricWords, link: Link) -> RunRow:
    sign, state = state_mark(run.state)
    steps = readable.count(run.steps) if math.isfinite(run.steps) else MISSING
    best = f", best {readable.count(run.best_step)}" if math.isfinite(run.best_step) else ""
    return RunRow(
        method=method.shown,
        seed=Cell(readable.count(run.seed), run.seed),
        sign=sign,
        state=state,
        reason=run.reason,
        value=Cell(words.value(run.value), run.value),
        others=[readable.number(run.metrics.get(name)) for name in metrics],
        seconds=Cell(readable.duration(run.seconds), run.seconds),
        memory=Cell(readable.size(run.peak_memory), run.peak_memory),
        steps=steps + best,
        run=RunLink(run.folder, link(run.folder)),
    )
