"""Tokens with a tag each, or texts with spans: the form of token classification."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import pyarrow as pa

from tunesmith.data import schemes, spans
from tunesmith.data.clean import Tally, tidy_parts
from tunesmith.data.config import CleanConfig
from tunesmith.data.forms import Columns, Form, Misfit, Wishes
from tunesmith.data.records import ROW
from tunesmith.data.rows import Rows, batches
from tunesmith.data.schemes import TagForm
from tunesmith.data.spans import Offsets, covers_text, find_offsets, parse_spans, place, tag_spans, text_of
from tunesmith.data.tables import column_names
from tunesmith.data.tagged import Cells, join_tokens, split_words, types_of
from tunesmith.types import ColumnChoice, Guess, Problem

TOKENS, TAGS, ENTITIES = "tokens", "tags", "entities"

BLANK = "␣"
"""Stands for a token of white space, which no model could see."""

_STRINGS = pa.list_(pa.string())


class _Row(NamedTuple):
    text: str
    tokens: list[str]
    starts: list[int]
    tags: list[str] | None = None
    reason: str = ""
    """What it is a misfit for, if it is one."""
    is_mended: bool = False


class TaggedTokens(Form):
    """``text``, ``tokens``, ``starts`` (of each token in the text) and, if known, ``tags`` as BIO."""

    truths: ClassVar[tuple[str, ...]] = (TAGS, ENTITIES)
    misfits: ClassVar[tuple[Misfit, ...]] = (
        Misfit("lengths", "not as many tags as tokens.", recorded="not as many tags as tokens"),
        Misfit(
            "tags",
            "their tags do not fit the scheme of the others.",
            flag=schemes.FLAG,
            recorded="tags of another scheme",
        ),
        Misfit(
            "spans",
            "their spans are empty, lie outside of the text, or lack start, end or label.",
            flag=spans.FLAG,
            recorded="spans that cannot be placed",
        ),
        Misfit(
            "overlap",
            "their spans overlap, and a token has one tag: keep the outer ones, or the inner ones.",
            recorded="overlapping spans",
        ),
    )

    def __init__(
        self,
        columns: Columns,
        *,
        tag_form: TagForm,
        cells: Cells,
        offsets: Offsets,
        guesses: Sequence[Guess],
        wishes: Wishes,
    ) -> None:
        fields = [("text", pa.string()), (TOKENS, _STRINGS), ("starts", pa.list_(pa.int32()))]
        if TAGS in columns or ENTITIES in columns:
            fields.append((TAGS, _STRINGS))
            self.fitting = TAGS
        super().__init__(columns, fields, ["text"])
        self._tag_form = tag_form
        self._cells = cells
        self._offsets: Offsets = offsets
        self._guesses = list(guesses)
        self._is_strict = wishes.is_strict
        self._changes = Tally()

    @classmethod
    def learn(cls, datasets: Sequence[Rows], columns: Columns, wishes: Wishes) -> tuple[Self, list[Problem]]:
        cells, offsets = Cells(), wishes.offsets or "exclusive"
        guesses: list[Guess | None] = []
        tag_form = TagForm.learn(tuple, wishes.scheme)
        if TOKENS in columns and TAGS in columns:
            pairs = [*columns[TOKENS], *columns[TAGS]]
            cells, guess = Cells.learn(_cells(datasets, pairs))
            read_tags = cells.read_tags
            tag_form = TagForm.learn(
                lambda: (read_tags(tags) for (tags,) in _cells(datasets, columns[TAGS])), wishes.scheme
            )
            guesses += [guess, tag_form.guess()]
        elif TOKENS in columns:
            cells = Cells.of_tokens(tokens for (tokens,) in _cells(datasets, columns[TOKENS]))
        elif ENTITIES in columns:
            pairs = [*columns["text"], *columns[ENTITIES]]
            found = ((text_of(text), parse_spans(cell)) for text, cell in _cells(datasets, pairs))
            offsets, guess = find_offsets(found, wishes.offsets)
            guesses.append(guess)
        chosen = [guess for guess in guesses if guess is not None]
        form = cls(columns, tag_form=tag_form, cells=cells, offsets=offsets, guesses=chosen, wishes=wishes)
        return form, _remarks(tag_form, chosen, wishes)

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

    def guesses(self) -> list[Guess]:
        return self._guesses

    def misfit_words(self, misfit: Misfit) -> str:
        if misfit.what == "spans":
            return f"{misfit.words.rstrip('.')}, with offsets read as {self._offsets} ({spans.FLAG})."
        if misfit.what != "tags":
            return misfit.words
        scheme = self._tag_form.scheme
        if scheme == "plain":
            return "a token of theirs has no tag."
        breaks = "breaks its rules, or " if self._is_strict else ""
        return (
            f"their tags do not fit the scheme {scheme}, which explains {_counted(self._guesses)}: one {breaks}is of "
            f"another kind or missing; {schemes.FLAG} names another scheme."
        )

    def notes(self) -> list[Problem]:
        scheme = self._tag_form.scheme
        return [
            *self._changes.problem(
                "mended",
                f"{{rows}} break the rules of the scheme {scheme}, which explains {_counted(self._guesses)}; they were "
                "kept: where a tag continues no entity of its type it opens one, and an entity ends where the next "
                "begins.",
                f"Another scheme: {schemes.FLAG}. To refuse such rows: data.bad_rows refuse.",
                is_warning=True,
            ),
            *self._changes.problem("blank", f"Tokens of white space stand as “{BLANK}” in {{rows}}."),
        ]

    def make_batch(self, batch: pa.RecordBatch, clean: CleanConfig, tally: Tally) -> pa.RecordBatch:
        cells = {role: batch.column(columns[0]).to_pylist() for role, columns in self.columns.items()}
        rows = [self._row({role: column[index] for role, column in cells.items()}) for index in range(batch.num_rows)]
        places = batch.column(ROW)
        for misfit in self.misfits:
            tally.add(misfit.what, _mask(row.reason == misfit.what for row in rows), places)
        self._changes.add("mended", _mask(row.is_mended for row in rows), places)
        tokens_N = [row.tokens for row in rows]
        has_blank = _show_blanks(tokens_N)
        tokens_N = _tidy_tokens(tokens_N, clean, tally, places)
        # Control characters are gone now, and some tokens with them.
        self._changes.add("blank", has_blank | _show_blanks(tokens_N), places)
        joined = [join_tokens(tokens) for tokens in tokens_N] if TOKENS in cells else [(row[0], row[2]) for row in rows]
        arrays = [
            pa.array([text for text, _ in joined], pa.string()),
            pa.array(tokens_N, _STRINGS),
            pa.array([starts for _, starts in joined], pa.list_(pa.int32())),
        ]
        if TAGS in self.schema.names:
            arrays.append(pa.array([row.tags for row in rows], _STRINGS))
        return pa.RecordBatch.from_arrays([*arrays, places], schema=self.schema)

    def _row(self, cells: dict[str, Any]) -> _Row:
        """Return text, tokens, starts and tags of a row, or what it is a misfit for."""
        if TOKENS not in cells:
            text = text_of(cells["text"])
            found = parse_spans(cells.get(ENTITIES))
            placed = None if found is None else place(text, found, self._offsets)
            tokens, starts, tags = (*split_words(text), None) if placed is None else tag_spans(text, placed)
            overlaps = placed is not None and all(covers_text(text, span) for span in placed)
            return _Row(text, tokens, starts, tags, "" if tags is not None else "overlap" if overlaps else "spans")
        tokens = self._cells.read_tokens(cells[TOKENS]) or []
        text, starts = join_tokens(tokens)
        row = _Row(text, tokens, starts)
        if TAGS not in cells:
            return row
        given = self._cells.read_tags(cells[TAGS])
        if given is not None and len(given) != len(tokens):
            return row._replace(reason="lengths")
        tags = None if given is None else self._tag_form.read(given)
        is_broken = given is not None and tags is not None and self._tag_form.is_broken(given)
        if tags is None or (is_broken and self._is_strict):
            return row._replace(reason="tags")
        return row._replace(tags=tags, is_mended=is_broken)


def _cells(datasets: Sequence[Rows], columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """Yield the cells of some columns, row by row, of all splits."""
    for dataset in datasets:
        for batch in batches(dataset, columns):
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _remarks(tag_form: TagForm, guesses: Sequence[Guess], wishes: Wishes) -> list[Problem]:
    """Return what is worth saying about how tags and spans are written."""
    problems = []
    for guess in guesses:
        others = [f"{name} {count:,}" for name, count in guess.alternatives if count]
        beside = f" (others: {', '.join(others[:4])})" if others else ""
        is_given = {"scheme": wishes.scheme, "offsets": wishes.offsets}.get(guess.name) is not None
        if is_given or guess.chosen in ("BIO", "plain", "exclusive", str(Cells())):
            continue
        what = {
            "scheme": "Tags are written in the scheme",
            "offsets": "Places of entities are counted as",
            "cells": "Cells are",
        }
        unit = "row" if guess.name != "scheme" else "sentence"
        explained = f"{guess.explained:,} {unit}{'' if guess.explained == 1 else 's'}"
        message = f"{what[guess.name]} {guess.chosen}, which explains {explained}{beside}."
        problems.append(Problem("note", message, f"Another one: {guess.flag}." if guess.flag else ""))
    if tag_form.also_outside and not tag_form.are_ids:
        listed = ", ".join(f"'{tag}'" for tag in tag_form.also_outside)
        number = sum(tag_form.counts[tag] for tag in tag_form.also_outside)
        problems.append(Problem("note", f"{listed} was read as O, for no entity, at {number:,} tokens.", count=number))
    if tag_form.are_ids:
        problems.append(_numbers_for_names(tag_form))
    return problems


def _numbers_for_names(tag_form: TagForm) -> Problem:
    read = {
        "plain": "Every number is a tag that stands for itself, none is O",
        "IO": "0, the commonest, was read as O, every other number as a type of its own",
    }
    paired = "0 was read as O, odd numbers as B- and the even ones after them as I- of one type, as is usual"
    return Problem(
        "warning",
        f"The tags are numbers ({', '.join(sorted(tag_form.counts, key=int)[:6])}, …), and what they are called stands "
        f"nowhere in the data. {read.get(tag_form.scheme, paired)}.",
        "Write names such as B-PER into the data, or give a Parquet or Arrow file whose class labels have names.",
        count=sum(tag_form.counts.values()),
    )


def _counted(guesses: Sequence[Guess]) -> str:
    """Return how many sentences the scheme explains."""
    number = next((guess.explained for guess in guesses if guess.name == "scheme"), 0)
    return f"{number:,} sentence{'' if number == 1 else 's'}"


def _mask(values: Any) -> np.ndarray[Any, np.dtype[np.bool_]]:
    return np.fromiter(values, dtype=np.bool_)


def _show_blanks(tokens_N: list[list[str]]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Put the stand-in for tokens of white space, in place, and say which rows had some; blank sentences stay blank."""
    has_blank = [not all(map(str.strip, tokens)) and any(map(str.strip, tokens)) for tokens in tokens_N]
    for row, is_needed in enumerate(has_blank):
        if is_needed:
            tokens_N[row] = [token if token.strip() else BLANK for token in tokens_N[row]]
    return _mask(has_blank)


def _tidy_tokens(tokens_N: list[list[str]], clean: CleanConfig, tally: Tally, places: pa.Array) -> list[list[str]]:
    """Tidy every token as texts are tidied; none is left out, even where nothing remains of it."""
    found = tidy_parts(tokens_N, clean, Tally(), places)
    tally.add("tokens", np.array([old != new for old, new in zip(tokens_N, found, strict=True)], dtype=bool), places)
    return found
