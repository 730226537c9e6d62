"""Rows to predict on: the same columns and tidying as in training, but every row and its order kept."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tunesmith.config.base import nearest
from tunesmith.data.canonical import TOKENS, TRUTHS, canonical_batches, make_canonical
from tunesmith.data.clean import Tally
from tunesmith.data.config import DataConfig
from tunesmith.data.readers import read
from tunesmith.data.tables import TableWriter, column_names, open_table
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.types import ColumnChoice, InputError, Problem

if TYPE_CHECKING:
    from datasets import Dataset

_VERSION = 2
"""Part of the cache's keys: raise it when the rows come out otherwise than before."""


def read_for_prediction(path: str, choices: Sequence[ColumnChoice], config: DataConfig) -> Dataset:
    """Read rows to predict on: the input roles, the label where the file has it, and ``row``.

    Texts are tidied as for training, but no row is left out: order and count are the file's.
    A file with a single column needs no matching name. Raises ``InputError`` when an input
    column is missing or a row cannot be read.
    """
    raw = read(config.changed(path=path, validation=None, test=None, bad_rows="refuse"))
    name = "test" if "test" in raw.splits else "train"
    if len(raw.splits) > 1 and name != "test":
        raise InputError(f"{path} holds several splits ({', '.join(raw.splits)}).", "Name one file.")
    dataset = raw.splits[name]
    known = _known_choices(path, column_names(dataset), choices)
    key = hash_json([_VERSION, dataset._fingerprint, [[choice.role, choice.column] for choice in known],
                     config.clean.model_dump(mode="json")])  # fmt: skip

    def build(folder: Path) -> None:
        canonical, _ = make_canonical([dataset], known)
        with TableWriter(folder / "rows.arrow", canonical.schema) as writer:
            for batch in canonical_batches(dataset, canonical, config.clean, Tally()):
                writer.add_batch(batch)

    return open_table(cached_folder("prediction", key, build) / "rows.arrow", key)


def _known_choices(path: str, columns: Sequence[str], choices: Sequence[ColumnChoice]) -> list[ColumnChoice]:
    """Return the choices that the file can fill; labels are optional."""
    inputs = [choice for choice in choices if choice.role not in TRUTHS]
    labels = [choice for choice in choices if choice.role in TRUTHS]
    if [choice.role for choice in inputs] == [TOKENS] and inputs[0].column not in columns:
        # Plain texts are cut into tokens by the task.
        text = columns[0] if len(columns) == 1 else "text"
        inputs = [ColumnChoice("text", text, "texts to be cut into tokens")]
    if len(columns) == 1 and len(inputs) == 1:
        return [ColumnChoice(inputs[0].role, columns[0], "the only column")]
    missing = [choice for choice in inputs if choice.column not in columns]
    if missing:
        raise InputError(
            Problem(
                "error",
                f"{path} has no column '{choice.column}' ({choice.role}). " + nearest(choice.column, list(columns)),
                f"Columns: {', '.join(columns)}. Name the columns as in the training data.",
            )
            for choice in missing
        )
    return [*inputs, *(labels if all(choice.column in columns for choice in labels) else [])]
