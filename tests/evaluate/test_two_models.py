"""Exact tests of two models: against scipy, and over all swaps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from scipy import stats

from tunesmith.data.encoded import Ragged
from tunesmith.evaluate.two_models import _stacked, mcnemar, models_p_value, swapped
from tunesmith.tasks import Classification, Regression

TASK = Classification(labels=("n", "p"), multi_label=False)


def predicted(right: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
    return {"scores": np.eye(2, dtype=np.float32)[np.where(right, label, 1 - label)]}


def test_mcnemar_is_the_binomial_test_of_the_rows_that_differ():
    first = np.array([True] * 14 + [False] * 4 + [True] * 30)
    second = np.array([False] * 14 + [True] * 4 + [True] * 30)
    assert mcnemar(first, second) == pytest.approx(2 * stats.binom.cdf(4, 18, 0.5))
    assert mcnemar(first, first) == 1.0
    label = np.arange(48) % 2
    found = models_p_value(
        TASK, "accuracy", predicted(first, label), predicted(second, label), {"label": label}, seed=0
    )
    assert found == mcnemar(first, second)


def test_swaps_agree_with_all_of_them():
    """For a mean of rows the permutation test is scipy's, over the signs of the paired differences."""
    random = np.random.default_rng(0)
    truth = random.normal(size=8)
    first, second = (truth + scale * random.normal(size=8) for scale in (0.5, 1.0))
    outputs = [{"value": values.astype(np.float64)} for values in (first, second)]
    found = swapped(Regression(), "mae", *outputs, {"label": truth}, seed=0, num_swaps=20_000)
    gaps = np.abs(first - truth) - np.abs(second - truth)
    expected = stats.permutation_test((gaps,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert found == pytest.approx(expected.pvalue, abs=0.01)


def test_swaps_for_a_metric_that_is_no_mean_and_whole_groups():
    random = np.random.default_rng(1)
    label = random.integers(0, 2, 12)
    rights = [random.random(12) < share for share in (0.9, 0.5)]
    first, second = (predicted(right, label)["scores"] for right in rights)
    groups = np.repeat(np.arange(6), 2)
    arguments = (TASK, "macro_f1", {"scores": first}, {"scores": second}, {"label": label})
    found = swapped(*arguments, seed=0, groups_N=groups, num_swaps=5000)
    gaps = []
    for coins in itertools.product([False, True], repeat=6):
        keep = np.repeat(coins, 2)[:, None]
        both = [np.where(keep, one, other) for one, other in ((first, second), (second, first))]
        measured = [TASK.measure({"scores": one}, {"label": label}, np.ones((1, 12)))["macro_f1"][0] for one in both]
        gaps.append(abs(measured[0] - measured[1]))
    assert found == pytest.approx(np.mean(np.array(gaps) >= gaps[-1] - 1e-12), abs=0.03)


def test_rows_of_every_form_are_stacked():
    ragged = Ragged.from_rows([[1, 2], [3]])
    joined = _stacked(ragged, Ragged.from_rows([[4], [5, 6, 7]]))
    assert [list(joined[row]) for row in range(4)] == [[1, 2], [3], [4], [5, 6, 7]]
    assert _stacked(["a"], ["b"]) == ["a", "b"]
