"""Others that were judged on the same rows as a run: its teacher, or the runs that it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith import readable
from tunesmith.readable import Verdict, metric_title
from tunesmith.report.records import Evaluation
from tunesmith.report.results import BASELINE_COLOUR, MODEL_COLOUR
from tunesmith.report.strips import Whisker, whisker_axis, whisker_domain, whiskers

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class BesideRow:
    """One of them, or the run itself."""

    name: str
    value: str
    bounds: str
    strip: Markup
    parameters: str
    verdict: Verdict | None
    """Of the run against it; None for the run itself."""


@dataclass(frozen=True, slots=True)
class Beside:
    """The table of them, by the task's main metric."""

    metric: str
    rows: Sequence[BesideRow]
    axis: Markup


def beside(evaluation: Evaluation) -> Beside | None:
    """Return the table; None where nobody stands beside the run."""
    name = evaluation.main_metric
    others = [one for one in evaluation.beside if name is not None and name in one.metrics]
    if name is None or not others:
        return None
    own = evaluation.metrics[name].interval
    ends = [own, *(one.metrics[name].interval for one in others)]
    domain = whisker_domain(ends, floor=0.0 if readable.is_fraction(name) else None)
    higher = readable.is_higher_better(name, evaluation.higher_is_better)
    rows = [
        BesideRow(
            "this run",
            readable.number(own.value),
            readable.bounds(own),
            whiskers([Whisker("this run", own, MODEL_COLOUR)], domain),
            "",
            None,
        )
    ]
    for one in others:
        estimate = one.metrics[name].interval
        gap = one.difference.get(name)
        verdict = None
        if gap is not None:
            verdict = readable.judge(
                name, gap.interval, against=one.name, higher_is_better=higher, confidence=evaluation.confidence
            )
        strip = whiskers([Whisker(one.name, estimate, BASELINE_COLOUR)], domain)
        value, bounds = readable.number(estimate.value), readable.bounds(estimate)
        rows.append(BesideRow(one.name, value, bounds, strip, readable.compact(one.num_parameters), verdict))
    title = metric_title(name) + ("" if higher else " (lower is better)")
    return Beside(title, rows, whisker_axis(domain))
