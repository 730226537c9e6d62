"""Which learning rates are tried for a method, and which of them is taken: the same number of trials for everybody.

Rates stand a factor of 3 apart around the method's own default. All are followed for a third of the training, the
better half of them to its end; then one more rate is tried on the side where the best lies at the edge, or else between
the best and its better neighbour, so that every method has had as many trials. Ties are decided by the validation loss,
and then for the lower rate: one that is three times too high costs more than one that is three times too low.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

FACTOR = 3.0
FIRST_SHARE = 1 / 3
"""Part of a training after which the worse half of the rates is given up."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of a rate on the validation rows."""

    value: float | None
    """The best value of the metric that decides; None where training failed, or the metric has no value."""
    loss: float | None = None


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


def better_half(tried: Mapping[float, Tried], *, higher: bool) -> list[float]:
    """Return the better half of the rates, rounded up, without those that failed, best first."""
    ranked = _ranked(tried, higher=higher)
    return ranked[: math.ceil(len(tried) / 2)]


def further_rate(tried: Mapping[float, Tried], finished: Iterable[float], *, higher: bool) -> float | None:
    """Return the rate of the last trial: beyond the edge where the best lies there, else beside it; None without any.

    Args:
        tried: All rates, with what came of them as far as they were followed.
        finished: Those that were followed to the end, among which the best is.
        higher: Whether higher values are better.
    """
    best = best_rate({rate: tried[rate] for rate in finished}, higher=higher)
    if best is None:
        return None
    rates = sorted(tried)
    place = rates.index(best)
    if place == 0:
        return _rounded(best / FACTOR)
    if place == len(rates) - 1:
        return _rounded(best * FACTOR)
    ranked = _ranked({rate: tried[rate] for rate in (rates[place - 1], rates[place + 1])}, higher=higher)
    neighbour = ranked[0] if ranked else rates[place - 1]
    return _rounded(math.sqrt(best * neighbour))


def best_rate(tried: Mapping[float, Tried], *, higher: bool) -> float | None:
    """Return the rate with the best value; None where none has one."""
    return next(iter(_ranked(tried, higher=higher)), None)


def num_trainings(number: int) -> float:
    """Return how many whole trainings the trials of ``number`` rates cost, the last one included."""
    if number < 2:
        return 0.0
    return number * FIRST_SHARE + math.ceil(number / 2) * (1 - FIRST_SHARE) + 1


def first_stop(total_steps: int) -> int:
    """Return the step after which the worse half of the rates is given up."""
    return max(1, round(total_steps * FIRST_SHARE))


def _ranked(tried: Mapping[float, Tried], *, higher: bool) -> list[float]:
    def key(rate: float) -> tuple[float, float, float]:
        one = tried[rate]
        assert one.value is not None
        loss = one.loss if one.loss is not None and math.isfinite(one.loss) else math.inf
        return (-one.value if higher else one.value, loss, rate)

    known: Sequence[float] = [rate for rate, one in tried.items() if one.value is not None and math.isfinite(one.value)]
    return sorted(known, key=key)


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")
