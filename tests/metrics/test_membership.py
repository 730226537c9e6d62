"""How well members are told from others: against scikit-learn, and by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from tunesmith.metrics.membership import exposures, membership_figures


@pytest.mark.parametrize("ties", [False, True])
def test_areas_and_rates_are_those_of_sklearn_for_every_weighting(ties: bool) -> None:
    generator = np.random.default_rng(0)
    member_N = generator.random(400) < 0.5
    scores_N = generator.normal(size=400) + member_N
    scores_N = np.round(scores_N, 1) if ties else scores_N
    weights_RN = generator.integers(0, 3, (5, 400)).astype(float)
    found = membership_figures(member_N, scores_N, weights_RN)
    for number, weights_N in enumerate(weights_RN):
        assert found["auroc"][number] == pytest.approx(roc_auc_score(member_N, scores_N, sample_weight=weights_N))
        wrong, right, _ = roc_curve(member_N, scores_N, sample_weight=weights_N, drop_intermediate=False)
        assert found["tpr_at_1_fpr"][number] == pytest.approx(right[wrong <= 0.01].max())


def test_a_replicate_without_members_or_others_has_no_figures() -> None:
    member_N = np.array([True, True, False])
    found = membership_figures(member_N, np.arange(3.0), np.array([[1.0, 1, 0], [0, 0, 1], [1, 1, 1]]))
    assert np.isnan(found["auroc"]).tolist() == [True, True, False]
    assert np.isnan(found["tpr_at_1_fpr"]).tolist() == [True, True, False]


def test_exposure_is_the_rank_among_candidates_in_bits() -> None:
    losses_CK = np.array([[1.0, 2, 3, 4], [4.0, 1, 2, 3], [2.0, 2, 3, 4], [5.0, 5, 5, 5]])
    assert exposures(losses_CK) == pytest.approx([2, 0, 2 - math.log2(1.5), 2 - math.log2(2.5)])


def test_exposure_of_secrets_that_nobody_has_seen_is_that_of_chance() -> None:
    losses_CK = np.random.default_rng(0).random((4000, 256))
    assert exposures(losses_CK).mean() == pytest.approx(1 / math.log(2), abs=0.1)
