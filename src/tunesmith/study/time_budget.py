"""What fits into the time for a contest: rates tried are cut before seeds, and seeds before methods."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tunesmith.readable import duration
from tunesmith.study.rate_search import num_trainings

FEWEST_SEEDS = 2
"""Below them nothing is known of how much a method's results vary: cut last before methods are."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds that a method takes."""

    training: float
    """A whole training with its evaluations."""
    finishing: float
    """Everything else of a run that counts: loading, saving, the test rows."""

    def needed(self, rates: int, seeds: int) -> float:
        """Return the seconds for tuning over ``rates`` and for ``seeds`` runs."""
        return self.training * (num_trainings(rates) + seeds) + self.finishing * seeds


@dataclass(frozen=True, slots=True)
class Scope:
    """How much a contest does."""

    methods: tuple[str, ...]
    rates: int
    seeds: int
    cuts: tuple[str, ...] = field(default=(), compare=False)
    """What was cut, in words; of seeds that is said when there turns out to be no time for them."""


def fit(scope: Scope, costs: Mapping[str, Cost], reference: str, seconds: float) -> Scope | None:
    """Return the largest part of ``scope`` that takes no more than ``seconds``; None where nothing does."""
    for smaller in _smaller(scope, costs, reference):
        if _needed(smaller, costs) <= seconds:
            return replace(smaller, cuts=_words(scope, smaller, costs, seconds))
    return None


def _smaller(scope: Scope, costs: Mapping[str, Cost], reference: str) -> Iterator[Scope]:
    """Yield ``scope`` and its parts, each smaller than the one before.

    One method fewer is the most expensive one; the reference stays, and one to compare with it.
    """
    yield scope
    for rates in _fewer_rates(scope.rates):
        yield replace(scope, rates=rates)
    fewest = min(FEWEST_SEEDS, scope.seeds)
    for seeds in range(scope.seeds - 1, fewest - 1, -1):
        yield replace(scope, rates=1, seeds=seeds)
    methods = list(scope.methods)
    while len(methods) > 2:
        others = [name for name in methods if name != reference]
        methods.remove(max(others, key=lambda name: costs[name].needed(1, fewest)))
        yield Scope(tuple(methods), 1, fewest)
    for seeds in range(fewest - 1, 0, -1):
        yield Scope(tuple(methods), 1, seeds)


def _needed(scope: Scope, costs: Mapping[str, Cost]) -> float:
    return sum(costs[name].needed(scope.rates, scope.seeds) for name in scope.methods)


def _fewer_rates(rates: int) -> Sequence[int]:
    return [number for number in (9, 7, 5, 3, 1) if number < rates]


def _words(before: Scope, after: Scope, costs: Mapping[str, Cost], seconds: float) -> tuple[str, ...]:
    why = f"all of it would take about {duration(_needed(before, costs))}, and there are {duration(seconds)}"
    cuts = []
    if after.rates < before.rates:
        what = "one learning rate" if after.rates == 1 else f"{after.rates} learning rates"
        cuts.append(f"{what} instead of {before.rates} for each method: {why}")
    left_out = [name for name in before.methods if name not in after.methods]
    if left_out:
        cuts.append(f"without {', '.join(left_out)}: {why}")
    return tuple(cuts)
