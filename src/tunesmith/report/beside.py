"""The main metric of several, below each other: a run and its teacher or members on the same rows, or sets apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith import readable
from tunesmith.readable import Verdict, metric_title
from tunesmith.report.records import Evaluation
from tunesmith.report.results import BASELINE_COLOUR, MODEL_COLOUR, gain
from tunesmith.report.strips import Whisker, whisker_axis, whisker_domain, whiskers

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class BesideRow:
    """One of them."""

    name: str
    value: str
    bounds: str
    strip: Markup
    size: str
    """Its parameters, or its rows."""
    verdict: Verdict | None
    """Of the run against it; None for the run itself, and for a part of its rows."""


@dataclass(frozen=True, slots=True)
class Beside:
    """The table of them."""

    metric: str
    rows: Sequence[BesideRow]
    axis: Markup


def beside(evaluation: Evaluation) -> Beside | None:
    """Return the table of those judged on the same rows; None where nobody stands beside the run."""
    metric = evaluation.main_metric
    others = [one for one in evaluation.beside if metric is not None and metric in one.metrics]
    if metric is None or not others:
        return None
    lines = [Whisker("this run", evaluation.metrics[metric].interval, MODEL_COLOUR)]
    lines += [Whisker(one.name, one.metrics[metric].interval, BASELINE_COLOUR) for one in others]
    sizes = ["", *(readable.compact(one.num_parameters) for one in others)]
    verdicts = [None, *(gain(evaluation, metric, one.difference, one.name) for one in others)]
    return _table(evaluation, metric, lines, sizes, verdicts)


def sets_apart(evaluation: Evaluation) -> Beside | None:
    """Return the table of a mixture's sets, and all of them together; None where there is one set."""
    metric = evaluation.main_metric
    apart = [one for one in evaluation.sets if metric is not None and metric in one.metrics]
    if metric is None or not apart:
        return None
    lines = [Whisker(one.name, one.metrics[metric].interval, BASELINE_COLOUR) for one in apart]
    lines.append(Whisker("all sets", evaluation.metrics[metric].interval, MODEL_COLOUR))
    sizes = [*(readable.count(one.num_rows) for one in apart), readable.count(evaluation.num_rows)]
    return _table(evaluation, metric, lines, sizes, [None] * len(lines))


def _table(
    evaluation: Evaluation,
    metric: str,
    lines: Sequence[Whisker],
    sizes: Sequence[str],
    verdicts: Sequence[Verdict | None],
) -> Beside:
    domain = whisker_domain([line.estimate for line in lines], floor=0.0 if readable.is_fraction(metric) else None)
    rows = [
        BesideRow(
            line.name,
            readable.number(line.estimate.value),
            readable.bounds(line.estimate),
            whiskers([line], domain),
            size,
            verdict,
        )
        for line, size, verdict in zip(lines, sizes, verdicts, strict=True)
    ]
    higher = readable.is_higher_better(metric, evaluation.higher_is_better)
    return Beside(metric_title(metric) + ("" if higher else " (lower is better)"), rows, whisker_axis(domain))
