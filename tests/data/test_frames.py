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
