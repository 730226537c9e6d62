"""What the page says about a search: trials in order, a slice for every key, importance, the best configuration."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tunesmith import readable
from tunesmith.report.charts import shorten
from tunesmith.report.facts import Fact
from tunesmith.report.studies.plane import (
    SPAN_OF_LOGARITHM,
    PlaneAxis,
    PlaneLine,
    PlaneMark,
    draw_plane,
    linear_axis,
    log_axis,
    steps_of,
)
from tunesmith.report.studies.records import Search, Trial
from tunesmith.report.studies.study import Masthead, facts_of_study, masthead, rests_on, status_notice
from tunesmith.report.studies.table import Cell, Link, RunLink, bar
from tunesmith.report.studies.words import MetricWords, plural, state_mark, words_of

_MOST_TICKS = 6
_NOT_ENDED = ("running", "waiting")
_CHARACTERS = 27
"""Letters that fit below the narrowest slice."""
_LONGEST_VALUE = 40


@dataclass(frozen=True, slots=True)
class Slice:
    """The value of trials by one key."""

    key: str
    chart: Markup


@dataclass(frozen=True, slots=True)
class ImportanceRow:
    """How much of the variance of the value one key explains."""

    key: str
    share: str
    strip: Markup


@dataclass(frozen=True, slots=True)
class TrialRow:
    """One trial."""

    number: Cell
    sign: str
    state: str
    reason: str
    value: Cell
    is_best: bool
    values: Sequence[Cell]
    """What was chosen for each of ``SearchView.keys``."""
    seconds: Cell
    run: RunLink


@dataclass(frozen=True, slots=True)
class SearchView:
    """All that the page says about a search."""

    masthead: Masthead
    notices: Sequence[str]
    verdict: str
    basis: str
    metric: str
    metric_title: str
    validation: str
    history: Markup
    slices: Sequence[Slice]
    importance: Sequence[ImportanceRow]
    best: Sequence[Fact]
    best_title: str
    keys: Sequence[str]
    trials: Sequence[TrialRow]
    notes: Sequence[str]
    facts: Sequence[Fact]
    sections: dict[str, str]


def search_view(search: Search, link: Link) -> SearchView:
    """Put a search into words and drawings."""
    words = words_of(search)
    keys = list(dict.fromkeys(key for trial in search.trials for key in trial.values))
    ended = [trial for trial in search.trials if trial.state not in _NOT_ENDED]
    history = _history(search, words)
    slices = (
        [_slice(search, key, words) for key in keys if any(key in trial.values for trial in ended)] if history else []
    )
    importance = _importance(search)
    best = [Fact(key, show_value(value)) for key, value in search.best.values.items()] if search.best else []
    has = {"best": best, "trials": history, "importance": importance, "slices": slices, "all": search.trials}
    titles = {
        "best": "Best configuration",
        "trials": "Trials in order",
        "importance": "Importance",
        "slices": "Keys",
        "all": "All trials",
        "study": "The study",
    }
    return SearchView(
        masthead=masthead(search, f"{plural(len(search.trials), 'trial')} over {plural(len(keys), 'key')}"),
        notices=status_notice(search, len(ended), len(search.trials)),
        verdict=search.verdict
        or ("There is no result yet." if search.status == "running" else "No verdict is recorded."),
        basis=_basis(search),
        metric=words.axis,
        metric_title=words.title,
        validation=words.on("Validation"),
        history=history,
        slices=slices,
        importance=importance,
        best=best,
        best_title=_best_title(search, words),
        keys=keys,
        trials=[_trial(search, trial, keys, words, link) for trial in search.trials],
        notes=search.notes,
        facts=facts_of_study(search),
        sections={anchor: title for anchor, title in titles.items() if has.get(anchor, True)},
    )


def _judged(search: Search) -> list[Trial]:
    return [trial for trial in search.trials if math.isfinite(trial.value)]


def _is_best(search: Search, trial: Trial) -> bool:
    return search.best is not None and trial.number == search.best.number


def _basis(search: Search) -> str:
    states = [trial.state for trial in search.trials]
    counted = ", ".join(f"{states.count(state)} {state_mark(state)[1]}" for state in dict.fromkeys(states))
    judged = readable.metric_phrase(search.metric) or "its value"
    return (
        f"{rests_on(search)} {plural(len(states), 'trial')} ({counted or 'none yet'}), each judged by {judged} on the "
        "validation rows. The best of many trials looks better on these rows than it is: judge it on rows that the "
        "search has not seen."
    )


def _best_title(search: Search, words: MetricWords) -> str:
    if search.best is None:
        return ""
    return f"Trial {readable.count(search.best.number)}: {words.title} {words.value(search.best.value)}"


def show_value(value: Any) -> str:
    """Return a value of a configuration as it is typed."""
    if isinstance(value, bool) or not isinstance(value, float):
        return shorten("none" if value is None else str(value), _LONGEST_VALUE)
    if not math.isfinite(value):
        return readable.MISSING
    text = f"{value:.4g}" if value == 0 or abs(value) >= 0.001 else f"{value:.3e}"
    return re.sub(r"\.?0*e([+-])0*(\d)", r"e\1\2", text)


def running_best(search: Search, *, is_higher_better: bool) -> list[tuple[float, float]]:
    """Return the best value so far after every trial that was finished."""
    best, points = math.nan, []
    for trial in search.trials:
        if math.isfinite(trial.value) and trial.state == "done":
            ahead = trial.value > best if is_higher_better else trial.value < best
            best = trial.value if ahead or math.isnan(best) else best
            points.append((trial.number, best))
    return points


def _history(search: Search, words: MetricWords) -> Markup:
    if not _judged(search):
        return Markup("")
    numbers = [trial.number for trial in search.trials]
    best = running_best(search, is_higher_better=words.is_higher_better)
    return draw_plane(
        linear_axis("trial", [min(numbers), max(numbers)], readable.count),
        linear_axis(words.on("Validation"), [trial.value for trial in search.trials], scale=words.scale),
        [PlaneLine(steps_of(best), 0)],
        [_mark(search, trial, trial.number, words) for trial in search.trials if trial.state not in _NOT_ENDED],
        title=f"{words.title} by trial, with the best so far",
        description=f"{_best_title(search, words)}." if search.best else "",
        shape="tall",
    )


def _mark(search: Search, trial: Trial, place: float, words: MetricWords) -> PlaneMark:
    value = words.value(trial.value) if math.isfinite(trial.value) else "no value"
    says = f"trial {readable.count(trial.number)}: {value}, {state_mark(trial.state)[1]}"
    if _is_best(search, trial):
        return PlaneMark(place, trial.value, says, 0, "chosen")
    return PlaneMark(place, trial.value, says, 0, "hollow" if trial.state == "pruned" else "dot")


def _slice(search: Search, key: str, words: MetricWords) -> Slice:
    """Draw value against one key: along an axis for numbers, in columns for others."""
    trials = [trial for trial in search.trials if key in trial.values and trial.state not in _NOT_ENDED]
    axis, places = _key_axis([trial.values[key] for trial in trials])
    chart = draw_plane(
        axis,
        linear_axis("", [trial.value for trial in search.trials], most=4, scale=words.scale),
        [],
        [_mark(search, trial, place, words) for trial, place in zip(trials, places, strict=True)],
        title=f"{words.title} by {key}",
        description=f"{plural(len(trials), 'trial')}.",
        shape="slice",
        names_axes=False,
    )
    return Slice(key, chart)


def _key_axis(values: Sequence[Any]) -> tuple[PlaneAxis, list[float]]:
    """Return the axis of a key and the place of every trial on it."""
    if all(isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) for value in values):
        numbers = [float(value) for value in values]
        if min(numbers) > 0 and max(numbers) / min(numbers) >= SPAN_OF_LOGARITHM:
            return log_axis("", numbers, show_value), numbers
        return linear_axis("", numbers, None, 4), numbers
    names = list(dict.fromkeys(map(show_value, values)))
    stride = max(1, math.ceil(len(names) / _MOST_TICKS))
    longest = _CHARACTERS // min(len(names), _MOST_TICKS) - 1
    ticks = [(float(place), shorten(name, longest)) for place, name in enumerate(names)][::stride]
    places = [float(names.index(show_value(value))) for value in values]
    return PlaneAxis("", -0.5, len(names) - 0.5, ticks), places


def _importance(search: Search) -> list[ImportanceRow]:
    shares = {key: min(max(share, 0.0), 1.0) for key, share in search.importance.items() if math.isfinite(share)}
    return [
        ImportanceRow(key, readable.percent(share), bar([("of-key", share)], f"{key}: {readable.percent(share)}"))
        for key, share in sorted(shares.items(), key=lambda pair: -pair[1])
    ]


def _trial(search: Search, trial: Trial, keys: Sequence[str], words: MetricWords, link: Link) -> TrialRow:
    sign, state = state_mark(trial.state)
    chosen = [trial.values.get(key) if key in trial.values else "" for key in keys]
    return TrialRow(
        number=Cell(readable.count(trial.number), trial.number),
        sign=sign,
        state=state,
        reason=trial.reason,
        value=Cell(words.value(trial.value), trial.value),
        is_best=_is_best(search, trial),
        values=[
            Cell(show_value(value), float(value) if isinstance(value, int | float) else math.nan) for value in chosen
        ],
        seconds=Cell(readable.duration(trial.seconds), trial.seconds),
        run=RunLink(trial.folder, link(trial.folder)),
    )
