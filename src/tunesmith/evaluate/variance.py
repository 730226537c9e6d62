r"""Where the uncertainty of a contest comes from: the test rows, and the seeds.

The metric of a run of method m with seed s on N test rows is taken as

    v = mean_m + cut_s + seed_ms + (1/N) sum over rows of (row_mi + both_msi)

with what a seed does to all methods alike (the cut into training and validation rows), what it does to this one, what a
row does to the method whatever the seed, and what seed and row do only together (two runs of one method get different
rows wrong). Hence, for the difference of two means over S seeds:

- **rows**: Var(row) / N, which no further seed makes smaller. It is the covariance, over the resamples of the rows, of
  *different* seeds' differences. The variance of the resampled mean holds Var(both) / (N S) besides, and the spread of
  the seeds' values on the same rows holds it once more: the sum of these two counts it twice, which for methods that
  are much alike (where little else is left) makes intervals up to 1.4 times too wide.
- **seeds**: (Var(seed) + Var(both) / N) / S, which is what the values of the runs spread by. It is pooled over all
  methods, since that of three values alone is hardly known. What seeds do to all methods alike falls out of a
  difference: where the cut changes with the seed, the spread is that of the residuals of methods x seeds (the paired
  differences, pooled).
  A method whose own spread is larger than that of the others, by more than chance explains, keeps its own.

Satterthwaite's (1946) degrees of freedom for a sum of variances: V^2 / sum(V_i^2 / df_i).

Shapes: S seeds, R resamples, M methods.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from tunesmith.evaluate.entrants import Entrant
from tunesmith.evaluate.student import chance_of_ratio
from tunesmith.tasks.judge import FloatArray

ROUNDING = 1e-12
"""What is left of values and is a smaller part of them is none."""
LOUDER = 0.05
"""A method whose spread over seeds is this improbable beside that of the others is not pooled with them."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A variance of single runs, and how well it is known."""

    variance: float
    freedom: float
    """Degrees of freedom; 0 where nothing is known."""


@dataclass(frozen=True, slots=True)
class Parts:
    """The variance of a mean, or of a difference of means."""

    rows: float
    """What other test rows would change, whatever the seeds."""
    seeds: float
    """What other seeds would change on these test rows."""
    joint: float
    """That part of ``seeds`` which more test rows would make smaller as well."""
    freedom: float
    """Satterthwaite's degrees of freedom of rows + seeds."""
    seed_freedom: float
    """Those of ``seeds`` alone; 0 where there is nothing to tell seeds by."""

    @property
    def total(self) -> float:
        """Rows and seeds together."""
        return self.rows + self.seeds


def satterthwaite(*parts: tuple[float, float]) -> float:
    """Return the degrees of freedom of a sum of variances, each given with its own; infinite where all are 0."""
    total = sum(variance for variance, _ in parts)
    noise = sum(variance**2 / freedom for variance, freedom in parts if variance > 0 and freedom > 0)
    return total**2 / noise if noise > 0 else math.inf


class SeedSpreads:
    """How much the values of runs spread over seeds, over all entrants of a contest."""

    def __init__(self, entrants: Sequence[Entrant], *, paired: bool) -> None:
        """Look at the values; ``paired`` says that a seed means the same cut of the rows for all methods."""
        self._runs = [one for one in entrants if one.varies and np.isfinite(one.values).all()]
        self._paired = paired

    def of_mean(self, entrant: Entrant) -> Spread:
        """Return the spread of a method's runs, with what a seed does to all methods alike."""
        if not entrant.varies:
            return Spread(0.0, math.inf)
        pooled = self._pooled_within
        if self._paired and len(self._runs) > 1:
            pooled = self._with_the_cut(pooled)
        others = self._within([one for one in self._runs if one is not entrant])
        return _louder(self._within([entrant]), others, pooled)

    def of_difference(self, first: Entrant, second: Entrant) -> Spread:
        """Return half the variance of the difference of two runs of the same seed: the spread of one of them."""
        pair = [first, second]
        alike = self._paired and first.seeds == second.seeds
        spread = self._residual if alike else self._within
        others = spread([one for one in self._runs if one not in pair])
        pooled = self._pooled_residual if alike else self._pooled_within
        return _louder(spread(pair), others, pooled)

    @cached_property
    def _pooled_within(self) -> Spread:
        return self._within(self._runs)

    @cached_property
    def _pooled_residual(self) -> Spread:
        return self._residual(self._runs)

    @staticmethod
    def _within(runs: Sequence[Entrant]) -> Spread:
        """Return the variance within methods, pooled."""
        freedom = sum(len(one.seeds) - 1 for one in runs)
        squares = sum(float(((one.values - one.mean) ** 2).sum()) for one in runs)
        return Spread(squares / freedom, freedom) if freedom else Spread(0.0, 0)

    @staticmethod
    def _residual(runs: Sequence[Entrant]) -> Spread:
        """Return the variance that is left when methods and seeds have been taken out (two-way analysis)."""
        seeds = sorted({seed for one in runs for seed in one.seeds})
        cells = [(m, seeds.index(seed)) for m, one in enumerate(runs) for seed in one.seeds]
        if not cells:
            return Spread(0.0, 0)
        values = np.concatenate([one.values for one in runs])
        design = np.zeros((len(cells), len(runs) + len(seeds)))
        for cell, (method, seed) in enumerate(cells):
            design[cell, [method, len(runs) + seed]] = 1.0
        fitted, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
        freedom = len(cells) - int(rank)
        if not freedom:
            return Spread(0.0, 0)
        left = values - design @ fitted
        left[np.abs(left) < ROUNDING * np.abs(values).max()] = 0.0
        return Spread(float((left**2).sum()) / freedom, freedom)

    def _with_the_cut(self, pooled: Spread) -> Spread:
        """Return the pooled variance with the degrees of freedom that are left where seeds move all methods alike.

        For M methods on the same S seeds it is (MS_seeds + (M - 1) MS_residual) / M.
        """
        num_methods, fewest = len(self._runs), min(len(one.seeds) for one in self._runs)
        if any(one.seeds != self._runs[0].seeds for one in self._runs):
            return Spread(pooled.variance, min(pooled.freedom, fewest - 1))
        residual = self._pooled_residual
        whole = num_methods * pooled.variance
        rest = (num_methods - 1) * residual.variance
        freedom = satterthwaite((whole - rest, fewest - 1), (rest, residual.freedom))
        return Spread(pooled.variance, min(freedom, pooled.freedom))


def _louder(own: Spread, others: Spread, pooled: Spread) -> Spread:
    """Return the pooled spread, or the own one where it is larger than that of the others by more than chance."""
    if not own.freedom or not others.freedom or own.variance <= others.variance:
        return pooled
    if not others.variance or chance_of_ratio(own.variance / others.variance, own.freedom, others.freedom) < LOUDER:
        return own
    return pooled


def parts_of_mean(entrant: Entrant, spreads: SeedSpreads, num_units: int) -> Parts:
    """Return the variance of a method's mean over its seeds; ``num_units`` are the test rows, or their groups."""
    covariance = _covariance(entrant.resampled, num_units)
    varying = (entrant,) if entrant.varies else ()
    spread = spreads.of_mean(entrant)
    return _parts(_off_diagonal(covariance), float(np.diag(covariance).mean()), spread, varying, num_units)


def parts_of_difference(first: Entrant, second: Entrant, spreads: SeedSpreads, num_units: int) -> Parts:
    """Return the variance of first minus second, each the mean over its seeds."""
    num_first = len(first.values)
    covariance = _covariance(np.concatenate([first.resampled, second.resampled]), num_units)
    own, other = covariance[:num_first, :num_first], covariance[num_first:, num_first:]
    between = covariance[:num_first, num_first:]
    # Runs of one seed may have the cut in common: only those of different seeds tell what the rows alone do.
    differ = np.array([[a != b for b in second.seeds or (None,)] for a in first.seeds or (None,)])
    shared = float(between[differ].mean()) if differ.any() else float(between.mean())
    rows = _off_diagonal(own) + _off_diagonal(other) - 2 * shared
    single = float(np.diag(own).mean() + np.diag(other).mean() - 2 * between.mean())
    varying = tuple(one for one in (first, second) if one.varies)
    if len(varying) == 2:
        spread = spreads.of_difference(first, second)
    else:
        spread = spreads.of_mean(varying[0]) if varying else Spread(0.0, math.inf)
    return _parts(rows, single, spread, varying, num_units)


def _covariance(resampled_SR: FloatArray, num_units: int) -> FloatArray:
    """Return [S, S] over the resamples in which all runs have a value; nan where there are fewer than two.

    A resample of n units spreads by (n - 1) / n too little.
    """
    defined = resampled_SR[:, np.isfinite(resampled_SR).all(axis=0)]
    if defined.shape[1] < 2 or num_units < 2:
        return np.full((len(resampled_SR),) * 2, np.nan)
    found: FloatArray = np.atleast_2d(np.cov(defined)) * (num_units / (num_units - 1))
    return found


def _off_diagonal(covariance_SS: FloatArray) -> float:
    """Return the mean covariance of different runs; the variance of the only one."""
    num_runs = len(covariance_SS)
    if num_runs == 1:
        return float(covariance_SS[0, 0])
    return float((covariance_SS.sum() - np.trace(covariance_SS)) / (num_runs * (num_runs - 1)))


def _parts(rows: float, single: float, spread: Spread, varying: Sequence[Entrant], num_units: int) -> Parts:
    """Put the parts together; ``single`` is what the rows do to one run (or the difference of two)."""
    share = sum(1 / len(one.seeds) for one in varying)
    rows = max(rows, 0.0) if math.isfinite(rows) else rows
    joint = max(single - rows, 0.0) * share / max(len(varying), 1) if spread.freedom and math.isfinite(rows) else 0.0
    # A few values may be equal by chance: what the rows say of single runs is the least that they spread by.
    seeds = max(spread.variance * share, joint) if spread.freedom else 0.0
    freedom = satterthwaite((rows, num_units - 1), (seeds, spread.freedom))
    return Parts(rows, seeds, joint, freedom, spread.freedom)
