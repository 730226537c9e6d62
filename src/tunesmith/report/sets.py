"""The sets of a mixture, judged each apart, and all of them together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith import readable
from tunesmith.readable import metric_title
from tunesmith.report.records import Evaluation
from tunesmith.report.results import BASELINE_COLOUR, MODEL_COLOUR
from tunesmith.report.strips import Whisker, whisker_axis, whisker_domain, whiskers

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class SetRow:
    """A set, or all of them."""

    name: str
    rows: str
    value: str
    bounds: str
    strip: Markup


@dataclass(frozen=True, slots=True)
class Sets:
    """The table of them, by the task's main metric."""

    metric: str
    rows: Sequence[SetRow]
    axis: Markup


def sets_apart(evaluation: Evaluation) -> Sets | None:
    """Return the table; None where there is one set."""
    name = evaluation.main_metric
    apart = [one for one in evaluation.sets if name is not None and name in one.metrics]
    if name is None or not apart:
        return None
    whole = ("all sets", evaluation.num_rows, evaluation.metrics[name].interval, MODEL_COLOUR)
    lines = [*((one.name, one.num_rows, one.metrics[name].interval, BASELINE_COLOUR) for one in apart), whole]
    domain = whisker_domain([one for _, _, one, _ in lines], floor=0.0 if readable.is_fraction(name) else None)
    rows = [
        SetRow(
            own,
            readable.count(num_rows),
            readable.number(estimate.value),
            readable.bounds(estimate),
            whiskers([Whisker(own, estimate, colour)], domain),
        )
        for own, num_rows, estimate, colour in lines
    ]
    higher = readable.is_higher_better(name, evaluation.higher_is_better)
    return Sets(metric_title(name) + ("" if higher else " (lower is better)"), rows, whisker_axis(domain))
