"""Canonical columns: the user's columns brought into a task's roles, and a few numbers that stand for each row."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tunesmith.data.clean import LabelForm, Tally, tidy_text
from tunesmith.data.config import CleanConfig
from tunesmith.data.records import ROW
from tunesmith.data.tables import batches
from tunesmith.data.tagged import TagForm, as_strings, join_tokens, parse_spans, split_words, tag_spans, types_of
from tunesmith.types import ColumnChoice, Problem

if TYPE_CHECKING:
    from datasets import Dataset

LABEL = "label"
TOKENS, TAGS, ENTITIES = "tokens", "tags", "entities"
TRUTHS = (LABEL, TAGS, ENTITIES)
"""Roles that hold what is to be predicted."""
MISFITS = ("lengths", "tags", "spans")
"""What a row of tagged tokens is left out for, as ``Tally`` counts it; its tags are null."""

Keys = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Canonical:
    """The canonical columns: where each comes from and what it holds."""

    columns: dict[str, tuple[str, ...]]
    """By role, the user's columns (several where a label is spread over columns of 0 and 1)."""
    schema: pa.Schema
    """Roles in their order, then ``row``."""
    form: LabelForm | None
    """How label cells that are text are read; None for other labels."""
    tags: TagForm | None = None
    """Set where rows are tagged tokens: how their tags are read."""

    @property
    def texts(self) -> tuple[str, ...]:
        """Canonical columns that hold what the model reads."""
        return ("text",) if self.tags is not None else tuple(role for role in self.columns if role != LABEL)

    @property
    def label(self) -> str | None:
        """The canonical column of what is to be predicted, when there is one."""
        return next((role for role in (LABEL, TAGS) if role in self.schema.names), None)


def make_canonical(datasets: Iterable[Dataset], choices: Sequence[ColumnChoice]) -> tuple[Canonical, list[Problem]]:
    """Learn from all rows of all splits how the chosen columns are read."""
    columns: dict[str, tuple[str, ...]] = {}
    for choice in choices:
        columns[choice.role] = (*columns.get(choice.role, ()), choice.column)
    given = list(datasets)
    if TOKENS in columns or ENTITIES in columns:
        return _make_tagged(given, columns), []
    form: LabelForm | None = None
    fields = [(role, pa.string()) for role in columns if role != LABEL]
    problems: list[Problem] = []
    if LABEL in columns:
        kind, form = _label_type(given, columns[LABEL])
        fields = [(role, kind if role == LABEL else pa.string()) for role in columns]
        if form is not None and pa.types.is_string(kind):
            problems = _look_alikes(given, columns[LABEL][0])
    return Canonical(columns, pa.schema([*fields, ("row", pa.string())]), form), problems


_STRINGS = pa.list_(pa.string())


def _make_tagged(given: Sequence[Dataset], columns: dict[str, tuple[str, ...]]) -> Canonical:
    """Return the canonical columns of tagged tokens: ``text``, ``tokens``, ``starts`` and, if known, ``tags``."""
    fields = [("text", pa.string()), (TOKENS, _STRINGS), ("starts", pa.list_(pa.int32()))]
    form = TagForm()
    if TAGS in columns:
        for dataset in given:
            for batch in batches(dataset, columns[TAGS]):
                form.learn(_tags(cell) for cell in batch.column(0).to_pylist())
    if TAGS in columns or ENTITIES in columns:
        fields.append((TAGS, _STRINGS))
    return Canonical(columns, pa.schema([*fields, ("row", pa.string())]), None, form)


def _tags(cell: Any) -> list[str] | None:
    tags = as_strings(cell)
    return None if tags is None else [tag.strip() for tag in tags]


def _label_type(given: Sequence[Dataset], sources: tuple[str, ...]) -> tuple[pa.DataType, LabelForm | None]:
    if len(sources) > 1:
        return pa.list_(pa.string()), None
    kinds = {dataset.features.arrow_schema.field(sources[0]).type for dataset in given}
    if len(kinds) == 1 and not pa.types.is_string(kind := kinds.pop()):
        if pa.types.is_boolean(kind) or pa.types.is_null(kind):
            return pa.string(), None
        if pa.types.is_list(kind):
            return pa.list_(pa.string()), None
        return kind, None
    form = LabelForm()
    for dataset in given:
        for batch in batches(dataset, sources):
            form.learn(_as_text(batch.column(0)))
    return form.type, form


def _look_alikes(given: Sequence[Dataset], source: str) -> list[Problem]:
    """Warn of labels that differ only in case or in white space: cleaning joins the latter."""
    names: set[str] = set()
    for dataset in given:
        for batch in batches(dataset, [source]):
            names.update(pc.unique(_as_text(batch.column(0))).drop_null().to_pylist())
            if len(names) > 10_000:
                return []
    by_plain: dict[str, list[str]] = {}
    for name in sorted(names):
        by_plain.setdefault(" ".join(name.casefold().split()), []).append(name)
    alike = [found for plain, found in by_plain.items() if plain and len(found) > 1]
    if not alike:
        return []
    listed = "; ".join(" and ".join(map(repr, found[:4])) for found in alike[:5])
    return [
        Problem(
            "warning",
            f"Some labels differ only in case or white space: {listed}.",
            "Those that differ in case stay different labels; outer white space is removed unless "
            "data.clean.whitespace is false. Write them alike if they mean the same.",
            count=len(alike),
        )
    ]


def canonical_batches(
    dataset: Dataset, canonical: Canonical, clean: CleanConfig, tally: Tally
) -> Iterator[pa.RecordBatch]:
    """Yield the rows as canonical batches, tidied, none left out; ``tally`` counts what was changed."""
    sources = list(dict.fromkeys(column for columns in canonical.columns.values() for column in columns))
    for batch in batches(dataset, [*sources, ROW]):
        if canonical.tags is not None:
            yield _tagged_batch(batch, canonical, canonical.tags, clean, tally)
            continue
        rows = batch.column(ROW)
        arrays = []
        for role, columns in canonical.columns.items():
            if role == LABEL:
                arrays.append(_labels(batch, columns, canonical, clean, tally))
            else:
                arrays.append(tidy_text(_as_text(batch.column(columns[0])), clean, tally, rows))
        yield pa.RecordBatch.from_arrays([*arrays, rows], schema=canonical.schema)


def _tagged_batch(
    batch: pa.RecordBatch, canonical: Canonical, form: TagForm, clean: CleanConfig, tally: Tally
) -> pa.RecordBatch:
    cells = {role: batch.column(columns[0]).to_pylist() for role, columns in canonical.columns.items()}
    rows: list[tuple[str, list[str], list[int], list[str] | None]] = []
    wrong = {what: np.zeros(batch.num_rows, dtype=np.bool_) for what in MISFITS}
    for index in range(batch.num_rows):
        if TOKENS in cells:
            tokens = as_strings(cells[TOKENS][index]) or []
            tags = _tags(cells[TAGS][index]) if TAGS in cells else None
            text, starts = join_tokens(tokens)
            if tags is not None and len(tags) != len(tokens):
                wrong["lengths"][index], tags = True, None
            elif tags is not None:
                tags = form.read(tags)
            wrong["tags"][index] = TAGS in cells and tags is None and not wrong["lengths"][index]
        else:
            text = str(cells["text"][index] or "")
            spans = parse_spans(cells[ENTITIES][index])
            tokens, starts, tags = (*split_words(text), None) if spans is None else tag_spans(text, spans)
            wrong["spans"][index] = tags is None
        rows.append((text, tokens, starts, tags))
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
    if TAGS in canonical.schema.names:
        arrays.append(pa.array([tags for _, _, _, tags in rows], _STRINGS))
    return pa.RecordBatch.from_arrays([*arrays, places], schema=canonical.schema)


def _tidy_tokens(tokens_N: list[list[str]], clean: CleanConfig, tally: Tally, places: pa.Array) -> list[list[str]]:
    """Tidy every token as texts are tidied; none is left out, even where nothing remains of it."""
    flat = pa.array([token for tokens in tokens_N for token in tokens], pa.string())
    tidied = tidy_text(flat, clean, Tally(), pa.nulls(len(flat), pa.string())).to_pylist()
    found = []
    start = 0
    for tokens in tokens_N:
        found.append(tidied[start : start + len(tokens)])
        start += len(tokens)
    tally.add("tokens", np.array([old != new for old, new in zip(tokens_N, found, strict=True)], dtype=bool), places)
    return found


def _labels(
    batch: pa.RecordBatch, columns: tuple[str, ...], canonical: Canonical, clean: CleanConfig, tally: Tally
) -> pa.Array:
    if len(columns) > 1:
        return _names_of_set(batch, columns)
    kind = canonical.schema.field(LABEL).type
    labels = batch.column(columns[0])
    if canonical.form is not None:
        labels = canonical.form.read(_as_text(labels))
    if pa.types.is_string(kind):
        return tidy_text(_as_text(labels), clean, tally, batch.column(ROW))
    if pa.types.is_list(kind) and labels.type != kind:
        cells = labels.to_pylist()
        return pa.array(
            [None if items is None else [_plain(item) for item in items if item is not None] for items in cells], kind
        )
    return labels


def _names_of_set(batch: pa.RecordBatch, columns: tuple[str, ...]) -> pa.Array:
    """Return, per row, the names of the columns that say yes; null where all are empty."""
    truths = [[_truth(value) for value in batch.column(column).to_pylist()] for column in columns]
    rows = [
        None
        if all(truth is None for truth in row)
        else [name for name, truth in zip(columns, row, strict=True) if truth]
        for row in zip(*truths, strict=True)
    ]
    return pa.array(rows, pa.list_(pa.string()))


def _truth(value: Any) -> bool | None:
    if value is None or (isinstance(value, str) and not value.strip()) or value != value:  # noqa: PLR0124 (NaN)
        return None
    if isinstance(value, str):
        return value.strip().lower() in {"1", "1.0", "true", "yes", "t", "y"}
    return bool(value)


def _plain(item: Any) -> str:
    if isinstance(item, bool):
        return "true" if item else "false"
    if isinstance(item, float) and item.is_integer():
        return str(int(item))
    return str(item)


def _as_text(array: pa.Array) -> pa.Array:
    if pa.types.is_string(array.type):
        return array
    if pa.types.is_list(array.type):
        cells = array.to_pylist()
        return pa.array([None if cell is None else json.dumps(cell, ensure_ascii=False) for cell in cells], pa.string())
    if pa.types.is_floating(array.type):
        return pa.array([None if cell is None else _plain(cell) for cell in array.to_pylist()], pa.string())
    return pc.cast(array, pa.string())


def summaries(batch: pa.RecordBatch, canonical: Canonical) -> list[Any]:
    """Return what each row's label is counted by: the label itself or, of tagged tokens, the types that occur."""
    if canonical.label is None:
        return []
    cells: list[Any] = batch.column(canonical.label).to_pylist()
    return [types_of(tags) for tags in cells] if canonical.tags is not None else cells


# Keys


@dataclass(frozen=True, slots=True)
class RowKeys:
    """Numbers of 64 bits made of each row's content, [N] each.

    Among a million rows, two that differ share one with a probability of about 3 in 100 million.
    """

    texts: Keys
    """Texts, letter case and runs of white space put aside."""
    exact: Keys
    """Texts as they are."""
    whole: Keys
    """Texts and label."""
    groups: Keys
    """The group's value; 0 where there is none."""
    digest: npt.NDArray[np.void]
    """SHA-256 of texts and label, 32 bytes."""

    @property
    def identity(self) -> Keys:
        """Texts, label and group; the factor makes equal sums of different parts unlikely."""
        return self.whole + self.groups * np.uint64(0x9E3779B97F4A7C15)

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """Return the keys of all parts, one after the other."""
        empty = np.zeros(0, dtype=np.uint64)
        if not parts:
            return cls(empty, empty, empty, empty, np.zeros(0, dtype="V32"))
        return cls(
            texts=np.concatenate([part.texts for part in parts]),
            exact=np.concatenate([part.exact for part in parts]),
            whole=np.concatenate([part.whole for part in parts]),
            groups=np.concatenate([part.groups for part in parts]),
            digest=np.concatenate([part.digest for part in parts]),
        )


def row_keys(batch: pa.RecordBatch, canonical: Canonical, groups: Sequence[Any] | None) -> RowKeys:
    """Return the keys of a canonical batch's rows. A row without a group value is a group of its own."""
    num_rows = batch.num_rows
    texts = list(zip(*(batch.column(role).to_pylist() for role in canonical.texts), strict=True)) or [()] * num_rows
    labels = batch.column(canonical.label).to_pylist() if canonical.label else [None] * num_rows
    if canonical.tags is not None:
        tokens = batch.column(TOKENS).to_pylist()
        labels = [json.dumps(pair, ensure_ascii=False) for pair in zip(tokens, labels, strict=True)]
    digests = []
    for row_texts, label in zip(texts, labels, strict=True):
        # Lengths keep the borders between texts; a missing text differs from an empty one.
        exact = "".join("-" if text is None else f"{len(text)}:{text}" for text in row_texts)
        plain = "\x1f".join(" ".join(text.casefold().split()) if text else "" for text in row_texts)
        whole = hashlib.sha256(f"{exact}\n{_label_text(label)}".encode()).digest()
        digests.append((_short(plain), _short(exact), whole))
    full = np.frombuffer(b"".join(whole for _, _, whole in digests), dtype="V32")
    plain_keys = np.array([plain for plain, _, _ in digests], dtype=np.uint64)
    if groups is None:
        group_keys = np.zeros(num_rows, dtype=np.uint64)
    else:
        group_keys = np.array(
            [
                plain if value is None else max(_short(f"group {value}"), 1)
                for value, plain in zip(groups, plain_keys.tolist(), strict=True)
            ],
            dtype=np.uint64,
        )
    return RowKeys(
        plain_keys,
        np.array([exact for _, exact, _ in digests], dtype=np.uint64),
        np.ascontiguousarray(full.view(np.uint64).reshape(num_rows, 4)[:, 0]),
        group_keys,
        full,
    )


def _label_text(label: Any) -> str:
    if isinstance(label, list):
        return json.dumps(sorted(label), ensure_ascii=False)
    return f"{type(label).__name__} {label}"


def _short(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
