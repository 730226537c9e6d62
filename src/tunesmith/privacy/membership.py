"""Attacks that say of a row whether a model was trained on it: each a score, the higher the likelier.

Shapes: N rows, R replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tunesmith.evaluate import interval, resamples
from tunesmith.metrics.membership import membership_figures

if TYPE_CHECKING:
    from tunesmith.evaluate import IntervalDict
    from tunesmith.privacy.row_losses import FloatArray, Losses

MIN_K = 0.2
"""The share of a row's unlikeliest tokens that the min-k% attack reads."""


def attack_scores(own: Losses, untuned: Losses | None) -> dict[str, FloatArray]:
    """Return [N] of every attack that can be made with these losses.

    ``loss``: how small the loss is (Yeom et al. 2018). ``min_k``: how likely the least likely tokens are (Shi et al.
    2024). ``reference``: how much smaller the loss is than that of the ``untuned`` model, so that rows which are easy
    for every model look like no members (Carlini et al. 2021). ``untuned``: how small the loss of that model is, which
    has seen none of the rows: what it tells apart are the texts, and no attack.
    """
    found = {"loss": -own.of_rows}
    if own.units is not None:
        lowest = (_mean_of_largest(own.units[row]) for row in range(len(own.units)))
        found["min_k"] = -np.fromiter(lowest, dtype=np.float64, count=len(own.units))
    if untuned is not None:
        found["reference"] = untuned.of_rows - own.of_rows
        found["untuned"] = -untuned.of_rows
    return found


def _mean_of_largest(losses: npt.NDArray[Any]) -> float:
    if not len(losses):
        return float("nan")
    number = max(round(MIN_K * len(losses)), 1)
    return float(np.sort(losses)[-number:].mean())


def judged_attack(
    member_N: npt.NDArray[np.bool_], scores_N: FloatArray, *, num_resamples: int, confidence: float, seed: int
) -> dict[str, IntervalDict]:
    """Return ``auroc`` and ``tpr_at_1_fpr`` of an attack, each with its interval; rows without a score do not count."""
    is_known = np.isfinite(scores_N)
    member_N, scores_N = member_N[is_known], scores_N[is_known]

    def figures(weights_RN: FloatArray) -> Mapping[str, FloatArray]:
        return membership_figures(member_N, scores_N, weights_RN)

    return with_intervals(figures, len(member_N), num_resamples=num_resamples, confidence=confidence, seed=seed)


def loss_gap(
    member_N: npt.NDArray[np.bool_], losses_N: FloatArray, *, num_resamples: int, confidence: float, seed: int
) -> dict[str, IntervalDict]:
    """Return the mean loss of training rows (``train``), of others (``held_out``) and what lies between (``gap``)."""
    is_known = np.isfinite(losses_N)
    member_N, losses_N = member_N[is_known], losses_N[is_known]

    def figures(weights_RN: FloatArray) -> Mapping[str, FloatArray]:
        means = [_weighted_mean(weights_RN * chosen, losses_N) for chosen in (member_N, ~member_N)]
        return {"train": means[0], "held_out": means[1], "gap": means[1] - means[0]}

    return with_intervals(figures, len(member_N), num_resamples=num_resamples, confidence=confidence, seed=seed)


def mean_with_interval(values_N: FloatArray, *, num_resamples: int, confidence: float, seed: int) -> IntervalDict:
    """Return the mean of some values with its interval."""

    def figures(weights_RN: FloatArray) -> Mapping[str, FloatArray]:
        return {"mean": _weighted_mean(weights_RN, values_N)}

    found = with_intervals(figures, len(values_N), num_resamples=num_resamples, confidence=confidence, seed=seed)
    return found["mean"]


def _weighted_mean(weights_RN: FloatArray, values_N: FloatArray) -> FloatArray:
    totals_R = weights_RN.sum(axis=1)
    means: FloatArray = np.full(len(totals_R), np.nan)
    np.divide(weights_RN @ values_N, totals_R, out=means, where=totals_R > 0)
    return means


def with_intervals(
    figures: Callable[[FloatArray], Mapping[str, FloatArray]],
    num_rows: int,
    *,
    num_resamples: int,
    confidence: float,
    seed: int,
) -> dict[str, IntervalDict]:
    """Return figures of rows, given by weightings [R, N] of these, with bootstrap intervals."""
    values = figures(np.ones((1, num_rows)))
    parts = [figures(weights_RN) for weights_RN in resamples(num_rows, num_resamples, seed)]
    found = {}
    for name, value in values.items():
        drawn = np.concatenate([part[name] for part in parts]) if parts else np.empty(0)
        found[name] = interval(float(value[0]), drawn, confidence)
    return found
