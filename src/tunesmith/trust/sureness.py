"""How sure a run may be: temperature, and sets of labels that hold the right one as often as is promised.

Both learn from validation rows and are judged on others. The temperature that makes the validation labels likeliest
divides all scores (Guo et al. 2017). A conformal set holds every label whose probability is not smaller than what all
but a share ``alpha`` of the validation rows gave their right one (Sadinle, Lei and Wasserman 2019; the quantile is that
of Vovk et al. 2005, with one row more than there are): it holds the right label of a new row with a probability of at
least 1 - alpha, whatever the model, as long as the rows are exchangeable. Of numbers, it is an interval around the
predicted one.

Shapes: N rows, K labels.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.evaluate import IntervalDict
from tunesmith.tasks.base import FloatArray
from tunesmith.trust.judged_rows import JudgedRows

ALPHA = 0.1
COOLEST, HOTTEST = 0.05, 20.0

IntArray = npt.NDArray[np.int64]


def temperature(scores_NK: FloatArray, truth_N: IntArray) -> float:
    """Return the temperature by which the labels are likeliest."""
    from scipy.optimize import minimize_scalar

    def loss(logarithm: float) -> float:
        logs_NK = _log_softmax(scores_NK / math.exp(logarithm))
        return float(-logs_NK[np.arange(len(truth_N)), truth_N].mean())

    found = minimize_scalar(loss, bounds=(math.log(COOLEST), math.log(HOTTEST)), method="bounded")
    return math.exp(float(found.x))


def _log_softmax(scores_NK: FloatArray) -> FloatArray:
    moved = scores_NK - scores_NK.max(axis=1, keepdims=True)
    found: FloatArray = moved - np.log(np.exp(moved).sum(axis=1, keepdims=True))
    return found


def conformal_threshold(misfits_N: FloatArray, alpha: float = ALPHA) -> float:
    """Return what the misfit of a new row's truth stays below with probability 1 - alpha; infinite of too few rows.

    It is the smallest of which at least (N + 1)(1 - alpha) of the N are no larger.
    """
    number = math.ceil((len(misfits_N) + 1) * (1 - alpha))
    return math.inf if number > len(misfits_N) else float(np.sort(misfits_N)[number - 1])


def sureness_report(rows: JudgedRows, validation: JudgedRows, alpha: float = ALPHA) -> dict[str, Any] | None:
    """Return calibration before and after, and how often conformal sets hold the truth; None for other tasks."""
    task = rows.task
    if task.reads == "row" and task.followed == "value":
        return {"conformal": _of_numbers(rows, validation, alpha)}
    if not rows.has_labels:
        return None
    scores, fitting = (np.asarray(one.outputs["scores"], dtype=np.float64) for one in (rows, validation))
    heat = temperature(fitting, validation.truths())
    after = {**rows.outputs, "scores": scores / heat}
    weights = rows.weights()
    measured = [task.measure(outputs, rows.targets, weights) for outputs in (rows.outputs, after)]
    figures = {
        name: {
            "before": rows.interval(measured[0][name]),
            "after": rows.interval(measured[1][name]),
            "change": rows.interval(measured[1][name] - measured[0][name]),
        }
        for name in ("expected_calibration_error", "log_loss")
    }
    return {"temperature": heat, **figures, "conformal": _of_labels(rows, validation, heat, alpha)}


def _of_labels(rows: JudgedRows, validation: JudgedRows, heat: float, alpha: float) -> dict[str, Any]:
    def misfits(one: JudgedRows) -> FloatArray:
        return 1.0 - np.exp(_log_softmax(np.asarray(one.outputs["scores"], dtype=np.float64) / heat))

    known = misfits(validation)
    threshold = conformal_threshold(known[np.arange(len(known)), validation.truths()], alpha)
    sets_NK = misfits(rows) <= threshold
    sizes = sets_NK.sum(axis=1)
    holds = sets_NK[np.arange(len(sets_NK)), rows.truths()].astype(np.float64)
    return {
        "alpha": alpha,
        "threshold": threshold,
        "validation_rows": len(validation),
        "coverage": _mean(rows, holds),
        "mean_size": _mean(rows, sizes.astype(np.float64)),
        "one_label": float((sizes == 1).mean()),
        "no_label": float((sizes == 0).mean()),
    }


def _of_numbers(rows: JudgedRows, validation: JudgedRows, alpha: float) -> dict[str, Any]:
    half = conformal_threshold(validation.errors(), alpha)
    return {
        "alpha": alpha,
        "half_width": half,
        "validation_rows": len(validation),
        "coverage": _mean(rows, (rows.errors() <= half).astype(np.float64)),
    }


def _mean(rows: JudgedRows, values_N: FloatArray) -> IntervalDict:
    """Return the mean of what is known of each row, with its interval."""
    return rows.interval(rows.weights() @ values_N / len(rows))
