"""Learning curves: the validation metric against steps and against time, every seed thin, their mean thick."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith import readable
from tunesmith.report.charts import Point, shorten
from tunesmith.report.studies.multiples import Multiples, Track, colour_at, multiples_of
from tunesmith.report.studies.plane import FINE_DURATIONS, PlaneLine, axis_from_zero, linear_axis
from tunesmith.report.studies.records import Contest, LearningCurve
from tunesmith.report.studies.words import MetricWords, short_duration

_LONGEST_NAME = 40


@dataclass(frozen=True, slots=True)
class LearningRow:
    """One run's curve in numbers."""

    method: str
    seed: str
    first: str
    best: str
    last: str


@dataclass(frozen=True, slots=True)
class LearningView:
    """The curves by step and by time, and the same as a table."""

    by_step: Multiples
    by_time: Multiples | None
    rows: Sequence[LearningRow]


def learning_of(contest: Contest, words: MetricWords) -> LearningView | None:
    """Return the learning curves; ``None`` where none are recorded."""
    curves = [curve for curve in contest.curves if any(math.isfinite(value) for _, _, value in curve.points)]
    if not curves:
        return None
    has_time = all(math.isfinite(seconds) for curve in curves for _, seconds, _ in curve.points)
    return LearningView(
        by_step=_multiples(contest, curves, words, by_time=False),
        by_time=_multiples(contest, curves, words, by_time=True) if has_time else None,
        rows=[_row(contest, curve, words) for curve in curves],
    )


def _multiples(contest: Contest, curves: Sequence[LearningCurve], words: MetricWords, *, by_time: bool) -> Multiples:
    names = list(dict.fromkeys(curve.method for curve in curves))
    tracks = []
    for place, name in enumerate(names):
        colour, shown = colour_at(place, len(names)), contest.shown(name)
        own = [curve for curve in curves if curve.method == name]
        lines = [PlaneLine(_points(curve, by_time=by_time), colour, "thin") for curve in own]
        mean = mean_curve(own, by_time=by_time)
        thick = mean or _points(own[0], by_time=by_time)
        lines.append(PlaneLine(thick, colour, name=shorten(shown, _LONGEST_NAME)))
        says = f"from {words.value(thick[0][1])} to {words.value(thick[-1][1])}" if thick else ""
        tracks.append(Track(shown, lines, (), says))
    values = [value for curve in curves for _, _, value in curve.points]
    places = [x for track in tracks for line in track.lines for x, _ in line.points]
    show = short_duration if by_time else readable.count
    x_axis = axis_from_zero("time" if by_time else "step", places, show, FINE_DURATIONS if by_time else ())
    y_axis = linear_axis(words.on("Validation"), values, scale=words.scale)
    key = "learning-by-time" if by_time else "learning-by-step"
    return multiples_of(tracks, x_axis, y_axis, title=f"Validation {words.title} by {x_axis.label}", key=key)


def _points(curve: LearningCurve, *, by_time: bool) -> list[Point]:
    return [(seconds if by_time else step, value) for step, seconds, value in curve.points if math.isfinite(value)]


def mean_curve(curves: Sequence[LearningCurve], *, by_time: bool) -> list[Point]:
    """Return the mean over seeds at the steps that all of them have; nothing where there are no such steps."""
    by_step = [{step: (seconds, value) for step, seconds, value in c.points if math.isfinite(value)} for c in curves]
    shared = sorted(set.intersection(*map(set, by_step)))
    points = []
    for step in shared:
        found = [curve[step] for curve in by_step]
        seconds = sum(one for one, _ in found) / len(found)
        points.append((seconds if by_time else step, sum(value for _, value in found) / len(found)))
    return points


def _row(contest: Contest, curve: LearningCurve, words: MetricWords) -> LearningRow:
    known = [(step, value) for step, _, value in curve.points if math.isfinite(value)]
    best = (max if words.is_higher_better else min)(known, key=lambda point: point[1])
    first, highest, last = (
        f"{words.value(value)} at step {readable.count(step)}" for step, value in (known[0], best, known[-1])
    )
    return LearningRow(contest.shown(curve.method), readable.count(curve.seed), first, highest, last)
