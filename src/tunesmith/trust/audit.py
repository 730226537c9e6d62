"""The audit of a finished run: for whom and where it fails, what disturbs it, how sure it may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tunesmith.data.row_groups import Grouping, groupings
from tunesmith.evaluate import interval
from tunesmith.run import Run
from tunesmith.run.ensemble import read_ensemble
from tunesmith.trust.counterfactuals import counterfactual_report
from tunesmith.trust.group_gaps import MIN_ROWS, correct, group_report
from tunesmith.trust.group_thresholds import threshold_report
from tunesmith.trust.judged_rows import JudgedRows
from tunesmith.trust.learning_curve import learning_curve
from tunesmith.trust.outside_rows import MANUAL, outside_report
from tunesmith.trust.robustness import robustness_report
from tunesmith.trust.sureness import sureness_report
from tunesmith.trust.worst_slices import slice_report
from tunesmith.types import InputError

Notify = Callable[[str], None]

MOST_TRAINING_ROWS = 2000
"""Of them the gap between training and judged rows is told by."""
PARTS = ("slices", "robustness", "sureness", "outside", "overfitting")
"""What is looked at besides groups and swapped words, which are looked at when asked for."""


def audit(
    run: Run,
    *,
    data: str | Path | None = None,
    split: str = "test",
    columns: Mapping[str, str] | None = None,
    groups: Sequence[str] = (),
    swaps: Sequence[str] = (),
    parts: Sequence[str] = PARTS,
    outside: str = MANUAL,
    min_rows: int = MIN_ROWS,
    curve: bool = False,
    working: Notify = lambda _: None,
) -> dict[str, Any]:
    """Question a run on labelled rows and return what was found, JSON-ready.

    Args:
        run: The finished run.
        data: Labelled rows, instead of the run's own.
        split: Which of its own.
        columns: The columns of ``data``, by role, where they have other names than in training.
        groups: Columns of the files whose values are groups; several with ``+`` are crossed.
        swaps: Lists of ``swapped_words.WORD_LISTS``, or files of pairs of words.
        parts: Which of ``PARTS`` to look at; parts that a task has nothing of are left out of what is returned.
        outside: Rows of another kind, a file.
        min_rows: Rows that a group needs to be compared.
        curve: Whether to train again on parts of the training rows (``learning_curve``).
        working: Told what is under way.

    Raises:
        InputError: The rows cannot be read, or nothing can be said of what was asked for.
    """
    if unknown := [part for part in parts if part not in PARTS]:
        raise InputError(f"--part {', '.join(unknown)}: there is no such part.", f"Choose of {', '.join(PARTS)}.")
    working("judging rows")
    data = None if data is None else str(data)
    rows = JudgedRows.of(run, data, split, columns)
    places = [str(place) for place in rows.columns["row"]]
    grouped = groupings(run.config.data, data, places, groups) if groups else []
    report: dict[str, Any] = {
        "rows": len(rows),
        "split": rows.name,
        "metric": rows.metric,
        "value": rows.interval(rows.main(rows.weights())),
        "confidence": rows.confidence,
    }
    if grouped:
        working("comparing groups")
        report["groups"] = [group_report(rows, one, min_rows=min_rows) for one in grouped]
        correct(report["groups"])
        report["thresholds"] = _thresholds(run, rows, grouped) if data is None else []
    if swaps:
        report["swaps"] = [counterfactual_report(run, rows, wanted) for wanted in swaps]
    if "slices" in parts:
        working("looking for the worst slices")
        report["slices"] = slice_report(rows, grouped)
    if "robustness" in parts and (found := robustness_report(run, rows, working)):
        report["robustness"] = found
    report |= _of_other_rows(run, rows, parts, outside, working)
    if curve:
        report["learning_curve"] = learning_curve(run, rows, working)
    return report


def _of_other_rows(run: Run, rows: JudgedRows, parts: Sequence[str], outside: str, working: Notify) -> dict[str, Any]:
    """Return the parts that need the run's validation or training rows besides, and why one is missing as ``notes``."""
    report: dict[str, Any] = {}
    notes: list[str] = []
    if "sureness" in parts and rows.name != "validation":
        validation = _own(run, "validation", notes)
        found = None if validation is None else sureness_report(rows, validation)
        if found is not None:
            report["sureness"] = found
    if "outside" in parts and read_ensemble(run.directory) is None and rows.has_labels:
        working("judging rows of another kind")
        report["outside"] = outside_report(run, rows, outside)
    if "overfitting" in parts and rows.name != "train":
        working("judging training rows")
        train = _own(run, "train", notes)
        if train is not None:
            report["overfitting"] = _gap(rows, train)
    return {**report, "notes": notes}


def _own(run: Run, split: str, notes: list[str]) -> JudgedRows | None:
    """Return the run's answers to a split of its own; None where it has none (any more), which is noted."""
    try:
        read, name = run.labelled_columns(split=split)
    except InputError as error:
        notes.append(str(error.problems[0].message))
        return None
    most = {column: list(values[:MOST_TRAINING_ROWS]) for column, values in read.items()}
    return JudgedRows.judged(run, most if split == "train" else read, name)


def _thresholds(run: Run, rows: JudgedRows, grouped: Sequence[Grouping]) -> list[dict[str, Any]]:
    """Return thresholds of groups, learned from the run's validation rows; empty without two labels, or such rows."""
    validation = _own(run, "validation", []) if rows.has_labels and rows.name != "validation" else None
    if validation is None:
        return []
    places = [str(place) for place in validation.columns["row"]]
    known = groupings(run.config.data, None, places, [one.column for one in grouped])
    found = [threshold_report(rows, validation, one, other) for one, other in zip(grouped, known, strict=True)]
    return [one for one in found if one is not None]


def _gap(rows: JudgedRows, train: JudgedRows) -> dict[str, Any]:
    """Return by how much the run is better on the rows that it was trained on; both are resampled by themselves."""
    own, other = train.main(train.weights()), rows.main(rows.weights())
    number = min(len(own), len(other))
    higher = rows.task.higher_is_better.get(rows.metric, True)
    gap = (own[:number] - other[:number]) * (1 if higher else -1)
    return {
        "train": train.interval(own),
        "judged": rows.interval(other),
        "gap": interval(float(gap[0]), gap[1:], rows.confidence),
        "training_rows": len(train),
    }
