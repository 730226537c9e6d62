"""Further rows without labels, on which only a teacher speaks: a split of their own, beside those of the data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from tunesmith.data import read_for_prediction
from tunesmith.data.encoded import Encoded
from tunesmith.data.joined import joined
from tunesmith.data.rows import Rows
from tunesmith.files.hashing import hash_json
from tunesmith.readable import count
from tunesmith.run.assembly import TaskData
from tunesmith.run.config import RunConfig
from tunesmith.tasks.base import Task
from tunesmith.types import InputError, Problem

UNLABELLED = "unlabelled"
"""The split's name."""


def with_unlabelled(data: TaskData, config: RunConfig) -> TaskData:
    """Return the data with the teacher's unlabelled rows, where there are any.

    Left out are rows without text, rows that come again, and, by their content, all that are among the data's own:
    training rows have labels, and validation and test rows stay unseen. Raises ``InputError`` where none is left, or
    the task has no rows without labels.
    """
    path = None if config.teacher is None else config.teacher.unlabelled
    if path is None:
        return data
    task, prepared = data.task, data.prepared
    if task.followed == "vocabulary":
        raise InputError(
            "teacher.unlabelled: a language model learns from texts, which need no labels.",
            "Add the texts to the data, and leave --teacher.unlabelled out.",
        )
    form = task.form_for([choice.role for choice in prepared.choices])
    read = read_for_prediction(path, prepared.choices, config.data, form)
    known = {key for split in prepared.splits.values() for key in _contents(task, split)}
    is_kept = []
    for key in _contents(task, read):
        is_kept.append(key is not None and key not in known)
        known.add(key)
    if not any(is_kept):
        raise InputError(
            f"teacher.unlabelled: none of the {len(read):,} rows of {path} is new: each is empty, or among the rows of "
            "the data.",
            "Give other rows, or leave --teacher.unlabelled out.",
        )
    names = [name for name in read.column_names if name not in task.truths]
    rows = Rows(read.table.select(names).filter(pa.array(is_kept)), "")
    sha256 = hash_json([[name, *rows[name]] for name in names if name != "row"])
    rows = replace(rows, fingerprint=sha256)
    note = f"{count(len(rows))} rows without labels, of {count(len(read))} in {path}: only the teacher speaks on them."
    splits, hashes = {**prepared.splits, UNLABELLED: rows}, {**prepared.hashes, UNLABELLED: sha256}
    return replace(
        data,
        prepared=replace(prepared, splits=splits, hashes=hashes),
        problems=(*data.problems, Problem("note", note, "Others are empty, or among the rows of the data.")),
    )


def rows_to_learn_from(splits: Mapping[str, Encoded]) -> Encoded:
    """Return the training rows and, behind them, those without labels."""
    return joined(splits["train"], splits[UNLABELLED]) if UNLABELLED in splits else splits["train"]


def _contents(task: Task, rows: Rows) -> list[str | None]:
    """Return for each row what is read of it; None where that is nothing."""
    names = [name for name in task.inputs if name in rows.column_names]
    cells: list[tuple[Any, ...]] = list(zip(*(rows[name] for name in names), strict=True))
    return [json.dumps(cell) if any(str(value or "").strip() for value in cell) else None for cell in cells]
