"""Which learning rates are tried for a method, and which of them is taken: the same number of trials for everybody.

Rates stand a factor of 3 apart around the method's own default. All are followed for a third of the training, the
better half of them to its end; then one more rate is tried on the side where the best lies at the edge, or else between
the best and its better neighbour, so that every method has had as many trials. Values that the validation rows cannot
tell apart, by the rule of one standard error (Breiman et al. 1984, *Classification and Regression Trees*, 3.4.3), are
ties. Ties are decided by the validation loss, and then for the lower rate: one that is three times too high costs more
than one that is three times too low.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Self

from tunesmith.readable import is_fraction

FACTOR = 3.0
FIRST_SHARE = 1 / 3
"""Part of a training after which the worse half of the rates is given up."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a rate on the validation rows."""

    value: float | None
    """The best value of the metric that decides; None where training failed, or the metric has no value."""
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Yardstick:
    """What the values of the metric that decides are worth."""

    higher: bool
    """Whether higher ones are better."""
    num_rows: int | None = None
    """Validation rows that a share (0 to 1) was counted on; None of other metrics, whose values are taken as exact."""

    @classmethod
    def of(cls, metric: str, num_rows: int | None, *, higher: bool) -> Self:
        """Return the yardstick of a metric on so many validation rows."""
        return cls(higher, num_rows if metric != "loss" and is_fraction(metric) else None)

    def ranked(self, tried: Mapping[float, Tried]) -> list[float]:
        """Return the rates, the best first, without those that failed."""
        known = {rate: one.value for rate, one in tried.items() if one.value is not None and math.isfinite(one.value)}
        if not known:
            return []
        best = max(known.values()) if self.higher else min(known.values())
        nearly = self._standard_error(best)

        def key(rate: float) -> tuple[float, float, float]:
            behind = abs(known[rate] - best)
            loss = tried[rate].loss
            return (
                behind if behind > nearly else 0.0,
                loss if loss is not None and not math.isnan(loss) else math.inf,
                rate,
            )

        return sorted(known, key=key)

    def _standard_error(self, share: float) -> float:
        if self.num_rows is None or not 0 <= share <= 1:
            return 0.0
        return math.sqrt(share * (1 - share) / self.num_rows)


def rounds(centre: float, number: int) -> list[list[float]]:
    """Return ``number`` rates around ``centre`` in the order in which they are tried, those of a round together.

    The centre comes first, then its neighbours on both sides and so on: where time runs out between two rounds, all
    methods have had the same tries. Of an even number the last is the lower one.
    """
    found = [[centre]]
    for distance in range(1, number // 2 + 1):
        sides = [-distance, distance] if 2 * distance < number else [-distance]
        found.append([_rounded(centre * FACTOR**side) for side in sides])
    return found


def better_half(tried: Mapping[float, Tried], yardstick: Yardstick) -> list[float]:
    """Return the better half of the rates, rounded up, without those that failed, best first."""
    return yardstick.ranked(tried)[: math.ceil(len(tried) / 2)]


def further_rate(tried: Mapping[float, Tried], finished: Iterable[float], yardstick: Yardstick) -> float | None:
    """Return the rate of the last trial: beyond the edge where the best lies there, else beside it; None without any.

    Args:
        tried: All rates, with what came of them as far as they were followed.
        finished: Those that were followed to the end, among which the best is.
        yardstick: What their values are worth.
    """
    best = best_rate({rate: tried[rate] for rate in finished}, yardstick)
    if best is None:
        return None
    rates = sorted(tried)
    place = rates.index(best)
    if place == 0:
        return _rounded(best / FACTOR)
    if place == len(rates) - 1:
        return _rounded(best * FACTOR)
    ranked = yardstick.ranked({rate: tried[rate] for rate in (rates[place - 1], rates[place + 1])})
    neighbour = ranked[0] if ranked else rates[place - 1]
    return _rounded(math.sqrt(best * neighbour))


def best_rate(tried: Mapping[float, Tried], yardstick: Yardstick) -> float | None:
    """Return the rate with the best value, of ties that with the lowest loss; None where none has a value."""
    return next(iter(yardstick.ranked(tried)), None)


def num_trainings(number: int) -> float:
    """Return how many whole trainings the trials of ``number`` rates cost, the last one included."""
    if number < 2:
        return 0.0
    return number * FIRST_SHARE + math.ceil(number / 2) * (1 - FIRST_SHARE) + 1


def first_stop(total_steps: int) -> int:
    """Return the step after which the worse half of the rates is given up."""
    return max(1, round(total_steps * FIRST_SHARE))


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")
