"""Weights of mixtures and small models on top, against plain optimisation and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression

from tunesmith.data.encoded import Ragged
from tunesmith.evaluate.averaging import aligned, averaged, likelihoods, weights_of_mixture, weights_of_values
from tunesmith.evaluate.stacking import Stacker
from tunesmith.study.task_vectors import dare, ties
from tunesmith.tasks.classification import Classification
from tunesmith.tasks.regression import Regression
from tunesmith.tasks.token_classification import TokenClassification
from tunesmith.types import InputError

LABELS = ("a", "b", "c")


def drawn(seed: int, num: int = 300, sharp: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Return probabilities [N, 3] and labels that follow them."""
    random = np.random.default_rng(seed)
    p = random.dirichlet([0.5] * 3, num) ** sharp
    p /= p.sum(axis=1, keepdims=True)
    return p, np.array([random.choice(3, p=one) for one in p])


def test_weights_of_a_mixture_are_the_likeliest() -> None:
    likely = np.random.default_rng(0).beta([[2.0], [1.5], [0.7]], 1.0, (3, 200))
    found = weights_of_mixture(likely)

    def loss(free: np.ndarray) -> float:
        weights = np.exp(free) / np.exp(free).sum()
        return -float(np.log(weights @ likely).mean())

    best = minimize(loss, np.zeros(3), method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13, "maxiter": 5000})
    assert -float(np.log(np.array(found) @ likely).mean()) == pytest.approx(best.fun, abs=1e-6)
    assert weights_of_mixture(np.stack([likely[0], likely[0] / 100])) == [1.0, 0.0]


def test_weights_of_values_have_the_least_error() -> None:
    random = np.random.default_rng(1)
    truth = random.normal(50, 10, 400)
    values = np.stack([truth + random.normal(0, size, 400) for size in (1.0, 2.0, 8.0)])
    found = weights_of_values(values, truth)
    assert sum(found) == pytest.approx(1.0, abs=1e-6)
    error = np.mean((np.array(found) @ values - truth) ** 2)
    for weights in ([1, 0, 0], [0.8, 0.2, 0], [1 / 3] * 3, [0.7, 0.2, 0.1]):
        assert error <= np.mean((np.array(weights) @ values - truth) ** 2) + 1e-9


def test_labels_are_matched_by_name_and_words_must_be_the_same() -> None:
    p, _ = drawn(0, 4)
    turned = aligned(p[:, ::-1], ("c", "b", "a"), LABELS)
    assert np.array_equal(np.asarray(turned), p)
    words = Ragged(p, np.array([0, 1, 4]))
    mean = averaged([words, words], [0.5, 0.5])
    assert isinstance(mean, Ragged)
    assert mean.values == pytest.approx(p)
    with pytest.raises(InputError, match="same words"):
        averaged([words, Ragged(p, np.array([0, 2, 4]))], [0.5, 0.5])


def test_what_is_likely_is_what_is_true() -> None:
    p, labels = drawn(0, 5)
    single = Classification(labels=LABELS, multi_label=False)
    assert likelihoods(single, p, {"label": labels}) == pytest.approx(p[np.arange(5), labels])
    several = Classification(labels=LABELS, multi_label=True)
    truth = (np.arange(3) == labels[:, None]).astype(np.float32)
    assert likelihoods(several, p, {"label": truth}) == pytest.approx(np.where(truth > 0, p, 1 - p).ravel())
    tags = TokenClassification(labels=LABELS)
    offsets = np.array([0, 2, 5])
    found = likelihoods(tags, Ragged(p, offsets), {"tags": Ragged(labels, offsets)})
    assert found == pytest.approx(p[np.arange(5), labels])


@pytest.mark.parametrize("task", [Classification(labels=LABELS, multi_label=False), TokenClassification(labels=LABELS)])
def test_answers_are_outputs_and_outputs_answers(task: Classification | TokenClassification) -> None:
    p, _ = drawn(0, 5)
    given = Ragged(p, np.array([0, 2, 5])) if isinstance(task, TokenClassification) else p
    back = task.answers(task.outputs_from(given))  # type: ignore[arg-type]
    assert np.asarray(getattr(back, "values", back)) == pytest.approx(p, abs=1e-6)


def test_a_chain_takes_answers_of_words() -> None:
    p, _ = drawn(0, 5)
    task = TokenClassification(labels=LABELS, crf=True)
    back = task.answers(task.outputs_from(Ragged(p, np.array([0, 2, 5]))))
    assert back.values == pytest.approx(p, abs=1e-6)


def test_a_stacker_is_a_logistic_regression_for_each_label() -> None:
    first, labels = drawn(0)
    second, _ = drawn(1)
    task = Classification(labels=LABELS, multi_label=False)
    stacker = Stacker.fit(task, [first, second], {"label": labels})
    odds = [np.log(p / (1 - p)) for p in (first.clip(1e-12, 1 - 1e-12), second.clip(1e-12, 1 - 1e-12))]
    scores = []
    for k in range(3):
        features = np.stack([odds[0][:, k], odds[1][:, k]], axis=1)
        scores.append(LogisticRegression(C=1.0, max_iter=1000).fit(features, labels == k).predict_proba(features)[:, 1])
    expected = np.stack(scores, axis=1) / np.stack(scores, axis=1).sum(axis=1, keepdims=True)
    again = Stacker.model_validate_json(stacker.model_dump_json())
    assert np.asarray(again.apply([first, second])) == pytest.approx(expected, abs=1e-4)
    assert stacker.weights[0][0] > 5 * abs(stacker.weights[0][1]), "the second member knows nothing"


def test_a_label_without_rows_is_averaged_and_numbers_are_stacked_too() -> None:
    p, labels = drawn(0)
    task = Classification(labels=LABELS, multi_label=False)
    assert Stacker.fit(task, [p, p], {"label": np.minimum(labels, 1)}).weights[2] == (0.5, 0.5)
    truth = np.random.default_rng(2).normal(100, 20, 300)
    stacker = Stacker.fit(Regression(), [2 * truth + 7, np.zeros(300)], {"label": truth})
    assert np.asarray(stacker.apply([2 * truth + 7, np.zeros(300)])) == pytest.approx(truth, rel=0.01)


def changes() -> list[dict[str, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    return [{"weight": torch.randn((6, 5), generator=generator)} for _ in range(3)]


@pytest.mark.parametrize("density", [0.2, 0.5, 0.9])
def test_ties_are_those_of_peft_where_all_count_alike(density: float) -> None:
    from peft.utils.merge_utils import ties as of_peft

    kept = ties(changes(), [1 / 3] * 3, density)
    expected = of_peft([one["weight"] for one in changes()], torch.ones(3), density)
    torch.testing.assert_close(torch.stack([one["weight"] for one in kept]).sum(0), expected)


def test_dare_keeps_a_share_and_what_is_expected() -> None:
    big = [{"weight": torch.ones(40_000)}, {"weight": 3 * torch.ones(40_000)}]
    kept = dare(big, [0.5, 0.5], 0.25, seed=0)
    for one, before, weight in zip(kept, big, (0.5, 0.5), strict=True):
        share = float((one["weight"] != 0).float().mean())
        assert share == pytest.approx(0.25, abs=0.01)
        assert float(one["weight"].max()) == pytest.approx(4 * weight * float(before["weight"][0]))
    everything = dare(changes(), [0.2, 0.3, 0.5], 1.0, seed=0)
    for one, whole, weight in zip(everything, changes(), (0.2, 0.3, 0.5), strict=True):
        torch.testing.assert_close(one["weight"], weight * whole["weight"])
