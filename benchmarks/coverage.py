"""What the contest's intervals cover: ``python -m benchmarks.coverage``, or ``--trials 200`` for a trial of it.

Contests are drawn whose truth is known: methods with seeds, test rows, and what the two do together, as in
``tunesmith.evaluate.variance``. Each is compared as a real one is. Counted are the intervals that hold the true
difference, the contests of methods that are all alike in which any of them is called better or worse, and those in
which one of them is not ruled out as the best. Beside it stand the two ways that are not used: rows and seeds simply
added, and the percentile bootstrap crossed over seeds.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, t

from tunesmith.evaluate import Entrant, Terms, compare, estimates, may_be_best, pairs_with

FloatArray = npt.NDArray[np.float64]
NUM_RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class World:
    """A contest whose truth is known: M methods that are alike, S seeds, N test rows."""

    num_methods: int
    num_seeds: int
    num_rows: int
    seed_share: float
    """Which share of the variance of a difference of two means further seeds would change."""
    both: float = 0.5
    """Variance of what seed and row do together, beside that of what a row does to a method."""
    cut: float = 0.0
    """Variance of what a seed does to all methods alike, in multiples of what it does to one."""
    paired: bool = False
    louder: tuple[float, ...] = ()
    """By how much more than usual the seeds of the first methods spread (standard deviations)."""
    metric: str = "mean"
    """mean: of the rows' scores; accuracy: of scores above 0."""

    @property
    def spreads(self) -> tuple[float, float]:
        """Variances of what a seed does, and of what seed and row do together, that give ``seed_share``."""
        rows = 1.0 / self.num_rows
        wanted = self.num_seeds * rows * self.seed_share / (1 - self.seed_share)
        both = min(self.both / self.num_rows, wanted)
        return wanted - both, both * self.num_rows

    def draw(self, random: np.random.Generator) -> FloatArray:
        """Return [M, S, N]: every run's score of every row; the truth is that all methods are alike."""
        shape = (self.num_methods, self.num_seeds, self.num_rows)
        seed, both = self.spreads
        loud = np.ones(self.num_methods)
        loud[: len(self.louder)] = self.louder
        scores = random.normal(size=(1, 1, self.num_rows)) + random.normal(size=(shape[0], 1, shape[2]))
        scores = scores + random.normal(size=(*shape[:2], 1)) * math.sqrt(seed) * loud[:, None, None]
        scores += random.normal(size=(1, shape[1], 1)) * math.sqrt(seed * self.cut)
        scores += random.normal(size=shape) * math.sqrt(both)
        return (scores + 1.0 > 0).astype(np.float64) if self.metric == "accuracy" else scores

    @property
    def true_means(self) -> FloatArray:
        """[M]: what each method's mean would be over all seeds and rows."""
        if self.metric != "accuracy":
            return np.zeros(self.num_methods)
        seed, both = self.spreads
        loud = np.ones(self.num_methods)
        loud[: len(self.louder)] = self.louder
        found: FloatArray = norm.cdf(1.0 / np.sqrt(2 + seed * (loud**2 + self.cut) + both))
        return found


@dataclass(slots=True)
class Counts:
    """How often something was so."""

    hits: int = 0
    number: int = 0

    def add(self, hits: int, number: int = 1) -> None:
        self.hits += hits
        self.number += number

    @property
    def share(self) -> float:
        return self.hits / self.number


@dataclass(frozen=True, slots=True)
class Found:
    """What came of the contests of one world."""

    difference: Counts
    """Intervals of differences that held the truth."""
    mean: Counts
    """Those of a method's mean."""
    alarms: Counts
    """Contests in which anything was called better or worse."""
    best: Counts
    """Contests in which the best method is among those that may be it: the first one, where all are alike."""
    added: Counts
    """Coverage of rows and seeds simply added (what they do together counted twice)."""
    percentile: Counts
    """Coverage of the percentile bootstrap crossed over seeds and rows."""


def simulate(world: World, num_trials: int, seed: int = 0, *, contrasts: bool = True) -> Found:
    """Draw contests and count; ``contrasts`` asks for the two ways that are not used, too."""
    random = np.random.default_rng(seed)
    counts_RN = random.multinomial(world.num_rows, np.ones(world.num_rows) / world.num_rows, size=NUM_RESAMPLES)
    weights_NR = counts_RN.T / world.num_rows
    found = Found(*(Counts() for _ in range(6)))
    truth = world.true_means
    terms = Terms(world.num_rows, margin=None, paired=world.paired)
    for _ in range(num_trials):
        scores = world.draw(random)
        values = scores.mean(axis=2)
        resampled = scores.reshape(-1, world.num_rows) @ weights_NR
        resampled = resampled.reshape(*values.shape, NUM_RESAMPLES)
        seeds = tuple(range(world.num_seeds))
        entrants = [Entrant(f"m{m}", seeds, values[m], resampled[m]) for m in range(world.num_methods)]
        compared = compare(entrants, pairs_with("m0", entrants), terms)
        differences = truth[1:] - truth[0]
        hits = sum(one.low <= true <= one.high for one, true in zip(compared, differences, strict=True))
        found.difference.add(hits, len(compared))
        found.alarms.add(any(one.verdict != "undecided" for one in compared))
        found.best.add(_may_be_best(entrants, world, terms))
        (first, *_) = estimates(entrants, terms)
        found.mean.add(first.low <= truth[0] <= first.high)
        if contrasts:
            found.added.add(_added_holds(values, resampled, float(differences[0])))
            found.percentile.add(_percentile_holds(resampled, float(differences[0]), random))
    return found


def _may_be_best(entrants: Sequence[Entrant], world: World, terms: Terms) -> bool:
    """Say whether the method that is truly best is not ruled out."""
    truly = entrants[int(np.argmax(world.true_means))]
    highest = max(entrants, key=lambda one: one.mean)
    beside = compare(entrants, pairs_with(highest.name, entrants), terms)
    return truly is highest or truly.name in may_be_best(beside, terms)


def _added_holds(values: FloatArray, resampled: FloatArray, truth: float) -> bool:
    """Say whether the interval of the bootstrap of the mean plus the pooled spread of seeds holds the truth."""
    num_methods, num_seeds = values.shape
    difference = values[1].mean() - values[0].mean()
    rows = float((resampled[1].mean(axis=0) - resampled[0].mean(axis=0)).var(ddof=1))
    seeds = 2 * float(values.var(axis=1, ddof=1).mean()) / num_seeds
    freedom = (rows + seeds) ** 2 / (seeds**2 / (num_methods * (num_seeds - 1)))
    return bool(abs(difference - truth) <= t.ppf(0.975, freedom) * math.sqrt(rows + seeds))


def _percentile_holds(resampled: FloatArray, truth: float, random: np.random.Generator) -> bool:
    """Say whether the percentile interval holds the truth, seeds drawn again like rows."""
    num_seeds, num_resamples = resampled.shape[1:]
    drawn = random.integers(0, num_seeds, (2, num_seeds, num_resamples))
    first, second = (np.take_along_axis(resampled[m], drawn[m], axis=0).mean(axis=0) for m in (1, 0))
    low, high = np.quantile(first - second, [0.025, 0.975])
    return bool(low <= truth <= high)


GRID = [
    World(8, num_seeds, num_rows, share, metric=metric)
    for metric in ("mean", "accuracy")
    for num_seeds in (3, 5)
    for share in (0.1, 0.5, 0.9)
    for num_rows in (100, 400, 1600)
]
"""Point by point: seeds, their share of the variance, rows; eight methods, all alike."""

SPECIAL = {
    "two methods": World(2, 3, 400, 0.5),
    "two methods, paired": World(2, 3, 400, 0.5, paired=True),
    "seeds and rows mostly together": World(8, 3, 400, 0.5, both=3.0),
    "the cut moves all methods, paired": World(8, 3, 400, 0.5, cut=3.0, paired=True),
    "the cut moves all methods, not paired": World(8, 3, 400, 0.5, cut=3.0),
    "no cut, paired all the same": World(8, 3, 400, 0.5, paired=True),
    "the reference's seeds spread 3 times as much": World(8, 3, 400, 0.5, louder=(3.0,)),
    "another method's seeds spread 3 times as much": World(8, 3, 400, 0.5, louder=(1.0, 3.0)),
    "half of the methods' seeds spread 3 times as much": World(
        8, 3, 400, 0.5, louder=(1.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0, 3.0)
    ),
}


def row(name: str, world: World, found: Found) -> str:
    """Return a line of the table."""
    shares = (found.difference, found.mean, found.alarms, found.best, found.added, found.percentile)
    return f"| {name} | {world.num_rows:,} | " + " | ".join(f"{one.share:.1%}" for one in shares) + " |"


HEADER = (
    "| contest | rows | differences covered | means covered | alarms | best kept | rows and seeds added "
    "| percentile bootstrap |\n| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage", description=__doc__)
    parser.add_argument("--trials", type=int, default=2000, help="contests of every line (2000)")
    parser.add_argument("--rows", type=int, help="only the lines of the grid with so many test rows")
    options = parser.parse_args(arguments)
    print(HEADER)
    for world in GRID:
        if options.rows not in (None, world.num_rows):
            continue
        name = f"{world.metric}, {world.num_seeds} seeds, {world.seed_share:.0%} by seeds"
        print(row(name, world, simulate(world, options.trials)), flush=True)
    print(f"\n{HEADER}")
    for name, world in SPECIAL.items():
        print(row(name, world, simulate(world, options.trials)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
