"""Whether a new run may take the place of an old one: both judged on the same rows, with an interval.

The new one passes where it is shown not to be worse by more than a margin (non-inferiority): the whole interval of the
paired difference lies above minus the margin. One training each is compared, not two methods of training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tunesmith.evaluate import difference, score
from tunesmith.readable import is_fraction, is_percentage
from tunesmith.run import Run
from tunesmith.study.slices import Question, Slices, judge_slices, values_by_row, verdict_of
from tunesmith.tasks.base import Columns, Outputs, Targets
from tunesmith.types import InputError, Problem

MARGIN_POINTS = 1.0


@dataclass(frozen=True, slots=True)
class Gate:
    """What came of it."""

    verdict: Literal["passed", "failed", "undecided"]
    metric: str
    rows: int
    new: float
    old: float
    change: Mapping[str, float]
    """New minus old: ``value``, ``low``, ``high``, in units of the metric."""
    margin: float
    """In the same units."""
    confidence: float
    rows_needed: int | None
    """About how many rows would decide, where it is undecided and the difference stayed as it is."""
    problems: tuple[Problem, ...] = ()
    slices: Slices | None = None
    """What the rows of each value of a column show, where that was asked for."""


def gate(
    new: Run,
    old: Run,
    *,
    margin: float | None = None,
    data: str | None = None,
    metric: str | None = None,
    columns: Mapping[str, str] | None = None,
    by: str | None = None,
) -> Gate:
    """Judge ``new`` and ``old`` on the same rows and say whether the new run may replace the old one.

    Args:
        new: The run whose judged rows are taken where no ``data`` is given.
        old: What it is to replace; a run of the same task, of any model and method.
        margin: How much worse counts as no worse: in points (hundredths) of metrics that are shares, else in units of
            the metric. One point, or a hundredth of the old run's value, when not given.
        data: Labelled rows to judge both on.
        metric: What decides; the task's main metric when not given.
        columns: The columns of ``data``, by role, where they have other names than in training.
        by: A column of the rows: each of its values is judged for itself, too, and one that is shown to be worse
            fails the gate (``slices``).

    Raises:
        InputError: The runs are of different tasks, the rows cannot be read by both, or the metric is unknown.
    """
    _require_one_task(new, old)
    split = new.evaluation["split"] if (new.folder / "evaluation.json").is_file() else "test"
    rows, name = new.labelled_columns(data, split, columns)
    problems = _rows_of_training(new, old, split) if data is None else ()
    others = rows if data is None else old.labelled_columns(data, split, columns)[0]
    judged = [_judged(run, read, name) for run, read in ((new, rows), (old, others))]
    num_resamples = new.config.evaluation.num_resamples
    scores = [score(new.task, *one, seed=0, num_resamples=num_resamples) for one in judged]
    metric = metric or new.task.headline(set(scores[0].values))
    if metric not in scores[0].values:
        raise InputError(f"There is no metric {metric!r}.", f"Choose one of {', '.join(scores[0].values)}.")
    higher = new.task.higher_is_better.get(metric, True)
    confidence = new.config.evaluation.confidence
    change = difference(scores[0], scores[1], confidence)[metric]
    if change["low"] is None or change["high"] is None:
        raise InputError(f"{metric} has no value on these {len(next(iter(rows.values())))} rows.", "Give more rows.")
    allowed = _margin(metric, margin, float(scores[1].values[metric]))
    verdict = verdict_of(change["low"], change["high"], allowed, higher=higher)
    asked = Question(new, (judged[0], judged[1]), metric, allowed)
    slices = None if by is None else judge_slices(by, values_by_row(new, rows, data, by), asked)
    num_rows = len(next(iter(rows.values())))
    return Gate(
        "failed" if slices is not None and slices.failed else verdict,
        metric,
        num_rows,
        float(scores[0].values[metric]),
        float(scores[1].values[metric]),
        {key: float(value) for key, value in change.items() if value is not None},
        allowed,
        confidence,
        _rows_needed(change, allowed, num_rows, higher=higher) if verdict == "undecided" else None,
        problems,
        slices,
    )


def _require_one_task(new: Run, old: Run) -> None:
    if new.task.name != old.task.name:
        raise InputError(
            f"{new.folder} was trained for {new.task.title.lower()} and {old.folder} for {old.task.title.lower()}: no "
            "metric compares them.",
            "Give two runs of one task.",
        )


def _rows_of_training(new: Run, old: Run, split: str) -> tuple[Problem, ...]:
    """Warn where nothing says that the old run did not learn from the rows that it is judged on."""
    hashes = [run.directory.read_json("environment")["data"]["hashes"].get(split) for run in (new, old)]
    if hashes[0] == hashes[1]:
        return ()
    message = (
        f"{old.folder} was judged on other rows: it may have learned from some of the {split} rows of {new.folder}, "
        "and then looks better than it is."
    )
    return (Problem("warning", message, "Give rows that neither has seen: --data FILE."),)


def _judged(run: Run, rows: Columns, name: str) -> tuple[Outputs, Targets]:
    """Return what a run answers for the rows, and what is right."""
    errors = [problem for problem in run.task.check(name, rows) if problem.severity == "error"]
    if errors:
        raise InputError(errors)
    judged = run.predictor.judge(rows, name, run.config)
    return judged.outputs, judged.targets


def _margin(metric: str, given: float | None, old: float) -> float:
    if is_fraction(metric):
        return (MARGIN_POINTS if given is None else given) / 100
    if is_percentage(metric):
        return MARGIN_POINTS if given is None else given
    return 0.01 * abs(old) if given is None else given


def _rows_needed(change: Mapping[str, Any], margin: float, num_rows: int, *, higher: bool) -> int | None:
    """Return how many rows would decide: intervals narrow with the root of the rows."""
    distance = abs((change["value"] if higher else -change["value"]) + margin)
    half = (change["high"] - change["low"]) / 2
    if distance < 1e-12:
        return None
    needed = num_rows * (half / distance) ** 2
    return int(np.ceil(needed / 100)) * 100 if needed < 1e7 else None
