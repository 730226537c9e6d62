"""Thresholds of each group by which all of them have equal opportunity (Hardt, Price and Srebro 2016, section 3.2).

For runs with two labels: of every group, the probability above which the second label is given is moved until as large
a share of those that have the label gets it as of all rows now. It is chosen on validation rows and told of others.

Shapes: N rows.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.row_groups import Grouping
from tunesmith.tasks.base import FloatArray
from tunesmith.trust.group_gaps import MIN_OF_RATE
from tunesmith.trust.judged_rows import JudgedRows

BoolArray = npt.NDArray[np.bool_]


def threshold_report(
    rows: JudgedRows, validation: JudgedRows, of_rows: Grouping, of_validation: Grouping
) -> dict[str, Any] | None:
    """Return thresholds by group, with accuracy and the largest difference of opportunity before and after.

    None where there are not two labels, or a group has too few rows with the label among either.
    """
    if not rows.has_labels or len(rows.task.answer_names) != 2:
        return None
    known = {name: _members(of_validation, name) for name in of_validation.names}
    judged = {name: _members(of_rows, name) for name in of_rows.names}
    has, has_judged = validation.truths() == 1, rows.truths() == 1
    enough = [
        name
        for name in judged
        if name in known and min((known[name] & has).sum(), (judged[name] & has_judged).sum()) >= MIN_OF_RATE
    ]
    if len(enough) < 2:
        return None
    p, p_judged = _probabilities(validation), _probabilities(rows)
    share = float((p[has] > 0.5).mean())
    chosen = {name: equal_threshold(p[known[name] & has], share) for name in enough}
    before = p_judged > 0.5
    after = before.copy()
    for name, threshold in chosen.items():
        after[judged[name]] = p_judged[judged[name]] > threshold
    weights = rows.weights()
    answers = {"before": before, "after": after}
    return {
        "column": of_rows.column,
        "label": rows.task.answer_names[1],
        "thresholds": chosen,
        "accuracy": {when: _share(rows, weights, said == has_judged) for when, said in answers.items()},
        "equal_opportunity": {
            when: _difference([said[judged[name] & has_judged] for name in enough]) for when, said in answers.items()
        },
    }


def equal_threshold(probabilities_N: FloatArray, share: float) -> float:
    """Return the threshold that ``share`` of the probabilities lie above, halfway to the next one."""
    ordered = np.sort(probabilities_N)[::-1]
    number = round(share * len(ordered))
    above = ordered[number - 1] if number else 1.0
    below = ordered[number] if number < len(ordered) else 0.0
    return float((above + below) / 2)


def _members(grouping: Grouping, name: str) -> BoolArray:
    return np.asarray(grouping.of_row == grouping.names.index(name))


def _probabilities(rows: JudgedRows) -> FloatArray:
    found: FloatArray = np.asarray(rows.task.answers(rows.outputs), dtype=np.float64)[:, 1]
    return found


def _share(rows: JudgedRows, weights: FloatArray, hits: BoolArray) -> dict[str, float | None]:
    return rows.interval(weights @ hits.astype(np.float64) / weights.sum(axis=1))


def _difference(of_groups: list[BoolArray]) -> float:
    shares = [float(hits.mean()) for hits in of_groups]
    return max(shares) - min(shares)
