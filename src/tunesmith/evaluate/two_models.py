"""Exact tests of two models on the same rows: for contests of one seed, which say nothing of methods."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.data.encoded import Ragged
from tunesmith.metrics.weighting import MAX_WEIGHTS
from tunesmith.tasks.judge import Judge, Outputs, Targets

NUM_SWAPS = 2000

_SMALL = 1e-12
"""Differences that differ by less are the same: sums are rounded."""


def models_p_value(
    task: Judge,
    metric: str,
    first: Outputs,
    second: Outputs,
    targets: Targets,
    *,
    seed: int,
    groups_N: npt.NDArray[Any] | None = None,
) -> float:
    """Return the two-sided p-value of the difference of two models in a metric, on the rows they were both judged by.

    Exact McNemar where the metric is the share of rows that are right and every row stands for itself; else the
    permutation test that swaps the models' outputs on rows (whole groups) chosen by coin.
    """
    if metric == "accuracy" and groups_N is None:
        return mcnemar(task.errors(first, targets) == 0, task.errors(second, targets) == 0)
    return swapped(task, metric, first, second, targets, seed=seed, groups_N=groups_N)


def mcnemar(first_N: npt.NDArray[np.bool_], second_N: npt.NDArray[np.bool_]) -> float:
    """Return the exact two-sided p-value of McNemar (1947): rows that only one model gets right fall like a coin."""
    from scipy.stats import binomtest

    only_first, only_second = int((first_N & ~second_N).sum()), int((second_N & ~first_N).sum())
    if not only_first + only_second:
        return 1.0
    return float(binomtest(only_first, only_first + only_second, 0.5).pvalue)


def swapped(
    task: Judge,
    metric: str,
    first: Outputs,
    second: Outputs,
    targets: Targets,
    *,
    seed: int,
    groups_N: npt.NDArray[Any] | None = None,
    num_swaps: int = NUM_SWAPS,
) -> float:
    """Return the p-value of the permutation test (approximate randomisation, Noreen 1989), for any metric.

    Both models' rows stand in one table of 2N rows; a swap is a choice, by weights of 0 and 1, which of the two a row
    is taken from, so that the metric of all swaps is measured at once. A resample in which the metric is undefined
    counts as one that differs as much. The smallest value is 1 / (swaps + 1).
    """
    outputs = {name: _stacked(first[name], second[name]) for name in first}
    truths = {name: _stacked(values, values) for name, values in targets.items()}
    num_rows = len(next(iter(first.values())))
    of_row = np.arange(num_rows) if groups_N is None else np.unique(groups_N, return_inverse=True)[1]
    random = np.random.default_rng(seed)
    step = max(1, MAX_WEIGHTS // (4 * num_rows))

    def difference(keep_RN: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
        sides = [np.concatenate([keep, ~keep], axis=1) for keep in (keep_RN, ~keep_RN)]
        one, other = (task.measure(outputs, truths, side.astype(np.float64))[metric] for side in sides)
        return one - other

    observed = abs(float(difference(np.ones((1, num_rows), dtype=np.bool_))[0]))
    if not np.isfinite(observed):
        return float("nan")
    num_as_large = 0
    for start in range(0, num_swaps, step):
        coins = random.integers(0, 2, (min(step, num_swaps - start), int(of_row.max()) + 1)).astype(np.bool_)
        found = np.abs(difference(coins[:, of_row]))
        num_as_large += int((~(found < observed - _SMALL)).sum())
    return (1 + num_as_large) / (1 + num_swaps)


def _stacked(first: Any, second: Any) -> Any:
    """Return the rows of both, one after the other."""
    if isinstance(first, Ragged):
        offsets = np.concatenate([first.offsets, second.offsets[1:] + first.offsets[-1]])
        return Ragged(np.concatenate([first.values, second.values]), offsets)
    if isinstance(first, list):
        return [*first, *second]
    return np.concatenate([first, second])
