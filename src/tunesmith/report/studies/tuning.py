"""How rates were chosen: the metric against the learning rate, and what fewer trials would have given."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tunesmith import readable
from tunesmith.report.charts import shorten
from tunesmith.report.studies.multiples import Multiples, Track, colour_at, multiples_of
from tunesmith.report.studies.plane import PlaneLine, PlaneMark, linear_axis, log_axis
from tunesmith.report.studies.records import Contest, TuningTrial
from tunesmith.report.studies.table import Cell, Link, RunLink
from tunesmith.report.studies.words import MetricWords, rate, state_mark

_LONGEST_NAME = 60
_NEARLY = 1e-6


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One trial of tuning."""

    method: str
    rate: Cell
    stage: str
    value: Cell
    steps: Cell
    state: str
    reason: str
    is_chosen: bool
    run: RunLink


@dataclass(frozen=True, slots=True)
class TuningView:
    """All about tuning."""

    rates: Multiples | None
    expected: Multiples | None
    expected_rows: Sequence[tuple[str, Sequence[str]]]
    num_trials: int
    """The most trials that a method had."""
    trials: Sequence[TrialRow]


def tuning_of(contest: Contest, words: MetricWords, link: Link) -> TuningView | None:
    """Return how rates were chosen; ``None`` where nothing was tuned."""
    expected = {name: values for name, values in contest.expected_maximum.items() if any(map(math.isfinite, values))}
    if not contest.tuning and not expected:
        return None
    longest = max(map(len, expected.values()), default=0)
    return TuningView(
        rates=_rates(contest, words),
        expected=_expected(contest, expected, words) if longest > 1 else None,
        expected_rows=[
            (contest.shown(name), [words.value(value) for value in values]) for name, values in expected.items()
        ],
        num_trials=longest,
        trials=[_row(contest, trial, words, link) for trial in contest.tuning],
    )


def _is_chosen(contest: Contest, trial: TuningTrial) -> bool:
    """Say whether a trial is the last one of the rate that its method was given."""
    method = contest.method(trial.method)
    if method is None or not math.isclose(method.learning_rate, trial.learning_rate, rel_tol=_NEARLY):
        return False
    later = (o for o in contest.tuning if (o.method, o.learning_rate) == (trial.method, trial.learning_rate))
    return trial.stage != "third" or all(other.stage == "third" for other in later)


def _row(contest: Contest, trial: TuningTrial, words: MetricWords, link: Link) -> TrialRow:
    return TrialRow(
        method=contest.shown(trial.method),
        rate=Cell(rate(trial.learning_rate), trial.learning_rate),
        stage={"third": "a third", "whole": "whole"}.get(trial.stage, trial.stage),
        value=Cell(words.value(trial.value), trial.value),
        steps=Cell(readable.count(trial.steps), trial.steps),
        state=state_mark(trial.state)[1],
        reason=trial.reason,
        is_chosen=_is_chosen(contest, trial),
        run=RunLink(trial.folder, link(trial.folder)),
    )


def _rates(contest: Contest, words: MetricWords) -> Multiples | None:
    tried = [trial for trial in contest.tuning if trial.learning_rate > 0 and math.isfinite(trial.learning_rate)]
    if not any(math.isfinite(trial.value) for trial in tried):
        return None
    names = list(dict.fromkeys(trial.method for trial in tried))
    x_axis = log_axis("learning rate", [trial.learning_rate for trial in tried], rate)
    y_axis = linear_axis(words.on("Validation"), [trial.value for trial in tried], scale=words.scale)
    tracks = [
        _rate_track(contest, [t for t in tried if t.method == name], colour_at(place, len(names)), words)
        for place, name in enumerate(names)
    ]
    return multiples_of(tracks, x_axis, y_axis, title=f"Validation {words.title} by learning rate", key="rates-others")


def _rate_track(contest: Contest, trials: Sequence[TuningTrial], colour: int, words: MetricWords) -> Track:
    """Draw the last value of every rate: filled where it was trained in whole, hollow where it was halved away."""
    name = contest.shown(trials[0].method)
    last: dict[float, TuningTrial] = {}
    for trial in sorted(trials, key=lambda t: (t.learning_rate, t.stage != "third")):
        last[trial.learning_rate] = trial
    ordered = list(last.values())
    marks = [
        PlaneMark(
            trial.learning_rate,
            trial.value,
            f"{shorten(name, _LONGEST_NAME)}, rate {rate(trial.learning_rate)}: {_result(contest, trial, words)}",
            colour,
            "chosen" if _is_chosen(contest, trial) else "hollow" if trial.stage == "third" else "dot",
        )
        for trial in ordered
    ]
    points = [(trial.learning_rate, trial.value) for trial in ordered]
    whole = [(trial.learning_rate, trial.value) for trial in ordered if trial.stage != "third"]
    lines = [PlaneLine(points, colour, "dashed"), PlaneLine(whole, colour)]
    return Track(name, lines, marks, "; ".join(mark.text.partition(", ")[2] for mark in marks))


def _result(contest: Contest, trial: TuningTrial, words: MetricWords) -> str:
    if not math.isfinite(trial.value):
        return f"no value ({state_mark(trial.state)[1]})"
    stage = ", stopped at a third of the steps" if trial.stage == "third" else ""
    return words.value(trial.value) + stage + (", chosen" if _is_chosen(contest, trial) else "")


def _expected(contest: Contest, expected: dict[str, tuple[float, ...]], words: MetricWords) -> Multiples:
    values = [value for curve in expected.values() for value in curve]
    longest = max(map(len, expected.values()))
    x_axis = linear_axis("trials", [1.0, float(longest)], readable.count, min(longest - 1, 5))
    y_axis = linear_axis(words.on("Expected best validation"), values, scale=words.scale)
    tracks = []
    for place, (name, curve) in enumerate(expected.items()):
        colour, shown = colour_at(place, len(expected)), contest.shown(name)
        points = [(float(number), value) for number, value in enumerate(curve, start=1)]
        marks = [
            PlaneMark(x, y, f"{shorten(shown, _LONGEST_NAME)}, {x:.0f} of {longest} trials: {words.value(y)}", colour)
            for x, y in points
            if math.isfinite(y)
        ]
        says = f"{words.value(curve[0])} with one trial, {words.value(curve[-1])} with all"
        tracks.append(Track(shown, [PlaneLine(points, colour)], marks, says))
    return multiples_of(tracks, x_axis, y_axis, title="Expected best of so many trials", key="expected-others")
