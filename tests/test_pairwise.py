"""Combinations of settings for tests: none of two settings is missing."""

from __future__ import annotations

from itertools import product

from hypothesis import given
from hypothesis import strategies as st

from pairwise import pairs_of, pairwise

sizes = st.lists(st.integers(1, 5), min_size=2, max_size=4)


def factors_of(numbers: list[int]) -> list[list[str]]:
    return [[f"{place}-{value}" for value in range(number)] for place, number in enumerate(numbers)]


@given(sizes)
def test_every_two_values_meet_in_few_rows(numbers: list[int]) -> None:
    factors = factors_of(numbers)
    rows = pairwise(*factors)
    assert set().union(*map(pairs_of, rows)) == set().union(*map(pairs_of, product(*factors)))
    first, second = sorted(numbers)[-2:]
    assert first * second <= len(rows) <= 2 * first * second
    assert rows == pairwise(*factors)


def test_rows_that_are_not_allowed_are_left_out_and_their_other_pairs_are_not() -> None:
    factors = factors_of([3, 3, 2])
    rows = pairwise(*factors, allowed=lambda row: row[1:] != ("1-0", "2-0"))
    assert ("1-0", "2-0") not in {row[1:] for row in rows}
    met = set().union(*map(pairs_of, rows))
    assert len(met) == 3 * 3 + 3 * 2 + 3 * 2 - 1


def test_two_large_factors_decide_how_many_rows_there_are() -> None:
    assert len(pairwise(*factors_of([13, 9, 2]))) == 13 * 9
