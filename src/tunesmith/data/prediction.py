"""Rows to predict on: the same columns and tidying as in training, but every row and its order kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tunesmith.data.bad_rows import NUM_SHOWN, show_row
from tunesmith.data.clean import Tally
from tunesmith.data.columns import columns_named
from tunesmith.data.config import DataConfig
from tunesmith.data.forms import UNREADABLE, Form, Wishes
from tunesmith.data.labelled import LabelledTexts
from tunesmith.data.marks import ACCEPTED
from tunesmith.data.readers import read
from tunesmith.data.records import RawData
from tunesmith.data.rows import Rows, open_table
from tunesmith.data.tables import TableWriter, column_names
from tunesmith.data.version import reading_version
from tunesmith.files.cache import cached_folder
from tunesmith.files.hashing import hash_json
from tunesmith.types import MAX_ROWS_SHOWN, ColumnChoice, InputError, Problem


def read_for_prediction(
    path: str, choices: Sequence[ColumnChoice], config: DataConfig, form: type[Form] = LabelledTexts
) -> Rows:
    """Read rows to predict on: the input roles, the label where the file has it, and ``row``.

    Texts are tidied as for training, but no row is left out: order and count are the file's.
    A column of ``choices`` may be several, with commas between. A file with a single column needs
    no matching name. Conversations may end with the answer or before it. Raises ``InputError``
    when an input column is missing or a row cannot be read.
    """
    raw = read(config.changed(path=path, validation=None, test=None, bad_rows="quarantine"))
    if raw.rejected:
        raise InputError(_unreadable(path, raw))
    name = "test" if "test" in raw.splits else "train"
    if len(raw.splits) > 1 and name != "test":
        raise InputError(f"{path} holds several splits ({', '.join(raw.splits)}).", "Name one file.")
    dataset = raw.splits[name]
    choices = [
        replace(choice, column=column)
        for choice in choices
        if choice.role != ACCEPTED.name
        for column in columns_named(choice.column, column_names(dataset))
    ]
    known = form.choices_for(path, dataset, choices)
    wishes = Wishes(for_prediction=True, scheme=config.tag_scheme, offsets=config.span_offsets)
    columns = [[choice.role, choice.column, choice.is_number] for choice in known]
    clean = config.clean.model_dump(mode="json")
    key = hash_json(
        [
            reading_version(form.__module__),
            dataset.fingerprint,
            form.__qualname__,
            columns,
            clean,
            wishes.scheme,
            wishes.offsets,
        ]
    )

    def build(folder: Path) -> None:
        learned, _ = form.of([dataset], known, wishes)
        tally = Tally()
        with TableWriter(folder / "rows.arrow", learned.schema) as writer:
            for batch in learned.batches(dataset, config.clean, tally):
                writer.add_batch(batch)
        learned.refuse_misfits(tally)

    return open_table(cached_folder("prediction", key, build, hashes=True) / "rows.arrow", key)


def _unreadable(path: str, raw: RawData) -> Problem:
    """Return the error that rows cannot be read: none may be left out here."""
    rows, total = raw.rejected, len(raw.rejected) + sum(map(len, raw.splits.values()))
    shown = "; ".join(f"{row.place}: {show_row(row.content, row.reason)}" for row in rows[:NUM_SHOWN])
    places = tuple(row.place for row in rows[:MAX_ROWS_SHOWN])
    message = f"{path}: {len(rows)} of {total} rows cannot be read. The first: {shown}."
    return Problem("error", message, UNREADABLE, len(rows), places)
