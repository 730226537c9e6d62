"""Confidence intervals by the bootstrap (Efron and Tibshirani 1993, chapter 13: percentile intervals).

Every metric is computed on the same resamples of the rows, and the resamples depend on
nothing but the seed and the number of rows: two models scored on the same rows are
resampled alike, which is what makes the intervals of their difference narrow.

Shapes: N rows, R resamples, K labels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.metrics.weighting import MAX_WEIGHTS
from tunesmith.tasks.judge import FloatArray, Judge, Outputs, Targets
from tunesmith.types import InputError

AnyArray = npt.NDArray[Any]

IntervalDict = dict[str, float | None]
"""``{"value", "low", "high"}``; None stands for a number that does not exist, as JSON has no nan."""


@dataclass(frozen=True, slots=True)
class Scores:
    """A model's metrics on all rows and on every resample of them."""

    values: Mapping[str, float]
    resampled: Mapping[str, FloatArray]
    """[R] each."""
    label_values: Mapping[str, FloatArray]
    """[K] each; empty for tasks without labels."""
    label_resampled: Mapping[str, FloatArray]
    """[R, K] each."""


def resamples(num_rows: int, num_resamples: int, seed: int, groups_N: AnyArray | None = None) -> Iterator[FloatArray]:
    """Yield blocks [r, N] of row counts, ``num_resamples`` rows in all; without groups each row of counts sums to N.

    Every row of counts is one draw of N rows with replacement. ``groups_N`` (any values) says which rows belong
    together: then whole groups are drawn, as many as there are, and what they sum to varies. The draws do not depend
    on the size of the blocks, which bounds the memory.
    """
    random = np.random.default_rng(seed)
    of_row = None if groups_N is None else np.unique(groups_N, return_inverse=True)[1]
    num_units = num_rows if of_row is None else int(of_row.max()) + 1
    step = max(1, MAX_WEIGHTS // num_rows)
    for start in range(0, num_resamples, step):
        counts_RN = np.empty((min(step, num_resamples - start), num_rows))
        for row in counts_RN:
            counts = np.bincount(random.integers(0, num_units, num_units), minlength=num_units)
            row[:] = counts if of_row is None else counts[of_row]
        yield counts_RN


def score(
    task: Judge,
    outputs: Outputs,
    targets: Targets,
    *,
    seed: int,
    num_resamples: int,
    groups_N: AnyArray | None = None,
    per_label: bool = True,
) -> Scores:
    """Compute every metric on the rows as they are and on ``num_resamples`` resamples of them.

    ``groups_N`` says which rows belong together and are drawn together; ``per_label`` asks for the metrics of each
    label, too. Raises ``InputError`` when there are no rows.
    """
    num_rows = len(next(iter(outputs.values()), ()))
    if num_rows == 0:
        raise InputError("There are no rows to evaluate.", "Check the evaluation file, or data.test_fraction.")
    everything = np.ones((1, num_rows))
    metrics = task.measure(outputs, targets, everything)
    labels = task.measure_per_label(outputs, targets, everything) if per_label else {}
    blocks: dict[str, list[FloatArray]] = {name: [] for name in metrics}
    label_blocks: dict[str, list[FloatArray]] = {name: [] for name in labels}
    for counts_RN in resamples(num_rows, num_resamples, seed, groups_N):
        for name, values_R in task.measure(outputs, targets, counts_RN).items():
            blocks[name].append(values_R)
        for name, values_RK in (task.measure_per_label(outputs, targets, counts_RN) if per_label else {}).items():
            label_blocks[name].append(values_RK)
    return Scores(
        values={name: float(value[0]) for name, value in metrics.items()},
        resampled={name: np.concatenate(parts) if parts else np.empty(0) for name, parts in blocks.items()},
        label_values={name: value[0] for name, value in labels.items()},
        label_resampled={
            name: np.concatenate(parts) if parts else np.empty((0, labels[name].shape[1]))
            for name, parts in label_blocks.items()
        },
    )


def interval(value: float, resampled_R: FloatArray, confidence: float) -> IntervalDict:
    """Return the value with its percentile interval; resamples where the metric is undefined are left out."""
    defined = resampled_R[np.isfinite(resampled_R)]
    if not np.isfinite(value):
        return {"value": None, "low": None, "high": None}
    if not len(defined):
        return {"value": float(value), "low": None, "high": None}
    tail = (1.0 - confidence) / 2.0
    # Between two values that are nearly equal, interpolation may round to one beyond both.
    low, high = np.clip(np.quantile(defined, [tail, 1.0 - tail]), defined.min(), defined.max())
    return {"value": float(value), "low": float(low), "high": float(high)}


def intervals(scores: Scores, confidence: float) -> dict[str, IntervalDict]:
    """Return every metric with its interval."""
    return {name: interval(value, scores.resampled[name], confidence) for name, value in scores.values.items()}


def difference(first: Scores, second: Scores, confidence: float) -> dict[str, IntervalDict]:
    """Return first minus second for every metric, resample by resample; both must come from the same rows and seed."""
    return {
        name: interval(value - second.values[name], first.resampled[name] - second.resampled[name], confidence)
        for name, value in first.values.items()
        if name in second.values
    }
