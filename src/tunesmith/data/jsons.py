"""JSON and JSON Lines into Arrow: two passes, so that memory stays flat and types are known before writing.

The first pass learns every column's kinds of values, the second writes. Columns that mix
numbers and words become text; nested records become JSON text.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa

from tunesmith.data.encodings import describe_mark, has_marks
from tunesmith.data.header_rows import has_header, has_known_name
from tunesmith.data.json_elements import Element, elements
from tunesmith.data.json_objects import are_messages
from tunesmith.data.named_items import name_in, names_in
from tunesmith.data.nested_rows import OTHER_MESSAGES
from tunesmith.data.records import ROW, guess_to_dict
from tunesmith.data.rows import with_nested
from tunesmith.data.tables import MAX_COLUMNS, Rejections, TableWriter, clean_name, unique_names
from tunesmith.types import Guess, InputError, Problem

_SCALARS = frozenset({"bool", "int", "big", "float", "str"})
_MAX_SAMPLE = 200
"""Rows that are lists of which the first may be a header."""

RowKind = Literal["objects", "lists", "conversations", "strings"]
_WORDS: dict[RowKind, str] = {
    "objects": 'an object such as {"text": ...}',
    "lists": "a list of cells",
    "conversations": "a list of messages",
    "strings": "a string",
}


@dataclass(frozen=True, slots=True)
class JsonRow:
    """One element of the file: a row, or why it is none."""

    line: int
    values: dict[str, Any] | None
    reason: str = ""
    content: str = ""


@dataclass
class _Survey:
    """What the elements of a file are: how many of each kind, and what stands in their columns."""

    counts: Counter[RowKind] = field(default_factory=Counter)
    kinds: dict[RowKind, dict[str, set[str]]] = field(default_factory=dict)
    widths: Counter[int] = field(default_factory=Counter)
    """Lists by their number of cells."""
    lists: list[list[Any]] = field(default_factory=list)
    num_texts: int = 0
    """Rows that are texts of a list under a label."""
    num_labels: int = 0
    """Objects that have such a list."""
    num_other_messages: int = 0
    """Messages of trees that are in none of the conversations read."""

    def add(self, element: Element, name: str, encoding: str) -> None:
        self.num_texts += element.number > 0
        self.num_labels += element.number == 1
        if element.mark and isinstance(element.value, dict):
            self.num_other_messages += element.value.get(OTHER_MESSAGES, 0)
        kind = _kind_of_row(element.value)
        if kind is None:
            return
        if kind == "lists":
            self.widths[len(element.value)] += 1
            if len(self.lists) < _MAX_SAMPLE:
                self.lists.append(element.value)
        row = _row(element, kind, encoding)
        if row.values is None:
            return
        self.counts[kind] += 1
        kinds = self.kinds.setdefault(kind, {})
        for column, value in row.values.items():
            if column not in kinds:
                kinds[column] = set()
                if len(kinds) > MAX_COLUMNS:
                    raise InputError(f"{name} has more than {MAX_COLUMNS} different keys in its rows.")
            _note_kinds(kinds[column], value)

    def form(self) -> _RowForm:
        """Return how most elements are written."""
        kind: RowKind = max(self.counts, key=lambda kind: self.counts[kind], default="objects")
        kinds = self.kinds.get(kind, {})
        if kind != "lists":
            return _RowForm(kind, kinds)
        width = max(self.widths, key=lambda width: self.widths[width])
        kinds = {column: found for index, (column, found) in enumerate(kinds.items()) if index < width}
        header = [cell for cell in self.lists[0] if isinstance(cell, str)]
        rows = [["" if cell is None else str(cell) for cell in row] for row in self.lists[1:] if len(row) == width]
        if len(header) == width and has_known_name(header) and has_header(header, rows, ()):
            return _RowForm(kind, kinds, width, tuple(unique_names(header)))
        return _RowForm(kind, kinds, width)

    def guess(self, form: _RowForm) -> Guess | None:
        others = tuple((kind, number) for kind, number in self.counts.most_common() if kind != form.kind)
        if self.num_texts > self.counts[form.kind] / 2:
            return Guess("rows", "texts listed under a label", self.num_texts, (("objects", self.num_labels), *others))
        if form.kind == "objects" and not others:
            return None
        return Guess("rows", form.kind, self.counts[form.kind], others)


@dataclass(frozen=True, slots=True)
class _RowForm:
    """How the rows of a file are written."""

    kind: RowKind
    kinds: dict[str, set[str]]
    width: int = 0
    """Of rows that are lists."""
    header: tuple[str, ...] = ()
    """The first row, where it holds the names of columns."""


def read_json(  # noqa: PLR0917 (as the other readers)
    path: Path, name: str, encoding: str, target: Path, rejected: Rejections, part: str = ""
) -> tuple[dict[str, Any], list[Problem]]:
    """Write the file's rows to ``target`` plus ``__row__``; bad rows go to ``rejected``.

    ``part`` is the key of the split to read, where the file is an object of splits.
    """
    survey = _Survey()
    for element in elements(path, name, encoding, part):
        if not element.reason:
            survey.add(element, name, encoding)
    form = survey.form()
    kinds = form.kinds
    plans = {column: _plan(found) for column, found in kinds.items()}
    names = dict(zip(plans, form.header or plans, strict=True))
    fields = [pa.field(names[column], plan.type) for column, plan in plans.items()]
    nested = [names[column] for column, found in kinds.items() if "nested" in found]
    schema = with_nested(pa.schema([*fields, (ROW, pa.string())]), nested)
    is_header_due = bool(form.header)
    with TableWriter(target, schema) as writer:
        for element in elements(path, name, encoding, part):
            place = f"{name}:{part}:{element.line}" if part else f"{name}:{element.line}"
            place += element.mark
            row = _row(element, form.kind, encoding, form.width)
            if row.values is None:
                rejected.add(place, row.reason, row.content)
                continue
            if is_header_due:
                is_header_due = False
                continue
            values = [
                None if (value := row.values.get(column)) is None else plan.convert(value)
                for column, plan in plans.items()
            ]
            writer.add([*values, place], len(row.content) or 1000)
    mixed = [column for column, plan in plans.items() if plan.is_mixed]
    problems = [
        Problem("note", f"{name}: column '{names[column]}' mixes {' and '.join(sorted(kinds[column]))}; read as text.")
        for column in mixed
    ]
    if number := survey.num_other_messages:
        message = f"{name}: of each tree of messages the best-ranked conversation was read; {number} other messages "
        fix = "Write every conversation that is to be learned from as a row of its own, as a list of messages."
        problems.append(Problem("warning", f"{message}were not.", fix, count=number))
    guess = survey.guess(form)
    return {"format": "json", "guesses": [guess_to_dict(guess)] if guess is not None else []}, problems


def _kind_of_row(value: Any) -> RowKind | None:
    if isinstance(value, dict):
        return "objects"
    if isinstance(value, str):
        return "strings"
    if are_messages(value):
        return "conversations"
    return "lists" if isinstance(value, list) and value else None


def _row(element: Element, kind: RowKind, encoding: str, width: int = 0) -> JsonRow:  # noqa: PLR0911 (one reason each)
    """Return the columns of an element that is to be a row of this kind (a list of ``width`` cells), or why not."""
    line, value, content = element.line, element.value, element.content
    if element.reason:
        return JsonRow(line, None, element.reason, content)
    if _kind_of_row(value) != kind:
        found = {dict: "an object", list: "a list", str: "a string", type(None): "null", bool: "a truth value"}
        reason = f"{found.get(type(value), 'a number')} where {_WORDS[kind]} was expected"
        return JsonRow(line, None, reason, content)
    if kind == "lists":
        if width and len(value) != width:
            return JsonRow(line, None, f"{len(value)} cells where {width} were expected", content)
        value = {f"column_{index}": cell for index, cell in enumerate(value, 1)}
    elif kind == "conversations":
        value = {"messages": value}
    elif kind == "strings":
        value = {"text": value}
    # Lone surrogates come as marked bytes or as escapes such as \ud800.
    if has_marks(content):
        return JsonRow(line, None, describe_mark(content, encoding), content)
    try:
        values = {_column_name(key, index): _flat(key, cell) for index, (key, cell) in enumerate(value.items(), 1)}
        if "\\u" in content:
            marked = next((text for text in _strings(values) if has_marks(text)), None)
            if marked is not None:
                return JsonRow(line, None, describe_mark(marked, encoding), content)
    except RecursionError:
        return JsonRow(line, None, "nested too deeply", content[:1000])
    return JsonRow(line, values, content=content)


def _column_name(key: str, index: int) -> str:
    name = clean_name(key) or f"column_{index}"
    return "__row___2" if name == ROW else name


_LABEL_NAMES = frozenset(["cats", "label", "labels", "category", "categories", "classes", "intents"])


def _labels_of(key: str, value: Any) -> Any:
    """Return the names that an object of labels says yes to (``{"cats": {"POSITIVE": 1, "NEGATIVE": 0}}``).

    Of objects that have a name and are little else, the names; of a label that is such an object, its name.
    """
    if not isinstance(value, dict):
        return value
    if key.lower() in _LABEL_NAMES and (name := name_in(value)) is not None:
        return name
    if (names := names_in(value)) is not None:
        return names
    if len(value) == 1 and "cats" in value and isinstance(value["cats"], dict):
        key, value = "cats", value["cats"]
    is_one = key.lower() in _LABEL_NAMES and value and all(said in (0, 1) for said in value.values())
    return [name for name, said in value.items() if said] if is_one else value


class Nested(str):
    """JSON text of a value that is neither a scalar nor a list of scalars."""

    __slots__ = ()


def _flat(key: str, value: Any) -> Any:
    """Return scalars and lists of scalars as they are, what is no number as nothing, other values as JSON text.

    Objects of labels become the list of those that they say yes to.
    """
    value = _labels_of(key, value)
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, dict) or (isinstance(value, list) and any(isinstance(item, (dict, list)) for item in value)):
        return Nested(json.dumps(value, ensure_ascii=False))
    if isinstance(value, list):
        return [None if isinstance(item, float) and math.isnan(item) else item for item in value]
    return value


def _strings(values: dict[str, Any]) -> Iterator[str]:
    for value in values.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from (item for item in value if isinstance(item, str))


# Types


def _kind(value: Any) -> str:
    if isinstance(value, Nested):
        return "nested"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if -(2**63) <= value < 2**63 else "big"
    return {float: "float", str: "str"}[type(value)]


def _note_kinds(found: set[str], value: Any) -> None:
    if value is None:
        return
    if isinstance(value, list):
        found.add("list")
        found.update(f"list of {_kind(item)}" for item in value if item is not None)
    else:
        found.add(_kind(value))


@dataclass(frozen=True, slots=True)
class _Plan:
    type: pa.DataType
    convert: Callable[[Any], Any]
    is_mixed: bool = False


def _plan(kinds: set[str]) -> _Plan:
    if "nested" in kinds:
        return _Plan(pa.string(), lambda value: value if isinstance(value, Nested) else _as_json(value))
    if "list" in kinds:
        items = {kind.removeprefix("list of ") for kind in kinds if kind != "list"}
        inner = _plan(items)
        convert = inner.convert
        return _Plan(
            pa.list_(inner.type),
            lambda value: [
                None if item is None else convert(item) for item in (value if isinstance(value, list) else [value])
            ],
            inner.is_mixed,
        )
    assert kinds <= _SCALARS
    if kinds == {"bool"}:
        return _Plan(pa.bool_(), bool)
    if kinds == {"int"}:
        return _Plan(pa.int64(), int)
    if "float" in kinds and kinds <= {"int", "float"}:
        return _Plan(pa.float64(), float)
    return _Plan(pa.string(), _as_text, len(kinds) > 1)


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, float) and math.isinf(value):
        return str(value)
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else json.dumps(value)
