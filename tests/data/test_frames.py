"""Rows in memory are read like files, and equal rows are the same source."""

from __future__ import annotations

from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from tunesmith.data import DataConfig, read
from tunesmith.data.frames import as_path, is_table, with_paths
from tunesmith.types import InputError

ROWS = [{"text": f"some words {row}", "label": ["a", "b"][row % 2]} for row in range(6)]


class Stream:
    """What only speaks Arrow's own protocol, as frames of other libraries do."""

    columns = ("text", "label")

    def __init__(self, table: pa.Table) -> None:
        self._table = table

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)


TABLE = pa.Table.from_pylist(ROWS)
TABLES = {
    "list": lambda: [dict(row) for row in ROWS],
    "columns": lambda: {name: [row[name] for row in ROWS] for name in ("text", "label")},
    "arrays": lambda: {name: np.array([row[name] for row in ROWS]) for name in ("text", "label")},
    "pandas": lambda: pd.DataFrame(ROWS, index=range(10, 16)),
    "pandas of mixed cells": lambda: pd.DataFrame(ROWS).assign(more=[1, "x", None, [1], 2.5, True]),
    "arrow": lambda: TABLE,
    "batch": lambda: TABLE.to_batches()[0],
    "protocol": lambda: Stream(TABLE),
    "dataset": lambda: datasets.Dataset.from_list(ROWS),
}


@pytest.mark.parametrize("make", TABLES.values(), ids=TABLES)
def test_tables(make: Any) -> None:
    path = as_path(make())
    assert path == as_path(make())
    rows = read(DataConfig(path=path)).splits["train"]
    assert [{"text": row["text"], "label": row["label"]} for row in rows] == ROWS


def test_other_rows_are_another_source() -> None:
    assert as_path(ROWS) != as_path(ROWS[:5])


def test_class_labels_and_chosen_rows_of_a_dataset() -> None:
    features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=["no", "yes"]))
    data = datasets.Dataset.from_dict({"text": list("abcd"), "label": [0, 1, 1, 0]}, features=features).select([3, 1])
    rows = read(DataConfig(path=as_path(data))).splits["train"]
    assert rows["label"][:] == ["no", "yes"]


def test_splits() -> None:
    given = {"train": pd.DataFrame(ROWS), "test": datasets.Dataset.from_list(ROWS[:2])}
    for splits in (given, datasets.DatasetDict({"train": given["test"], "validation": given["test"]})):
        raw = read(DataConfig(path=as_path(splits)))
        assert raw.splits.keys() == splits.keys()
    section = with_paths({"path": ROWS, "test": pd.DataFrame(ROWS[:1]), "limit": 3})
    assert section["limit"] == 3
    assert len(read(DataConfig(**section)).splits["test"]) == 1


@pytest.mark.parametrize("data", [3, [], ["a text"], {"path": "x.csv"}, object(), "x.csv"])
def test_what_is_no_table(data: Any) -> None:
    assert not is_table(data)
    if not isinstance(data, str):
        with pytest.raises(InputError, match="holds no rows"):
            as_path(data)


@pytest.mark.parametrize(
    ("names", "left"),
    [
        (("train", "validation_seen", "validation_unseen"), ["validation_unseen"]),
        (("train", "testing", "test"), ["testing"]),
        (("train", "unlabelled"), ["unlabelled"]),
    ],
)
def test_of_several_parts_for_a_split_one_is_read_and_the_others_are_named(
    names: tuple[str, ...], left: list[str]
) -> None:
    parts = {name: datasets.Dataset.from_list([{"text": f"{name} {row}"} for row in range(3)]) for name in names}
    given = datasets.DatasetDict(parts)
    raw = read(DataConfig(path=as_path(given)))
    for name in set(names) - set(left):
        assert list(raw.splits[name.partition("_")[0]]["text"]) == [f"{name} {row}" for row in range(3)]
    assert [problem.message for problem in raw.problems] == [f"Not read: {', '.join(left)}."]


def test_the_only_part_of_a_dataset_is_learned_from() -> None:
    given = datasets.DatasetDict(everything=datasets.Dataset.from_list(ROWS))
    assert len(read(DataConfig(path=as_path(given))).splits["train"]) == len(ROWS)


def test_splits_that_are_dictionaries(tmp_path: Any) -> None:
    path = as_path({"train": ROWS, "dev": ROWS[:2], "../outside": ROWS})
    raw = read(DataConfig(path=path))
    assert {name: len(rows) for name, rows in raw.splits.items()} == {"train": 6, "validation": 2}
