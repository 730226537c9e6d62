"""The intervals of contests hold the truth as often as they say: counted over contests whose truth is known.

The bounds are 93% and 97%, and three standard errors of the number of contests drawn. The whole table is in
docs/contest-statistics.md.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from benchmarks.coverage import GRID, SPECIAL, World, simulate

BOUNDS = (0.93, 0.97)


def chance(share: float, trials: int) -> float:
    return 3 * math.sqrt(share * (1 - share) / trials)


@pytest.mark.parametrize(("share", "metric"), [(0.1, "accuracy"), (0.9, "mean")])
def test_intervals_cover(share, metric):
    trials = 250
    found = simulate(World(3, 3, 120, share, metric=metric), trials)
    for counts in (found.difference, found.mean):
        assert BOUNDS[0] - chance(0.93, trials) <= counts.share <= min(BOUNDS[1] + chance(0.97, trials), 0.999)
    assert found.alarms.share <= 0.05 + chance(0.05, trials)
    assert found.best.share >= 0.95 - chance(0.95, trials)
    if share == 0.9:
        assert found.percentile.share < BOUNDS[0] - chance(0.93, trials)  # the bound tells good from bad


def test_pairing_matters_where_the_cut_changes_with_the_seed():
    paired, plain = (
        simulate(replace(World(3, 3, 60, 0.8, cut=5.0), paired=paired), 150, contrasts=False)
        for paired in (True, False)
    )
    assert paired.difference.share <= BOUNDS[1] + chance(0.97, 150)
    assert plain.difference.share > paired.difference.share
    assert plain.difference.share > 0.985


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_intervals_cover_over_the_whole_grid():
    trials = 500
    for world in GRID:
        found = simulate(world, trials, contrasts=False)
        for counts in (found.difference, found.mean):
            assert BOUNDS[0] - chance(0.93, trials) <= counts.share <= BOUNDS[1] + chance(0.97, trials), world
        assert found.alarms.share <= 0.05 + chance(0.05, trials), world
        assert found.best.share >= 0.95 - chance(0.95, trials), world


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_what_else_may_be_true_of_a_contest():
    trials = 500
    for name, world in SPECIAL.items():
        found = simulate(world, trials, contrasts=False)
        least = 0.88 if "reference's seeds" in name else BOUNDS[0]  # pooling is only mended where the spread shows
        assert found.difference.share >= least - chance(0.93, trials), name
