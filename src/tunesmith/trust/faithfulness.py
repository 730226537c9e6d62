"""Whether scores of words say what the model goes by: comprehensiveness and sufficiency (DeYoung et al. 2020).

The words that a method scores highest are taken away, and what the model gives to its answer must fall
(comprehensiveness, section 4.2: more is better); they alone are left, and it must stay (sufficiency: less is better).
Both are means over shares of the words, 1, 5, 10, 20 and 50% (there: AOPC), and are held against words in an order
drawn at random.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tunesmith.trust.attribution import BoolArray, FloatArray, Question

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
NUM_RANDOM = 10
"""Orders drawn at random."""


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """In probability of the answer, or in units of the value that is explained."""

    comprehensiveness: float
    """What the answer loses without its highest words."""
    sufficiency: float
    """What it loses with these alone; below 0 where it gains."""
    random_comprehensiveness: float
    random_sufficiency: float


def faithfulness(question: Question, scores_W: FloatArray, seed: int = 0) -> Faithfulness | None:
    """Measure the scores of a question's words; None of sequences with fewer than two words, which have no order."""
    num_words = len(scores_W)
    if num_words < 2:
        return None
    random = np.random.default_rng(seed)
    own = np.argsort(-scores_W, kind="stable")
    orders = [own, *(random.permutation(num_words) for _ in range(NUM_RANDOM))]
    there = np.concatenate([np.ones((1, num_words), dtype=np.bool_), *map(_taken_and_left, orders)])
    values = question.values_with(there)
    measured = _measured(question, values)
    lost = (measured[0] - measured[1:]).reshape(len(orders), 2, len(SHARES)).mean(axis=2)
    by_chance = lost[1:].mean(axis=0)
    return Faithfulness(float(lost[0, 0]), float(lost[0, 1]), float(by_chance[0]), float(by_chance[1]))


def _taken_and_left(order: np.typing.NDArray[np.int64]) -> BoolArray:
    """Return [2 * shares, W]: without the first words of an order, and with these alone."""
    num_words = len(order)
    is_first = np.zeros((len(SHARES), num_words), dtype=np.bool_)
    for row, share in zip(is_first, SHARES, strict=True):
        row[order[: math.ceil(share * num_words)]] = True
    return np.concatenate([~is_first, is_first])


def _measured(question: Question, values: FloatArray) -> FloatArray:
    import torch

    return question.target.measure(torch.from_numpy(values)).numpy()
