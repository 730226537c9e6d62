"""Which samples make up which step where several sets are mixed: pure functions of the seed, as for one set.

An epoch has as many samples of each set as its share says, in an order drawn from (seed, epoch). Each set gives its
samples in orders of its own, one whole pass after the other: none comes again before all have come.

Shapes: E samples of all sets, R of an epoch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tunesmith.engine.batch import IntArray
from tunesmith.engine.order import StepPlan, epoch_order


@dataclass(frozen=True, eq=False)
class Mix:
    """Sets that are mixed."""

    members: tuple[IntArray, ...]
    """The samples of each set."""
    counts: tuple[int, ...]
    """How many samples of each an epoch has."""

    @property
    def num_samples(self) -> int:
        """R."""
        return sum(self.counts)

    @property
    def is_whole(self) -> bool:
        """Whether an epoch is a pass over every set: then the sets are one, and nothing is mixed."""
        return all(len(own) == count for own, count in zip(self.members, self.counts, strict=True))

    def epoch(self, seed: int, epoch: int) -> IntArray:
        """Return the samples of an epoch in their order, [R]."""
        sets_R = np.repeat(np.arange(len(self.counts)), self.counts)[epoch_order(self.num_samples, seed, epoch)]
        samples_R = np.empty(self.num_samples, dtype=np.int64)
        for number, (own, count) in enumerate(zip(self.members, self.counts, strict=True)):
            samples_R[sets_R == number] = own[_stream(len(own), [seed, number], epoch * count, count)]
        return samples_R


@dataclass(frozen=True, slots=True, kw_only=True)
class MixedPlan(StepPlan):
    """A plan whose epochs are mixed."""

    mix: Mix

    def order_of(self, epoch: int) -> IntArray:
        return _epoch(self.mix, self.seed, epoch)


def counts_of(sizes: Sequence[int], shares: Sequence[float], total: int) -> tuple[int, ...]:
    """Return how many of ``total`` samples are of each set, by largest remainder; at least one of each.

    Args:
        sizes: Samples of each set; ties go to the larger one.
        shares: Of each, in any unit.
        total: R, or about that where sets have hardly one.
    """
    exact = np.asarray(shares, dtype=np.float64) * (total / sum(shares))
    counts = np.floor(exact + 1e-9).astype(np.int64)
    missing = total - int(counts.sum())
    for index in np.lexsort((-np.asarray(sizes), counts - exact))[:missing]:
        counts[index] += 1
    return tuple(max(int(count), 1) for count in counts)


def _stream(size: int, seeds: list[int], first: int, number: int) -> IntArray:
    """Return ``number`` places of a set of ``size`` from the place ``first`` of its endless stream of passes on."""
    passes = range(first // size, (first + number - 1) // size + 1)
    places = np.concatenate([np.random.default_rng([*seeds, one]).permutation(size) for one in passes])
    start = first - passes.start * size
    return places[start : start + number]


@lru_cache(maxsize=2)
def _epoch(mix: Mix, seed: int, epoch: int) -> IntArray:
    return mix.epoch(seed, epoch)
