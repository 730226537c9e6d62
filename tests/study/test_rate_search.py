"""Which rates are tried, and which is taken."""

from __future__ import annotations

import math

import pytest

from tunesmith.study.rate_search import (
    Tried,
    Yardstick,
    best_rate,
    better_half,
    first_stop,
    further_rate,
    num_trainings,
    rounds,
)

UP, DOWN = Yardstick(higher=True), Yardstick(higher=False)


def test_rates_stand_a_factor_of_three_apart_and_come_from_the_middle() -> None:
    assert rounds(1e-3, 1) == [[1e-3]]
    assert rounds(1e-3, 5) == [[1e-3], [3.3e-4, 3e-3], [1.1e-4, 9e-3]]
    assert rounds(1e-3, 4) == [[1e-3], [3.3e-4, 3e-3], [1.1e-4]]  # of an even number the last is the lower one


def test_the_better_half_goes_on_and_what_failed_does_not() -> None:
    tried = {1e-4: Tried(0.7), 3e-4: Tried(0.9), 1e-3: Tried(0.8), 3e-3: Tried(None), 9e-3: Tried(math.nan)}
    assert better_half(tried, UP) == [3e-4, 1e-3, 1e-4]
    assert better_half(tried, DOWN) == [1e-4, 1e-3, 3e-4]
    assert better_half({1.0: Tried(None)}, UP) == []


def test_ties_go_to_the_lower_loss_and_then_to_the_lower_rate() -> None:
    assert best_rate({1e-4: Tried(0.9, 0.5), 1e-3: Tried(0.9, 0.4)}, UP) == 1e-3
    assert best_rate({1e-4: Tried(0.9, 0.4), 1e-3: Tried(0.9, 0.4)}, UP) == 1e-4
    assert best_rate({1e-4: Tried(0.9, None), 1e-3: Tried(0.9, 0.4)}, UP) == 1e-3


def test_what_the_rows_cannot_tell_apart_is_decided_by_the_loss() -> None:
    """One standard error of 0.76 on 150 rows is 0.035; on 1,500 it is 0.011."""
    tried = {5e-5: Tried(0.74, 0.52), 1.5e-4: Tried(0.72, 0.51), 4.5e-4: Tried(0.76, 0.54), 1.3e-3: Tried(0.61, 0.4)}
    assert Yardstick(higher=True, num_rows=150).ranked(tried) == [5e-5, 4.5e-4, 1.5e-4, 1.3e-3]
    assert best_rate(tried, Yardstick(higher=True, num_rows=1500)) == 4.5e-4
    wrong = {rate: Tried(1 - one.value, one.loss) for rate, one in tried.items() if one.value}
    assert best_rate(wrong, Yardstick(higher=False, num_rows=150)) == 5e-5
    assert best_rate({1e-4: Tried(31.0, 2.0), 1e-3: Tried(31.1, 2.1)}, Yardstick(higher=True, num_rows=9)) == 1e-3


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ((0.9, 0.8, 0.7), 3.3e-5),  # the best lies at the lower edge: one more below it
        ((0.7, 0.8, 0.9), 3e-3),  # at the upper edge
        ((0.8, 0.9, 0.7), 1.7e-4),  # inside: between the best and its better neighbour
        ((0.7, 0.9, 0.8), 5.5e-4),
    ],
)
def test_every_method_gets_one_more_rate(values: tuple[float, ...], expected: float) -> None:
    rates = (1e-4, 3e-4, 1e-3)
    tried = {rate: Tried(value) for rate, value in zip(rates, values, strict=True)}
    assert further_rate(tried, rates, UP) == expected


def test_the_further_rate_is_chosen_by_those_followed_to_the_end() -> None:
    tried = {1e-4: Tried(0.99), 3e-4: Tried(0.9), 1e-3: Tried(0.8)}
    assert further_rate(tried, [3e-4, 1e-3], UP) == 1.7e-4
    assert further_rate({1e-4: Tried(None)}, [1e-4], UP) is None


def test_what_tuning_costs() -> None:
    assert num_trainings(1) == 0
    assert num_trainings(5) == pytest.approx(5 / 3 + 3 * 2 / 3 + 1)
    assert [first_stop(steps) for steps in (1, 3, 100)] == [1, 1, 33]
