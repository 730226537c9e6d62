"""Slices of judged rows: whether a new run is worse than an old one on the rows of some value of a column.

Many slices are many chances to be wrong. Each interval therefore has the confidence 1 - (1 - c) / S for S slices
(Bonferroni): of gates whose new run is nowhere worse, at most 1 - c are failed by any slice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tunesmith.config.base import nearest
from tunesmith.data import read
from tunesmith.data.records import ROW
from tunesmith.evaluate import difference, score
from tunesmith.run import Run
from tunesmith.run.mixture import rows_of
from tunesmith.tasks.base import Columns, Outputs, Targets
from tunesmith.types import InputError

MOST_SLICES = 50
FEWEST_ROWS = 30
"""Of a slice that anything is said of: an interval of fewer rows covers less than it says."""
TAIL_DRAWS = 20
"""Resamples that lie beyond each end of an interval, at least: fewer place it badly."""
MOST_DRAWS = 50_000

SliceVerdict = Literal["passed", "failed", "undecided", "too few rows", "no value"]


@dataclass(frozen=True, slots=True)
class Slice:
    """The rows of one value, and what they show."""

    value: str
    rows: int
    verdict: SliceVerdict
    new: float | None = None
    old: float | None = None
    change: Mapping[str, float] | None = None
    """New minus old: ``value``, ``low``, ``high``, at the corrected confidence."""


@dataclass(frozen=True, slots=True)
class Slices:
    """All slices of a column."""

    by: str
    confidence: float
    """Of each interval."""
    slices: tuple[Slice, ...]

    @property
    def failed(self) -> tuple[Slice, ...]:
        """Where the new run is shown to be worse."""
        return tuple(one for one in self.slices if one.verdict == "failed")


def values_by_row(run: Run, rows: Columns, data: str | None, column: str) -> list[str]:
    """Return the value of the user's own ``column`` for every judged row, as text.

    Raises ``InputError`` where the rows have no such column, or their places are not known.
    """
    config = run.config.data
    if data is None and config.mixture:
        raise InputError(
            f"The run in {run.folder} was trained on a mixture, whose sets have columns of their own.",
            "Give the rows to judge both runs on: --data FILE.",
        )
    given = config if data is None else config.changed(path=data, validation=None, test=None, bad_rows="quarantine")
    raw = read(given).splits
    known = next(iter(raw.values())).column_names
    if column not in known:
        names = [name for name in known if name != ROW]
        raise InputError(
            f"The rows have no column {column!r}.", nearest(column, names) or f"There is {', '.join(names)}."
        )
    found: dict[str, Any] = {}
    for part in raw.values():
        if column in part.column_names:
            found.update(zip(part[ROW], part[column], strict=True))
    places = list(rows["row"])
    if missing := [place for place in places if place not in found]:
        raise InputError(
            f"{len(missing)} of the judged rows are not where they were ({missing[0]}).", "Give --data FILE."
        )
    return [_shown(found[place]) for place in places]


Judged = tuple[Outputs, Targets]
"""What a run answers for rows, and what is right."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of every slice."""

    run: Run
    """The new one."""
    judged: tuple[Judged, Judged]
    """What the new and the old run answer for the same rows."""
    metric: str
    """That decides."""
    margin: float
    """How much worse counts as no worse, in units of the metric."""


def judge_slices(by: str, values: list[str], asked: Question) -> Slices:
    """Judge both runs on the rows of each value of the column ``by``; ``values`` are those of the rows.

    Raises ``InputError`` for a column of too many values.
    """
    settings = asked.run.config.evaluation
    distinct = sorted(set(values))
    if len(distinct) > MOST_SLICES:
        raise InputError(
            f"{by!r} has {len(distinct)} values on {len(values)} rows; slices are of many rows each.",
            f"Name a column of at most {MOST_SLICES} values.",
        )
    places = {value: np.flatnonzero(np.asarray(values, dtype=object) == value) for value in distinct}
    compared = [value for value in distinct if len(places[value]) >= FEWEST_ROWS]
    confidence = 1 - (1 - settings.confidence) / max(1, len(compared))
    draws = min(MOST_DRAWS, max(settings.num_resamples, math.ceil(2 * TAIL_DRAWS / (1 - confidence))))
    found = [
        _judged(value, places[value], asked, confidence=confidence, draws=draws)
        if value in compared
        else Slice(value, len(places[value]), "too few rows")
        for value in distinct
    ]
    return Slices(by, confidence, tuple(found))


def _judged(value: str, rows: Any, asked: Question, *, confidence: float, draws: int) -> Slice:
    task, metric = asked.run.task, asked.metric
    scores = [
        score(task, rows_of(outputs, rows), rows_of(targets, rows), seed=0, num_resamples=draws, per_label=False)
        for outputs, targets in asked.judged
    ]
    if any(not math.isfinite(one.values.get(metric, math.nan)) for one in scores):
        return Slice(value, len(rows), "no value")
    change = difference(scores[0], scores[1], confidence)[metric]
    low, high = change["low"], change["high"]
    if change["value"] is None or low is None or high is None:
        return Slice(value, len(rows), "no value")
    new, old = (float(one.values[metric]) for one in scores)
    verdict = verdict_of(low, high, asked.margin, higher=task.higher_is_better.get(metric, True))
    return Slice(value, len(rows), verdict, new, old, {"value": change["value"], "low": low, "high": high})


def verdict_of(low: float, high: float, margin: float, *, higher: bool) -> Literal["passed", "failed", "undecided"]:
    """Say what the interval of a difference shows: no worse than the margin allows, worse, or neither."""
    worst, best = (low, high) if higher else (-high, -low)
    return "passed" if worst >= -margin else "failed" if best < -margin else "undecided"


def _shown(value: Any) -> str:
    return "(none)" if value is None or value == "" else str(value)
