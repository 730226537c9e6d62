"""Ragged arrays and encoded splits: what goes in comes out, from memory and from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.encoded import Encoded, Ragged

ROWS = st.lists(st.lists(st.integers(0, 1000), max_size=8), min_size=1, max_size=12)


@given(rows=ROWS, data=st.data())
def test_ragged_keeps_and_selects_rows(rows: list[list[int]], data: st.DataObject) -> None:
    ragged = Ragged.from_rows(rows)
    assert [ragged[i].tolist() for i in range(len(ragged))] == rows
    assert ragged.lengths.tolist() == [len(row) for row in rows]
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=10))
    selected = ragged.select(chosen)
    assert [selected[i].tolist() for i in range(len(selected))] == [rows[i] for i in chosen]


def test_encoded_splits_come_back_from_disk_memory_mapped(tmp_path: Path) -> None:
    rows = [[5, 6, 7], [8], [9, 10]]
    encoded = Encoded(
        inputs={"input_ids": Ragged.from_rows(rows), "token_type_ids": Ragged.from_rows([[0, 0, 1], [0], [0, 1]])},
        targets={"label": np.array([1, 0, 2]), "tags": Ragged.from_rows([[1, 2], [], [3]])},
        num_truncated=4,
        reads=Ragged.from_rows([[0, 2], [], [1]]),
    )
    encoded.save(tmp_path)
    again = Encoded.load(tmp_path)
    assert isinstance(again.inputs["input_ids"].values, np.memmap)
    assert again.num_truncated == 4
    assert again.lengths.tolist() == [3, 1, 2]
    for name, ragged in encoded.inputs.items():
        np.testing.assert_array_equal(again.inputs[name].values, ragged.values)
    np.testing.assert_array_equal(again.targets["label"], encoded.targets["label"])
    for found, expected in ((again.targets["tags"], encoded.targets["tags"]), (again.reads, encoded.reads)):
        assert isinstance(found, Ragged)
        assert isinstance(expected, Ragged)
        np.testing.assert_array_equal(found.values, expected.values)
        np.testing.assert_array_equal(found.offsets, expected.offsets)


def test_extras_come_back_and_rows_are_selected(tmp_path: Path) -> None:
    rows = [[5, 6, 7], [8], [9, 10]]
    encoded = Encoded(
        inputs={"input_ids": Ragged.from_rows(rows)},
        targets={"label": np.array([1, 0, 2]), "tags": Ragged.from_rows([[1, 2], [], [3]])},
        reads=Ragged.from_rows([[0, 2], [], [1]]),
        windows=np.array([0, 2, 3]),
        extras={"words": Ragged.from_rows(rows), "candidates": np.arange(7)},
    )
    encoded.save(tmp_path)
    again = Encoded.load(tmp_path)
    assert again.extras.keys() == encoded.extras.keys()
    np.testing.assert_array_equal(again.extras["candidates"], np.arange(7))
    assert isinstance(again.extras["words"], Ragged)
    np.testing.assert_array_equal(again.extras["words"].offsets, [0, 3, 4, 6])
    assert again.select(np.arange(3)) is again
    some = again.select(np.array([2, 0]))
    assert [some.inputs["input_ids"][row].tolist() for row in range(2)] == [[9, 10], [5, 6, 7]]
    assert some.targets["label"].tolist() == [2, 1]
    assert some.reads is not None
    assert [some.reads[row].tolist() for row in range(2)] == [[1], [0, 2]]
    assert some.windows is None
