"""What a run answers to the same text about somebody else: flips, and shifts of probabilities (Garg et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tunesmith.evaluate import interval, resamples
from tunesmith.run import Run, Writing
from tunesmith.tasks.base import Columns
from tunesmith.trust.judged_rows import JudgedRows
from tunesmith.trust.swapped_words import Swapper, read_pairs
from tunesmith.types import InputError

NUM_SHOWN = 5
MIN_PAIRS = 10
"""Fewer pairs of texts tell nothing."""


def counterfactual_report(run: Run, rows: JudgedRows, wanted: str) -> dict[str, Any]:
    """Return how answers change where the words of a list (or file of pairs) change sides.

    ``flips`` is the share of pairs of texts with different labels (of numbers, ``change`` alone is given), with
    Wilson's interval; ``shifts`` the mean change of each label's probability from the first side to the second.

    Raises ``InputError`` for tasks without texts, and where too few texts hold any of the words.
    """
    task = rows.task
    if task.reads != "row" or not task.has_answers or task.followed not in ("classes", "labels", "value"):
        raise InputError(
            f"--swap is for tasks that give each text labels or a number; this run's is {task.name}.", "Leave it out."
        )
    places, sides = _sides(rows, Swapper(read_pairs(wanted)))
    if len(places) < MIN_PAIRS:
        raise InputError(
            f"--swap {wanted}: {len(places)} of {len(rows)} rows hold any of the words; at least {MIN_PAIRS} tell "
            "something.",
            "Give more rows (--data FILE), or a file with words that stand in them.",
        )
    first, second = (np.asarray(run.predictor.answers(side), dtype=np.float64) for side in sides)
    report: dict[str, Any] = {"list": wanted, "rows": len(rows), "pairs": len(places)}
    weights = np.concatenate([np.ones((1, len(places))), *resamples(len(places), rows.num_resamples, rows.seed)]) / len(
        places
    )
    if task.followed == "value":
        change = weights @ (second - first)
        return {**report, "change": interval(float(change[0]), change[1:], rows.confidence)}
    labels = [[one["label"] for one in run.predictor.predict(side, Writing())] for side in sides]
    flipped = np.array([one != other for one, other in zip(*labels, strict=True)])
    shifts = weights @ (second - first)
    names = task.answer_names
    return {
        **report,
        "flips": wilson(int(flipped.sum()), len(flipped), rows.confidence),
        "shifts": {name: interval(float(shifts[0, k]), shifts[1:, k], rows.confidence) for k, name in enumerate(names)},
        "examples": _examples(places, flipped, sides, labels, rows),
    }


def wilson(hits: int, number: int, confidence: float) -> dict[str, float]:
    """Return a share with its interval by Wilson (1927), which says something at 0 and 1, too."""
    from scipy.stats import binomtest

    found = binomtest(hits, number).proportion_ci(confidence, method="wilson")
    return {"value": hits / number, "low": float(found.low), "high": float(found.high)}


def _sides(rows: JudgedRows, swapper: Swapper) -> tuple[list[int], tuple[Columns, Columns]]:
    """Return the rows with any of the words, and their columns with those of either side, the truth left out."""
    texts = rows.task.texts(rows.columns)
    given = {name: list(values) for name, values in rows.columns.items() if name not in rows.task.truths}
    places: list[int] = []
    first: dict[str, list[Any]] = {name: [] for name in given}
    second: dict[str, list[Any]] = {name: [] for name in given}
    for row in range(len(rows)):
        own = {name: given[name][row] for name in given}
        changed = {name: swapper.sides(str(own[name] or "")) for name in texts}
        if not any(both is not None and both[0] != both[1] for both in changed.values()):
            continue
        places.append(row)
        for side, columns in enumerate((first, second)):
            for name, value in own.items():
                both = changed.get(name)
                columns[name].append(value if both is None else both[side])
    return places, (first, second)


def _examples(
    places: Sequence[int],
    flipped: Any,
    sides: tuple[Columns, Columns],
    labels: Sequence[Sequence[Any]],
    rows: JudgedRows,
) -> list[dict[str, Any]]:
    found = []
    for number in np.flatnonzero(flipped)[:NUM_SHOWN].tolist():
        texts = [" | ".join(str(column[number]) for column in rows.task.texts(side).values()) for side in sides]
        found.append(
            {
                "row": str(rows.columns["row"][places[number]]),
                "first": texts[0],
                "second": texts[1],
                "labels": [labels[0][number], labels[1][number]],
            }
        )
    return found
