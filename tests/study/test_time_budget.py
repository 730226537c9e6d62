"""What is cut to keep to a budget: rates before seeds, seeds before methods."""

from __future__ import annotations

import pytest

from tunesmith.study.time_budget import Cost, Scope, fit

COSTS = {"full": Cost(100.0, 10.0), "lora": Cost(60.0, 10.0), "freeze": Cost(10.0, 5.0)}
WHOLE = Scope(("full", "lora", "freeze"), rates=5, seeds=3)


def needed(scope: Scope) -> float:
    return sum(COSTS[name].needed(scope.rates, scope.seeds) for name in scope.methods)


def test_all_of_it_where_there_is_time() -> None:
    assert fit(WHOLE, COSTS, "full", needed(WHOLE)) == WHOLE


@pytest.mark.parametrize(
    ("rates", "seeds", "methods"),
    [
        (3, 3, ("full", "lora", "freeze")),
        (1, 3, ("full", "lora", "freeze")),
        (1, 2, ("full", "lora", "freeze")),
        (1, 2, ("full", "freeze")),
        (1, 1, ("full", "freeze")),
    ],
)
def test_cut_in_this_order_and_no_more_than_needed(rates: int, seeds: int, methods: tuple[str, ...]) -> None:
    expected = Scope(methods, rates, seeds)
    found = fit(WHOLE, COSTS, "full", needed(expected))
    assert found == expected
    assert found.cuts
    assert ("learning rate" in found.cuts[0]) == (rates < 5)
    assert any("without lora" in cut for cut in found.cuts) == ("lora" not in methods)


def test_the_reference_stays_whatever_it_costs() -> None:
    found = fit(WHOLE, COSTS, "full", needed(Scope(("full", "freeze"), 1, 1)))
    assert found is not None
    assert "full" in found.methods


def test_too_little_time_for_anything() -> None:
    assert fit(WHOLE, COSTS, "full", 120.0) is None
