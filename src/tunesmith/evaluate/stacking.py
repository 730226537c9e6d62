"""A small linear model that learns how far to believe each of several models (Wolpert 1992; Breiman 1996).

One model for each label, of the logarithms of the odds that the members give it: as many weights as members, a bias,
and a penalty on their squares; of numbers a ridge regression. It is saved as the numbers that it is.

Shapes: M members, N units (rows or words), K labels.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, Self

import numpy as np

from tunesmith.config.base import Config
from tunesmith.data.encoded import Ragged, as_ragged
from tunesmith.evaluate.averaging import Answers, require_same_units, values_of, with_values
from tunesmith.tasks.base import FloatArray, Targets, Task
from tunesmith.tasks.class_figures import BoolArray, log_odds, sigmoid

INVERSE_PENALTY = 1.0
"""C of the logistic regression, and the inverse of the ridge's penalty."""


class Stacker(Config):
    """Weights of members and biases, in the order of the ensemble's labels; one row for a number."""

    kind: Literal["classes", "labels", "value"]
    """Exclusive labels, whose probabilities are made to add up to 1; independent ones; or a number."""
    weights: tuple[tuple[float, ...], ...]
    """[K, M]."""
    biases: tuple[float, ...]
    """[K]."""

    @classmethod
    def fit(cls, task: Task, answers_M: Sequence[Answers], targets: Targets) -> Self:
        """Learn from what members answer for rows that they were not trained on, in one order of labels."""
        require_same_units(answers_M)
        truth = targets[task.truths[0]]
        truth_N = np.asarray(as_ragged(truth).values if isinstance(truth, Ragged) else truth)
        kind = task.followed
        if kind == "value":
            values_MN = np.stack([values_of(one) for one in answers_M])
            weights, bias = _ridge(values_MN, truth_N.astype(np.float64))
            return cls(kind="value", weights=(tuple(weights),), biases=(bias,))
        odds_MNK = _odds(answers_M)
        num_labels = odds_MNK.shape[2]
        has_label_NK = truth_N > 0.5 if truth_N.ndim > 1 else np.arange(num_labels) == truth_N.astype(np.int64)[:, None]
        found = [_logistic(odds_MNK[:, :, k], has_label_NK[:, k]) for k in range(num_labels)]
        return cls(
            kind="labels" if kind == "labels" else "classes",
            weights=tuple(tuple(weights) for weights, _ in found),
            biases=tuple(bias for _, bias in found),
        )

    def apply(self, answers_M: Sequence[Answers]) -> Answers:
        """Return the answers of the whole for what members answer."""
        require_same_units(answers_M)
        weights_KM, biases_K = np.asarray(self.weights), np.asarray(self.biases)
        if self.kind == "value":
            values_MN = np.stack([values_of(one) for one in answers_M])
            return with_values(answers_M[0], weights_KM[0] @ values_MN + biases_K[0])
        scores_NK = np.einsum("mnk,km->nk", _odds(answers_M), weights_KM) + biases_K
        probabilities_NK = sigmoid(scores_NK)
        if self.kind == "classes":
            probabilities_NK = probabilities_NK / probabilities_NK.sum(axis=1, keepdims=True)
        return with_values(answers_M[0], probabilities_NK)


def _odds(answers_M: Sequence[Answers]) -> FloatArray:
    """Return [M, N, K]: the logarithms of the odds."""
    return np.stack([log_odds(values_of(one)).astype(np.float64) for one in answers_M])


def _logistic(odds_MN: FloatArray, has_label_N: BoolArray) -> tuple[list[float], float]:
    """Return the weights of members and the bias of one label; the members' mean where no row tells it apart."""
    from sklearn.linear_model import LogisticRegression

    if has_label_N.all() or not has_label_N.any():
        return [1.0 / len(odds_MN)] * len(odds_MN), 0.0
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the last digits of a penalised fit
        model.fit(odds_MN.T, has_label_N)
    return model.coef_[0].tolist(), float(model.intercept_[0])


def _ridge(values_MN: FloatArray, truth_N: FloatArray) -> tuple[list[float], float]:
    """Return the weights of members and the bias of a number; the penalty holds for truths of spread 1."""
    from sklearn.linear_model import Ridge

    spread = float(truth_N.std()) or 1.0
    model = Ridge(alpha=1.0 / INVERSE_PENALTY).fit(values_MN.T / spread, truth_N / spread)
    return model.coef_.tolist(), float(model.intercept_) * spread
