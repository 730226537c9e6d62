"""Tokens with a tag each, or texts with spans: the form of token classification."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa

from tunesmith.data.clean import Tally, tidy_parts
from tunesmith.data.config import CleanConfig
from tunesmith.data.forms import Columns, Form, Misfit
from tunesmith.data.records import ROW
from tunesmith.data.tables import Rows, batches, column_names
from tunesmith.data.tagged import TagForm, as_strings, join_tokens, parse_spans, split_words, tag_spans, types_of
from tunesmith.types import ColumnChoice, Problem

TOKENS, TAGS, ENTITIES = "tokens", "tags", "entities"

_STRINGS = pa.list_(pa.string())


class TaggedTokens(Form):
    """``text``, ``tokens``, ``starts`` (of each token in the text) and, if known, ``tags`` as BIO."""

    truths: ClassVar[tuple[str, ...]] = (TAGS, ENTITIES)
    misfits: ClassVar[tuple[Misfit, ...]] = (
        Misfit("lengths", "not as many tags as tokens."),
        Misfit(
            "tags",
            "their tags do not fit the scheme of the others (an I- that continues nothing, an entity without its end, "
            "a tag of another kind or none).",
        ),
        Misfit("spans", "their spans overlap, are empty, lie outside of the text, or lack start, end or label."),
    )

    def __init__(self, columns: Columns, tag_form: TagForm) -> None:
        fields = [("text", pa.string()), (TOKENS, _STRINGS), ("starts", pa.list_(pa.int32()))]
        if TAGS in columns or ENTITIES in columns:
            fields.append((TAGS, _STRINGS))
            self.fitting = TAGS
        super().__init__(columns, fields, ["text"])
        self._tag_form = tag_form

    @classmethod
    def learn(cls, datasets: Sequence[Rows], columns: Columns, *, for_prediction: bool) -> tuple[Self, list[Problem]]:
        del for_prediction
        tag_form = TagForm()
        if TAGS in columns:
            for dataset in datasets:
                for batch in batches(dataset, columns[TAGS]):
                    tag_form.learn(_tags(cell) for cell in batch.column(0).to_pylist())
        return cls(columns, tag_form), []

    @classmethod
    def choices_for(cls, path: str, dataset: Rows, choices: Sequence[ColumnChoice]) -> list[ColumnChoice]:
        columns = column_names(dataset)
        inputs = [choice for choice in choices if choice.role not in cls.truths]
        if [choice.role for choice in inputs] == [TOKENS] and inputs[0].column not in columns:
            # Plain texts are cut into tokens by the task.
            text = columns[0] if len(columns) == 1 else "text"
            truths = [choice for choice in choices if choice.role in cls.truths]
            choices = [ColumnChoice("text", text, "texts to be cut into tokens"), *truths]
        return super().choices_for(path, dataset, choices)

    @property
    def label(self) -> str | None:
        return self.fitting

    def summaries(self, batch: pa.RecordBatch) -> list[Any]:
        """Return the types that occur in each row."""
        return [types_of(tags) for tags in super().summaries(batch)]

    def contents(self, batch: pa.RecordBatch) -> list[Any]:
        tokens = batch.column(TOKENS).to_pylist()
        return [json.dumps(pair, ensure_ascii=False) for pair in zip(tokens, super().contents(batch), strict=True)]

    def make_batch(self, batch: pa.RecordBatch, clean: CleanConfig, tally: Tally) -> pa.RecordBatch:
        cells = {role: batch.column(columns[0]).to_pylist() for role, columns in self.columns.items()}
        rows: list[tuple[str, list[str], list[int], list[str] | None]] = []
        wrong = {misfit.what: np.zeros(batch.num_rows, dtype=np.bool_) for misfit in self.misfits}
        for index in range(batch.num_rows):
            row, reason = self._row({role: column[index] for role, column in cells.items()})
            rows.append(row)
            if reason:
                wrong[reason][index] = True
        places = batch.column(ROW)
        for what, mask in wrong.items():
            tally.add(what, mask, places)
        tokens_N = _tidy_tokens([tokens for _, tokens, _, _ in rows], clean, tally, places)
        joined = [join_tokens(tokens) for tokens in tokens_N] if TOKENS in cells else [(row[0], row[2]) for row in rows]
        arrays = [
            pa.array([text for text, _ in joined], pa.string()),
            pa.array(tokens_N, _STRINGS),
            pa.array([starts for _, starts in joined], pa.list_(pa.int32())),
        ]
        if TAGS in self.schema.names:
            arrays.append(pa.array([tags for _, _, _, tags in rows], _STRINGS))
        return pa.RecordBatch.from_arrays([*arrays, places], schema=self.schema)

    def _row(self, cells: dict[str, Any]) -> tuple[tuple[str, list[str], list[int], list[str] | None], str]:
        """Return text, tokens, starts and tags of a row, and what it is a misfit for, or nothing."""
        if TOKENS not in cells:
            text = str(cells["text"] or "")
            spans = parse_spans(cells[ENTITIES])
            tokens, starts, tags = (*split_words(text), None) if spans is None else tag_spans(text, spans)
            return (text, tokens, starts, tags), "spans" if tags is None else ""
        tokens = as_strings(cells[TOKENS]) or []
        text, starts = join_tokens(tokens)
        if TAGS not in cells:
            return (text, tokens, starts, None), ""
        tags = _tags(cells[TAGS])
        if tags is not None and len(tags) != len(tokens):
            return (text, tokens, starts, None), "lengths"
        tags = None if tags is None else self._tag_form.read(tags)
        return (text, tokens, starts, tags), "tags" if tags is None else ""


def _tags(cell: Any) -> list[str] | None:
    tags = as_strings(cell)
    return None if tags is None else [tag.strip() for tag in tags]


def _tidy_tokens(tokens_N: list[list[str]], clean: CleanConfig, tally: Tally, places: pa.Array) -> list[list[str]]:
    """Tidy every token as texts are tidied; none is left out, even where nothing remains of it."""
    found = tidy_parts(tokens_N, clean, Tally(), places)
    tally.add("tokens", np.array([old != new for old, new in zip(tokens_N, found, strict=True)], dtype=bool), places)
    return found
