"""Rows of a step divided over ranks: each goes to one, and no rank has much more to do than another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.encoded import Encoded, Ragged
from tunesmith.engine.batch import LayoutName
from tunesmith.engine.division import divide


def rows_of(lengths: list[int]) -> Encoded:
    return Encoded({"input_ids": Ragged.from_rows([np.ones(length, dtype=np.int64) for length in lengths])}, {})


@given(
    lengths=st.lists(st.integers(1, 200), min_size=1, max_size=40),
    num_parts=st.integers(1, 9),
    layout=st.sampled_from(["flat", "padded"]),
)
def test_every_row_goes_to_one_part(lengths: list[int], num_parts: int, layout: LayoutName) -> None:
    samples = np.arange(len(lengths))[::-1].copy()
    parts = divide(rows_of(lengths), samples, layout, num_parts)
    assert len(parts) == num_parts
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(lengths)))
    again = divide(rows_of(lengths), samples, layout, num_parts)
    assert all(np.array_equal(one, two) for one, two in zip(parts, again, strict=True))


@given(lengths=st.lists(st.integers(1, 200), min_size=1, max_size=40), num_parts=st.integers(1, 9))
def test_parts_differ_by_no_more_than_a_row(lengths: list[int], num_parts: int) -> None:
    """Graham 1969: a part filled longest row first exceeds the mean by less than a row."""
    parts = divide(rows_of(lengths), np.arange(len(lengths)), "flat", num_parts)
    totals = [sum(lengths[index] for index in part) for part in parts]
    assert max(totals) <= sum(lengths) / num_parts + max(lengths)
    assert max(totals) - min(totals) <= max(lengths)


@pytest.mark.parametrize(
    ("lengths", "num_parts", "expected"),
    [([10, 10, 10, 100], 2, 100), ([50] * 8, 4, 100), ([1, 2, 3, 4], 2, 8), ([7], 3, 7)],
)
def test_padded_parts_hold_rows_of_like_length(lengths: list[int], num_parts: int, expected: int) -> None:
    parts = divide(rows_of(lengths), np.arange(len(lengths)), "padded", num_parts)
    costs = [len(part) * max((lengths[index] for index in part), default=0) for part in parts]
    assert max(costs) == expected


def test_rows_of_several_sequences_stay_whole() -> None:
    tokens = Ragged.from_rows([np.ones(length, dtype=np.int64) for length in (30, 10, 10, 10, 15, 15)])
    data = Encoded({"input_ids": tokens}, {}, rows=np.array([0, 1, 4, 6]), keeps_rows=True)
    parts = divide(data, np.arange(3), "padded", 3)
    assert sorted(part.tolist() for part in parts) == [[0], [1], [2]]
