from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from tunesmith.metrics import average_ranks, regression_metrics


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_rows=st.integers(2, 40),
    offset=st.sampled_from([0.0, 5.0, 1e5]),
    ties=st.booleans(),
)
def test_equals_sklearn_and_scipy(seed: int, num_rows: int, offset: float, ties: bool) -> None:
    random = np.random.default_rng(seed)
    truth = random.normal(size=num_rows)
    predicted = truth * random.normal() + random.normal(size=num_rows)
    if ties:
        truth, predicted = np.round(truth), np.round(predicted)
    truth, predicted = truth + offset, predicted + offset
    weights = random.integers(0, 3, (4, num_rows))
    weights[:, :2] += 1  # at least two rows
    weights[0] = 1
    found = regression_metrics(truth, predicted, weights)
    for replicate, counts in enumerate(weights):
        rows = np.repeat(np.arange(num_rows), counts)
        y, p = truth[rows], predicted[rows]
        varied = np.ptp(y) > 0 and np.ptp(p) > 0
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = {
                "mae": sk.mean_absolute_error(y, p),
                "rmse": sk.root_mean_squared_error(y, p),
                "r2": sk.r2_score(y, p) if np.ptp(y) > 0 else np.nan,
                "pearson": stats.pearsonr(y, p).statistic if varied else np.nan,
                "spearman": stats.spearmanr(y, p).statistic if varied else np.nan,
            }
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name][replicate] == pytest.approx(value, rel=1e-6, abs=1e-8, nan_ok=True), name


def test_average_ranks_of_ties() -> None:
    weights = np.array([[1.0, 1.0], [1.0, 2.0], [1.0, 0.0], [1.0, 1.0]])
    ranks = average_ranks(np.array([3.0, 1.0, 1.0, 7.0]), weights)
    np.testing.assert_array_equal(ranks[:, 0], [3.0, 1.5, 1.5, 4.0])
    np.testing.assert_array_equal(ranks[[0, 1, 3], 1], [3.0, 1.5, 4.0])


def test_almost_constant_replicate_keeps_its_digits() -> None:
    truth = np.array([0.0, 1.0, 1.0 + 1e-7, 1.0 + 3e-7, 1e4])
    predicted = np.array([5.0, 1.0, 1.0 + 2e-7, 1.0 + 2.5e-7, -1e4])
    weights = np.array([[0, 1, 1, 1, 0]])
    found = regression_metrics(truth, predicted, weights)
    assert found["pearson"][0] == pytest.approx(stats.pearsonr(truth[1:4], predicted[1:4]).statistic, rel=1e-3)


def test_constant_inputs_have_no_correlation() -> None:
    found = regression_metrics(np.full(4, 0.1), np.arange(4.0), np.ones((1, 4)))
    assert np.isnan(found["pearson"][0])
    assert np.isnan(found["spearman"][0])
    assert np.isnan(found["r2"][0])
    assert np.isnan(regression_metrics(np.full(4, 0.1), np.full(4, 0.1), np.ones((1, 4)))["r2"][0])
