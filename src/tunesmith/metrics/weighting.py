"""Sums over row-weighted replicates: what every metric here is made of.

A bootstrap replicate is a vector of row counts, so a metric of R replicates is a handful
of weighted sums over the N rows. Sums over groups of rows (a class, a tie, a bin) are
products of a sparse [G, N] indicator with the weights, laid out ``weights_NR`` so that
every row's R weights lie side by side.

Shapes: N rows, R replicates, K classes, G groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
import numpy.typing as npt

from tunesmith.metrics.ranges import within_range

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
Metrics = dict[str, FloatArray]

MAX_WEIGHTS = 4_000_000
"""Most weights (rows x replicates) worked on at once: 32 MB, and a few temporaries of that size."""


def over_replicates(compute: Callable[[FloatArray], Metrics], weights_RN: npt.ArrayLike, num_rows: int) -> Metrics:
    """Call ``compute(weights_NR)`` on blocks of replicates and join its results along the first axis.

    Values that rounding pushed out of the range of their metric are put back to its end.

    Raises ``ValueError`` when ``weights_RN`` is not a matrix of ``num_rows`` columns or there is no row.
    """
    weights = np.asarray(weights_RN)
    if weights.ndim != 2 or weights.shape[1] != num_rows:
        raise ValueError(f"weights have shape {weights.shape}; expected (replicates, {num_rows}).")
    if num_rows == 0:
        raise ValueError("metrics of no rows are undefined.")
    step = max(1, MAX_WEIGHTS // num_rows)
    blocks = [
        compute(np.ascontiguousarray(weights[start : start + step].T, dtype=np.float64))
        for start in range(0, max(1, len(weights)), step)
    ]
    joined = {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
    return within_range(joined)


def segment_sums(rows: npt.NDArray[np.integer], starts: npt.NDArray[np.integer], weights_NR: FloatArray) -> FloatArray:
    """Return [G, R]: the weights summed over ``rows[starts[g]:starts[g + 1]]`` (to the end for the last one)."""
    from scipy.sparse import csr_array

    borders = np.append(starts, len(rows))
    shape = (len(starts), len(weights_NR))
    sums = csr_array((np.ones(len(rows)), rows, borders), shape=shape) @ weights_NR
    return cast("FloatArray", sums)


def group_sums(
    groups_N: npt.NDArray[np.integer], num_groups: int, weights_NR: FloatArray, values_N: FloatArray | None = None
) -> FloatArray:
    """Return [G, R]: the weights (times ``values_N``) summed over the rows of each group; group -1 is left out."""
    from scipy.sparse import csr_array

    rows = np.flatnonzero(groups_N >= 0)
    values = np.ones(len(rows)) if values_N is None else values_N[rows]
    indicator = csr_array((values, (groups_N[rows], rows)), shape=(num_groups, len(weights_NR)))
    return cast("FloatArray", indicator @ weights_NR)


def ratio(numerator: FloatArray, denominator: FloatArray, otherwise: float = 0.0) -> FloatArray:
    """Divide, giving ``otherwise`` where the denominator is zero."""
    result: FloatArray = np.full(np.broadcast_shapes(numerator.shape, denominator.shape), otherwise)
    np.divide(numerator, denominator, out=result, where=denominator != 0)
    return result


def mean_where(values: FloatArray, keep: BoolArray, axis: int = 0) -> FloatArray:
    """Mean of the kept entries along ``axis``; nan where none is kept."""
    kept: FloatArray = np.where(keep, values, 0.0).sum(axis=axis)
    return ratio(kept, keep.sum(axis=axis).astype(np.float64), otherwise=np.nan)
