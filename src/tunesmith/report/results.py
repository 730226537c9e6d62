"""The metrics of a run with their intervals, and what the differences from its rival let one say."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunesmith import readable
from tunesmith.readable import MISSING, Verdict, metric_title
from tunesmith.report.records import Estimate, Evaluation
from tunesmith.report.strips import Whisker, whisker_axis, whisker_domain, whiskers
from tunesmith.types import Interval

MODEL_COLOUR, BASELINE_COLOUR = 0, -1


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric of the model and of its rival."""

    title: str
    strip: Markup
    value: str
    bounds: str
    baseline: str
    baseline_bounds: str
    verdict: Verdict | None
    hint: str = ""


@dataclass(frozen=True, slots=True)
class MetricGroup:
    """Metrics that share an axis; ``axis`` is empty where each has its own."""

    rows: Sequence[MetricRow]
    axis: Markup


@dataclass(frozen=True, slots=True)
class Headline:
    """The main metric against that of the rival."""

    metric: str
    value: str
    bounds: str
    verdict: Verdict | None
    strips: Sequence[tuple[str, Markup, str]]
    axis: Markup
    footnote: str


def interval_name(evaluation: Evaluation) -> str:
    """Return ``95% interval``."""
    return f"{readable.percent(evaluation.confidence)} interval"


def _footnote(evaluation: Evaluation) -> str:
    resamples = evaluation.num_resamples
    how = f" from {readable.count(resamples)} bootstrap resamples" if math.isfinite(resamples) else ""
    rows = (
        f" of {readable.count(evaluation.num_rows)} {evaluation.split} rows"
        if math.isfinite(evaluation.num_rows)
        else f" of the {evaluation.split} rows"
    )
    nothing = [metric_title(name) for name, estimate in evaluation.metrics.items() if math.isnan(estimate.value)]
    undefined = f" Undefined on these rows: {', '.join(nothing)}." if nothing else ""
    return f"{interval_name(evaluation)}s in brackets{how}{rows}.{undefined}"


def verdict_of(evaluation: Evaluation, name: str) -> Verdict | None:
    """Judge the paired difference from what the run was judged against; ``None`` where none was recorded."""
    rival = evaluation.baseline
    return gain(evaluation, name, evaluation.difference, readable.rival_phrase(rival.name)) if rival else None


def gain(evaluation: Evaluation, name: str, difference: Mapping[str, Estimate], against: str) -> Verdict | None:
    """Judge the paired difference from another in a metric; ``None`` where none was recorded."""
    if name not in difference:
        return None
    return readable.judge(
        name,
        difference[name].interval,
        against=against,
        higher_is_better=readable.is_higher_better(name, evaluation.higher_is_better),
        confidence=evaluation.confidence,
    )


def _floor(name: str) -> float | None:
    return 0.0 if readable.is_fraction(name) else None


def headline(evaluation: Evaluation) -> Headline | None:
    """Return the main metric as the page's first figure; ``None`` where nothing was measured."""
    name = evaluation.main_metric
    if name is None:
        return None
    model = evaluation.metrics[name].interval
    lines = [Whisker("this run", model, MODEL_COLOUR)]
    baseline = evaluation.baseline
    if baseline and name in baseline.metrics:
        lines.append(Whisker(baseline.name, baseline.metrics[name].interval, BASELINE_COLOUR))
    domain = whisker_domain([line.estimate for line in lines], floor=_floor(name))
    return Headline(
        metric=metric_title(name),
        value=readable.number(model.value),
        bounds=readable.bounds(model),
        verdict=verdict_of(evaluation, name),
        strips=[
            (line.name[:1].upper() + line.name[1:], whiskers([line], domain), readable.interval(line.estimate))
            for line in lines
        ],
        axis=whisker_axis(domain),
        footnote=_footnote(evaluation),
    )


def metric_groups(evaluation: Evaluation) -> list[MetricGroup]:
    """Return the metrics in groups: shares of 1 on one axis, each of the others on its own."""
    names = [name for name, estimate in evaluation.metrics.items() if math.isfinite(estimate.value)]
    baseline = evaluation.baseline.metrics if evaluation.baseline else {}
    shared = [name for name in names if readable.is_fraction(name)]
    others = [name for name in names if name not in shared]
    groups: list[MetricGroup] = []
    if shared:
        ends = [source[name].interval for name in shared for source in (evaluation.metrics, baseline) if name in source]
        domain = whisker_domain(ends, floor=0.0)
        groups.append(MetricGroup([_metric_row(evaluation, name, domain) for name in shared], whisker_axis(domain)))
    if others:
        rows = []
        for name in others:
            ends = [source[name].interval for source in (evaluation.metrics, baseline) if name in source]
            rows.append(_metric_row(evaluation, name, whisker_domain(ends)))
        # The group of the main metric comes first.
        groups.insert(0 if evaluation.main_metric in others else 1, MetricGroup(rows, Markup("")))
    return groups


def _metric_row(evaluation: Evaluation, name: str, domain: tuple[float, float]) -> MetricRow:
    model = evaluation.metrics[name].interval
    lines = [Whisker("This run", model, MODEL_COLOUR)]
    baseline: Interval | None = None
    if evaluation.baseline and name in evaluation.baseline.metrics:
        baseline = evaluation.baseline.metrics[name].interval
        lines.append(Whisker(evaluation.baseline.name, baseline, BASELINE_COLOUR))
    higher = readable.is_higher_better(name, evaluation.higher_is_better)
    return MetricRow(
        title=metric_title(name),
        strip=whiskers(lines, domain, grid=4 if readable.is_fraction(name) else 0),
        value=readable.number(model.value),
        bounds=readable.bounds(model),
        baseline=readable.number(baseline.value) if baseline else MISSING,
        baseline_bounds=readable.bounds(baseline) if baseline else "",
        verdict=verdict_of(evaluation, name),
        hint="" if higher else "lower is better",
    )
