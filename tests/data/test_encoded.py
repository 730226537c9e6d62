"""Ragged arrays and encoded splits: what goes in comes out, from memory and from disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.data.encoded import Encoded, Ragged, Units

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
    assert some.rows is None


def split_of(counts: list[int], *, keeps_rows: bool) -> Encoded:
    """Return rows of as many sequences as ``counts`` says, of 1, 2, 3, ... tokens."""
    number = sum(counts)
    ids = Ragged.from_rows([[sequence] * (sequence + 1) for sequence in range(number)])
    return Encoded({"input_ids": ids}, {}, rows=np.cumsum([0, *counts]), keeps_rows=keeps_rows)


def test_pieces_of_rows_are_samples_of_their_own_unless_they_belong_together(tmp_path: Path) -> None:
    apart, whole = (split_of([2, 0, 1, 3], keeps_rows=keeps) for keeps in (False, True))
    assert (len(apart), apart.num_data_rows, apart.num_samples) == (6, 4, 6)
    assert (len(whole), whole.num_data_rows, whole.num_samples) == (6, 4, 3)  # one row has no sequences
    assert apart.sequences_of(np.array([4, 1])).tolist() == [4, 1]
    assert whole.sequences_of(np.array([2, 0])).tolist() == [3, 4, 5, 0, 1]
    assert whole.sample_lengths.tolist() == [1 + 2, 3, 4 + 5 + 6]
    assert apart.data_rows([0, 1, 2, 5]) == [0, 2, 3]
    assert whole.data_rows([0, 1, 2]) == [0, 2, 3]
    whole.save(tmp_path)
    again = Encoded.load(tmp_path)
    assert again.keeps_rows
    assert again.samples.tolist() == whole.samples.tolist() == [0, 2, 3, 6]


def test_streams_have_lengths_of_their_own(tmp_path: Path) -> None:
    encoded = Encoded(
        {
            "input_ids": Ragged.from_rows([[1, 2], [3]]),
            "decoder_input_ids": Ragged.from_rows([[4], [5, 6, 7]]),
            "pixel_values": np.zeros((2, 3, 4, 4), dtype=np.float32),
        },
        {},
    )
    assert encoded.lengths.tolist() == [3, 4]
    assert encoded.lengths_of(np.array([1])).tolist() == [4]
    encoded.save(tmp_path)
    assert Encoded.load(tmp_path).inputs["pixel_values"].shape == (2, 3, 4, 4)
    images = Encoded({"pixel_values": np.zeros((2, 3, 4, 4), dtype=np.float32)}, {})
    assert (len(images), images.lengths.tolist()) == (2, [1, 1])


def test_borders_of_units_and_of_a_part() -> None:
    units = Units(np.array([0, 2, 5]), np.array([0, 5]))
    assert (units.per_sequence, units.per_row) == ([2, 3], [5])
    assert units.part(slice(1, 4)).per_sequence == [1, 2]
