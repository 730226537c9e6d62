"""What the page says about a cross-validation: the corrected interval, and every fold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunesmith import readable
from tunesmith.readable import MISSING
from tunesmith.report.facts import Fact
from tunesmith.report.studies.records import CrossValidation, Fold
from tunesmith.report.studies.study import Masthead, facts_of_study, masthead, rests_on, status_notice
from tunesmith.report.studies.table import Cell, Link, RunLink, draw_strip, strip_axis
from tunesmith.report.studies.words import MetricWords, metric_words, plural, state_mark, words_of
from tunesmith.types import Interval

DONE = "done"


@dataclass(frozen=True, slots=True)
class FoldMetric:
    """One metric over all folds."""

    title: str
    hint: str
    value: str
    bounds: str
    degrees_of_freedom: str
    spread: str
    """Standard deviation over the folds."""
    strip: Markup
    axis: Markup


@dataclass(frozen=True, slots=True)
class RepeatRow:
    """The folds of one repeat on the axis of all."""

    name: str
    mean: str
    strip: Markup


@dataclass(frozen=True, slots=True)
class FoldRow:
    """One fold."""

    repeat: Cell
    fold: Cell
    rows: Cell
    metrics: Sequence[Cell]
    seconds: Cell
    sign: str
    state: str
    reason: str
    run: RunLink


@dataclass(frozen=True, slots=True)
class FoldsView:
    """All that the page says about a cross-validation."""

    masthead: Masthead
    notices: Sequence[str]
    verdict: str
    basis: str
    metric: str
    interval_name: str
    metrics: Sequence[FoldMetric]
    repeats: Sequence[RepeatRow]
    repeats_axis: Markup
    names: Sequence[str]
    folds: Sequence[FoldRow]
    notes: Sequence[str]
    facts: Sequence[Fact]
    sections: dict[str, str]


def folds_view(study: CrossValidation, link: Link) -> FoldsView:
    """Put a cross-validation into words and drawings."""
    words = words_of(study)
    found = dict.fromkeys([*study.metrics, *(name for fold in study.folds for name in fold.metrics)])
    names = sorted(found, key=lambda name: name != study.metric)  # the main one first, the others in their order
    spoken = {name: _words(study, name, words) for name in names}
    repeats, axis = _repeats(study, words)
    done = sum(fold.state == DONE for fold in study.folds)
    titles = {"metrics": "Metrics", "repeats": "Repeats", "folds": "Folds", "study": "The study"}
    has = {"metrics": bool(study.metrics), "repeats": len(repeats) > 0, "folds": bool(study.folds)}
    return FoldsView(
        masthead=masthead(study, _title(study)),
        notices=status_notice(study, done, len(study.folds)),
        verdict=study.verdict
        or ("There is no result yet." if study.status == "running" else "No verdict is recorded."),
        basis=_basis(study, done),
        metric=words.axis,
        interval_name=f"{readable.percent(study.confidence)} interval",
        metrics=[_metric(study, name, spoken[name]) for name in names if name in study.metrics],
        repeats=repeats,
        repeats_axis=axis,
        names=[spoken[name].title for name in names],
        folds=[_fold(fold, names, spoken, link) for fold in study.folds],
        notes=study.notes,
        facts=facts_of_study(study),
        sections={anchor: title for anchor, title in titles.items() if has.get(anchor, True)},
    )


def _title(study: CrossValidation) -> str:
    folds = len({fold.fold for fold in study.folds})
    return f"{study.method or 'A model'} in {plural(folds, 'fold')}"


def _words(study: CrossValidation, name: str, main: MetricWords) -> MetricWords:
    if name == study.metric:
        return main
    return metric_words(name, [fold.metrics.get(name, math.nan) for fold in study.folds])


def _basis(study: CrossValidation, done: int) -> str:
    repeats = len({fold.repeat for fold in study.folds})
    several = f" in {plural(repeats, 'repeat')}" if repeats > 1 else ""
    return (
        f"{rests_on(study)} {plural(done, 'fold')}{several}; {readable.percent(study.confidence)} intervals with the "
        "corrected variance of Nadeau and Bengio (2003), since folds share training rows."
    )


def _values(study: CrossValidation, name: str) -> list[tuple[Fold, float]]:
    pairs = [(fold, fold.metrics.get(name, math.nan)) for fold in study.folds]
    return [(fold, value) for fold, value in pairs if math.isfinite(value)]


def _says(fold: Fold, value: str) -> str:
    return f"repeat {readable.count(fold.repeat)}, fold {readable.count(fold.fold)}: {value}"


def _metric(study: CrossValidation, name: str, words: MetricWords) -> FoldMetric:
    estimate, values = study.metrics[name], _values(study, name)
    singles = [value for _, value in values]
    axis = strip_axis([estimate.interval, *(Interval(value, value, value) for value in singles)])
    mean = sum(singles) / len(singles) if singles else math.nan
    spread = (
        math.sqrt(sum((v - mean) * (v - mean) for v in singles) / (len(singles) - 1)) if len(singles) > 1 else math.nan
    )
    freedom = estimate.degrees_of_freedom
    return FoldMetric(
        title=words.title + (" (points of 100)" if words.scale == 100 else ""),
        hint="" if words.is_higher_better else "lower is better",
        value=words.value(estimate.value),
        bounds=words.bounds(estimate.interval),
        degrees_of_freedom=readable.number(freedom, decimals=0),
        spread=words.width(spread) if singles else MISSING,
        strip=draw_strip(
            axis,
            estimate.interval,
            says=f"{words.title}: {words.interval(estimate.interval)}",
            dots=[(value, _says(fold, words.value(value))) for fold, value in values],
        ),
        axis=axis.labels(words.scale),
    )


def _repeats(study: CrossValidation, words: MetricWords) -> tuple[list[RepeatRow], Markup]:
    """Return the folds of every repeat as dots on a strip with their mean, all on one axis."""
    values = _values(study, study.metric)
    if not values:
        return [], Markup("")
    axis = strip_axis([Interval(value, value, value) for _, value in values])
    rows = []
    for name in dict.fromkeys(f"Repeat {readable.count(fold.repeat)}" for fold, _ in values):
        own = [(fold, value) for fold, value in values if f"Repeat {readable.count(fold.repeat)}" == name]
        mean = sum(value for _, value in own) / len(own)
        strip = draw_strip(
            axis,
            Interval(mean, math.nan, math.nan),
            says=f"{name}: mean {words.value(mean)}, folds {', '.join(words.value(value) for _, value in own)}",
            dots=[(value, _says(fold, words.value(value))) for fold, value in own],
        )
        rows.append(RepeatRow(name, words.value(mean), strip))
    return rows, axis.labels(words.scale)


def _fold(fold: Fold, names: Sequence[str], spoken: dict[str, MetricWords], link: Link) -> FoldRow:
    sign, state = state_mark(fold.state)
    values = [fold.metrics.get(name, math.nan) for name in names]
    return FoldRow(
        repeat=Cell(readable.count(fold.repeat), fold.repeat),
        fold=Cell(readable.count(fold.fold), fold.fold),
        rows=Cell(readable.count(fold.rows), fold.rows),
        metrics=[Cell(spoken[name].value(value), value) for name, value in zip(names, values, strict=True)],
        seconds=Cell(readable.duration(fold.seconds), fold.seconds),
        sign=sign,
        state=state,
        reason=fold.reason,
        run=RunLink(fold.folder, link(fold.folder)),
    )
