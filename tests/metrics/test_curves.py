from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

from tunesmith.metrics import calibration_curve, ranking_curves
from tunesmith.metrics.curves import MAX_POINTS


@pytest.mark.parametrize("num_rows", [20, 5000])
def test_curves_lie_on_sklearns(num_rows: int) -> None:
    random = np.random.default_rng(0)
    truth = random.random(num_rows) < 0.3
    scores = np.round(truth + random.normal(size=num_rows), 2)
    curves = ranking_curves("yes", truth, scores)
    assert curves is not None
    roc, precision_recall = curves
    assert len(roc["points"]) <= MAX_POINTS
    assert len(precision_recall["points"]) <= MAX_POINTS
    assert roc["area"] == pytest.approx(sk.roc_auc_score(truth, scores))
    assert precision_recall["area"] == pytest.approx(sk.average_precision_score(truth, scores))
    assert roc["points"][0] == [0.0, 0.0]
    assert roc["points"][-1] == [1.0, 1.0]
    false_rate, true_rate, _ = sk.roc_curve(truth, scores, drop_intermediate=False)
    known = {(round(x, 6), round(y, 6)) for x, y in zip(false_rate.tolist(), true_rate.tolist(), strict=True)}
    assert {tuple(point) for point in roc["points"]} <= known
    thinned = np.trapezoid([y for _, y in roc["points"]], [x for x, _ in roc["points"]])
    assert thinned == pytest.approx(roc["area"], abs=0.01)
    precision, recall, _ = sk.precision_recall_curve(truth, scores)
    known = {(round(x, 6), round(y, 6)) for x, y in zip(recall.tolist(), precision.tolist(), strict=True)}
    assert {tuple(point) for point in precision_recall["points"][1:]} <= known


def test_no_curve_without_both_kinds() -> None:
    assert ranking_curves("x", np.zeros(3, dtype=bool), np.arange(3.0)) is None
    assert ranking_curves("x", np.ones(3, dtype=bool), np.arange(3.0)) is None


def test_calibration_curve_adds_up() -> None:
    confidence = np.array([0.1, 0.95, 0.99, 1.0, 0.5])
    right = np.array([False, True, True, False, True])
    bins = calibration_curve(confidence, right)
    assert sum(one["count"] for one in bins) == 5
    assert bins[-1]["count"] == 3
    assert bins[-1]["accuracy"] == pytest.approx(2 / 3)
    assert bins[-1]["confidence"] == pytest.approx(confidence[1:4].mean())
