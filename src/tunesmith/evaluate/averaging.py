"""Predictions of several models as one: brought into one order of labels, averaged, with weights that rows choose.

Answers are those of ``Judge.answers``: probabilities [N, K] or [T, K] (of words, ``Ragged``), or values [N].
Shapes: M models, N units (rows, words, decisions), K labels.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tunesmith.data.encoded import Array, Ragged, as_ragged
from tunesmith.tasks.base import FloatArray, Targets, Task
from tunesmith.types import InputError

ITERATIONS = 1000
CONVERGED = 1e-10
"""Gain in the mean log-likelihood below which weights stay as they are."""
SMALLEST = 1e-12

Answers = Array | Ragged


def values_of(answers: Answers) -> FloatArray:
    """Return the numbers of all units: [N, K], or [N] of values."""
    found: FloatArray = np.asarray(answers.values if isinstance(answers, Ragged) else answers, dtype=np.float64)
    return found


def with_values(answers: Answers, values: FloatArray) -> Answers:
    """Return other numbers for the same units."""
    return Ragged(values, answers.offsets) if isinstance(answers, Ragged) else values


def aligned(answers: Answers, names: Sequence[str], wanted: Sequence[str]) -> Answers:
    """Return answers whose columns ``names`` come in the order ``wanted``; both name the same labels."""
    if tuple(names) == tuple(wanted):
        return answers
    place = {name: k for k, name in enumerate(names)}
    return with_values(answers, values_of(answers)[:, [place[name] for name in wanted]])


def require_same_units(answers_M: Sequence[Answers]) -> None:
    """Raise ``InputError`` where models do not answer for the same units."""
    first, *others = answers_M
    for other in others:
        same = (
            np.array_equal(first.offsets, other.offsets)
            if isinstance(first, Ragged) and isinstance(other, Ragged)
            else len(first) == len(other)
        )
        if not same:
            raise InputError(
                "The models do not cut the rows into the same words, so that their answers cannot be averaged.",
                "Combine models that were trained with the same task.split.",
            )


def averaged(answers_M: Sequence[Answers], weights_M: Sequence[float]) -> Answers:
    """Return the weighted mean of what several models answer; the weights add up to 1."""
    require_same_units(answers_M)
    mean = sum(weight * values_of(one) for one, weight in zip(answers_M, weights_M, strict=True))
    return with_values(answers_M[0], np.asarray(mean))


def likelihoods(task: Task, answers: Answers, targets: Targets) -> FloatArray:
    """Return [N]: the probability that was given to what is true: of each row, word, or decision on a label."""
    values, truth = values_of(answers), targets[task.truths[0]]
    truth_N = np.asarray(as_ragged(truth).values if isinstance(truth, Ragged) else truth)
    if truth_N.ndim == values.ndim:  # several labels a row
        return np.asarray(np.where(truth_N > 0.5, values, 1.0 - values).ravel(), dtype=np.float64)
    return np.asarray(values[np.arange(len(values)), truth_N.astype(np.int64)], dtype=np.float64)


def weights_of_mixture(likelihoods_MN: FloatArray) -> list[float]:
    """Return the weights, adding up to 1, with which the mixture of M models makes N truths likeliest.

    By expectation and maximisation, which never gets worse and, the problem being concave, ends at the best
    (Dempster, Laird and Rubin 1977, section 4.3, with known components).
    """
    likely_MN = np.maximum(likelihoods_MN, SMALLEST)
    weights_M = np.full(len(likely_MN), 1.0 / len(likely_MN))
    before = -np.inf
    for _ in range(ITERATIONS):
        mixture_N = weights_M @ likely_MN
        now = float(np.log(mixture_N).mean())
        if now - before < CONVERGED:
            break
        before = now
        weights_M = weights_M * (likely_MN / mixture_N).mean(axis=1)
    return _tidy(weights_M)


def weights_of_values(values_MN: FloatArray, truth_N: FloatArray) -> list[float]:
    """Return the weights, none negative and adding up to 1, whose mean has the least squared error."""
    from scipy.optimize import nnls

    scale = max(float(np.abs(values_MN).max()), float(np.abs(truth_N).max()), 1e-300)
    firm = 1e4 * np.sqrt(len(truth_N))  # that they add up to 1 weighs as much as all rows many times over
    matrix = np.vstack([values_MN.T / scale, np.full((1, len(values_MN)), firm)])
    weights_M, _ = nnls(matrix, np.append(truth_N / scale, firm))
    return _tidy(weights_M)


def _tidy(weights_M: FloatArray) -> list[float]:
    weights_M = np.where(weights_M < 1e-6, 0.0, weights_M)
    tidied: list[float] = (weights_M / weights_M.sum()).tolist()
    return tidied
