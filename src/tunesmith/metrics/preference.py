"""How well answers are told apart: by what a model rewards, which is how likely it finds them, or a score.

Shapes: N rows, S answers of all rows, R replicates.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from tunesmith.metrics.weighting import FloatArray, IntArray

TIE = 1e-5
"""Rewards that differ by less than this share of their size are the same: sums of many tokens are rounded."""


@dataclass(frozen=True, slots=True)
class JudgedAnswers:
    """Answers of N rows with what a model rewards them with, row by row, the best ones of each row first."""

    rows: IntArray
    """[S]: the row of each answer, ascending."""
    ranks: IntArray
    """[S]: 0 for the best answer of a row; of answers with thumbs 0 for good and 1 for bad."""
    rewards: FloatArray
    """[S]"""
    sizes: FloatArray
    """[S]: what rewards are rounded in proportion to."""
    num_rows: int

    @property
    def are_alone(self) -> bool:
        """Whether no row has two answers to compare."""
        return bool((np.bincount(self.rows, minlength=self.num_rows) < 2).all())

    def pairs(self) -> tuple[IntArray, IntArray]:
        """Return the better and the worse answer of each pair of one row, as indices into the answers."""
        better, worse = [], []
        starts = np.searchsorted(self.rows, np.arange(self.num_rows + 1))
        for first, last in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
            one, other = np.triu_indices(last - first, k=1)
            differ = self.ranks[first + one] < self.ranks[first + other]
            better.append(first + one[differ])
            worse.append(first + other[differ])
        none = np.zeros(0, dtype=np.int64)
        return np.concatenate([none, *better]), np.concatenate([none, *worse])


@dataclass(frozen=True, slots=True)
class RowMargins:
    """Of each row, [N]: how many of its pairs are the right way round (a tie counts half), and by how much.

    Not a number for rows without a pair. Of answers alone the margin is the reward, turned round for bad ones.
    """

    accuracy: FloatArray
    margin: FloatArray

    @classmethod
    def of(cls, answers: JudgedAnswers) -> Self:
        if answers.are_alone:
            signs_S = np.where(answers.ranks == 0, 1.0, -1.0)
            margins, scales, rows = answers.rewards * signs_S, answers.sizes, answers.rows
        else:
            better, worse = answers.pairs()
            margins = answers.rewards[better] - answers.rewards[worse]
            scales, rows = np.maximum(answers.sizes[better], answers.sizes[worse]), answers.rows[better]
        margins = np.where(np.abs(margins) <= TIE * scales, 0.0, margins)
        rights = 0.5 * (1 + np.sign(margins))
        return cls(row_means(rights, rows, answers.num_rows), row_means(margins, rows, answers.num_rows))


def row_means(values_S: FloatArray, rows_S: IntArray, num_rows: int) -> FloatArray:
    """Return [N]: the mean of each row's values; nan where it has none."""
    counts = np.bincount(rows_S, minlength=num_rows)
    sums = np.bincount(rows_S, weights=values_S, minlength=num_rows)
    means: FloatArray = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return means


def weighted_mean(values_N: FloatArray, weights_RN: FloatArray) -> FloatArray:
    """Return [R]: the mean over the rows that have a value; nan where none that has weight does."""
    has_value = ~np.isnan(values_N)
    weights = weights_RN[:, has_value]
    total: npt.NDArray[np.float64] = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: FloatArray = np.where(total > 0, (weights @ values_N[has_value]) / np.where(total > 0, total, 1), np.nan)
    return found


def preference_metrics(answers: JudgedAnswers, weights_RN: FloatArray) -> dict[str, FloatArray]:
    """Return ``reward_accuracy`` and ``margin``, [R] each.

    The margin is the mean over rows of better minus worse reward; of answers alone, the mean reward of the good ones
    minus that of the bad ones.
    """
    rows = RowMargins.of(answers)
    margin_R = weighted_mean(rows.margin, weights_RN)
    if answers.are_alone:
        sides = [_of_rank(answers, answers.rewards, is_best=is_best) for is_best in (True, False)]
        margin_R = weighted_mean(sides[0], weights_RN) - weighted_mean(sides[1], weights_RN)
    return {"reward_accuracy": weighted_mean(rows.accuracy, weights_RN), "margin": margin_R}


def by_side(answers: JudgedAnswers, values_S: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return [N] twice: the mean of a value over each row's best answers, and over the others; nan without any."""
    return _of_rank(answers, values_S, is_best=True), _of_rank(answers, values_S, is_best=False)


def _of_rank(answers: JudgedAnswers, values_S: FloatArray, *, is_best: bool) -> FloatArray:
    chosen = (answers.ranks == 0) == is_best
    return row_means(values_S[chosen], answers.rows[chosen], answers.num_rows)
