"""JSON and JSON Lines into Arrow: two passes, so that memory stays flat and types are known before writing.

The first pass learns every column's kinds of values, the second writes. Columns that mix
numbers and words become text; nested records become JSON text.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from tunesmith.data.encodings import Lines, describe_mark, has_marks, open_text
from tunesmith.data.records import ROW
from tunesmith.data.tables import MAX_COLUMNS, Rejections, TableWriter, clean_name, with_nested
from tunesmith.types import InputError, Problem

_READ_CHARACTERS = 1 << 18
_MAX_ELEMENT = 64 * 1024 * 1024
_SCALARS = frozenset({"bool", "int", "big", "float", "str"})
_decoder = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class JsonRow:
    """One element of the file: a row, or why it is none."""

    line: int
    values: dict[str, Any] | None
    reason: str = ""
    content: str = ""


def read_json(
    path: Path, name: str, encoding: str, target: Path, rejected: Rejections
) -> tuple[dict[str, Any], list[Problem]]:
    """Write the file's rows to ``target`` plus ``__row__``; bad rows go to ``rejected``."""
    kinds: dict[str, set[str]] = {}
    for row in _rows(path, name, encoding):
        if row.values is None:
            rejected.add(f"{name}:{row.line}", row.reason, row.content)
            continue
        for column, value in row.values.items():
            if column not in kinds:
                kinds[column] = set()
                if len(kinds) > MAX_COLUMNS:
                    raise InputError(f"{name} has more than {MAX_COLUMNS} different keys in its rows.")
            _note_kinds(kinds[column], value)
    plans = {column: _plan(found) for column, found in kinds.items()}
    fields = [pa.field(column, plan.type) for column, plan in plans.items()]
    nested = [column for column, found in kinds.items() if "nested" in found]
    schema = with_nested(pa.schema([*fields, (ROW, pa.string())]), nested)
    with TableWriter(target, schema) as writer:
        for row in _rows(path, name, encoding):
            if row.values is None:
                continue
            values = [
                None if (value := row.values.get(column)) is None else plan.convert(value)
                for column, plan in plans.items()
            ]
            writer.add([*values, f"{name}:{row.line}"], len(row.content) or _READ_CHARACTERS)
    mixed = [column for column, plan in plans.items() if plan.is_mixed]
    problems = [
        Problem("note", f"{name}: column '{column}' mixes {' and '.join(sorted(kinds[column]))}; read as text.")
        for column in mixed
    ]
    return {"format": "json"}, problems


def _rows(path: Path, name: str, encoding: str) -> Iterator[JsonRow]:
    with open_text(path, encoding) as text:
        start, first_lines = _beginning(text)
    if start == "[" and not _is_json_lines(first_lines):
        with open_text(path, encoding) as text:
            for line, element, content in _array_elements(text, name):
                yield _row(line, element, content, encoding)
    elif start == "{" and not _is_json_lines(first_lines):
        yield from _object_rows(path, name, encoding)
    else:
        with open_text(path, encoding) as text:
            yield from _line_rows(Lines(text), encoding)


def _beginning(text: Any) -> tuple[str, list[str]]:
    """Return the first character that is not white space, and the first two lines that are not blank."""
    first: list[str] = []
    for line in Lines(text):
        stripped = line.strip().lstrip("\ufeff")
        if stripped:
            first.append(stripped)
        if len(first) == 2:
            break
    return (first[0][0] if first else ""), first


def _is_json_lines(first_lines: list[str]) -> bool:
    """Say whether the file holds one value a line, rather than one object over the whole file."""
    try:
        value = json.loads(first_lines[0])
    except (ValueError, RecursionError):
        # A bad first row, if what follows cannot be the inside of an object.
        return first_lines[0].startswith("{") and len(first_lines) > 1 and first_lines[1].startswith("{")
    if len(first_lines) > 1:
        return True
    return isinstance(value, dict) and _columns_of(value) is None


def _line_rows(lines: Lines, encoding: str) -> Iterator[JsonRow]:
    for line in lines:
        content = line.strip().lstrip("\ufeff") if lines.number == 1 else line.strip()
        if not content:
            continue
        if lines.is_cut:
            yield JsonRow(lines.number, None, "the line is too long", content[:1000])
            continue
        try:
            element = json.loads(content)
        except RecursionError:
            yield JsonRow(lines.number, None, "nested too deeply", content[:1000])
        except ValueError as error:
            yield JsonRow(lines.number, None, f"not valid JSON: {error}", content)
        else:
            yield _row(lines.number, element, content, encoding)


def _row(line: int, element: Any, content: str, encoding: str) -> JsonRow:
    if not isinstance(element, dict):
        kind = {list: "a list", str: "a string", type(None): "null", bool: "a truth value"}.get(
            type(element), "a number"
        )
        return JsonRow(line, None, f'{kind} where an object such as {{"text": ...}} was expected', content)
    # Lone surrogates come as marked bytes or as escapes such as \ud800.
    if has_marks(content):
        return JsonRow(line, None, describe_mark(content, encoding), content)
    try:
        values = {_column_name(key, index): _flat(value) for index, (key, value) in enumerate(element.items(), 1)}
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


class Nested(str):
    """JSON text of a value that is neither a scalar nor a list of scalars."""

    __slots__ = ()


def _flat(value: Any) -> Any:
    """Return scalars and lists of scalars as they are, what is no number as nothing, other values as JSON text."""
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


# Whole arrays


def _array_elements(text: Any, name: str) -> Iterator[tuple[int, Any, str]]:
    """Yield the line, value and text of each element of the array a file consists of, reading on as needed.

    Raises ``InputError`` where the array is broken: nothing after that place can be trusted.
    """
    buffer = text.read(_READ_CHARACTERS).lstrip("\ufeff")
    line = 1 + buffer[: buffer.index("[") + 1].count("\n")
    position = buffer.index("[") + 1
    is_first = True
    step = _READ_CHARACTERS
    while True:
        stripped = _skip_space(buffer, position)
        line += buffer.count("\n", position, stripped)
        position = stripped
        rest = ""
        if position >= len(buffer) and (rest := text.read(step)):
            buffer, position = rest, 0
            continue
        if buffer[position : position + 1] == "]":
            _check_end(buffer[position + 1 :] + text.read(_READ_CHARACTERS), name, line)
            return
        if not is_first:
            if buffer[position : position + 1] != ",":
                raise _broken(name, line, "',' or ']' expected" if position < len(buffer) else "the file ends inside")
            is_comma_last = _skip_space(buffer, position + 1) >= len(buffer)
            if is_comma_last and (rest := text.read(step)):
                buffer, position = buffer[position:] + rest, 0
                continue
            start = _skip_space(buffer, position + 1)
        else:
            start = position
        try:
            element, end = _decoder.raw_decode(buffer, start)
            # A number at the end of the buffer may go on.
            is_whole = end < len(buffer) or not (rest := text.read(step))
            reason = ""
        except RecursionError:
            raise _broken(name, line, "nested too deeply") from None
        except ValueError as error:
            reason = str(error)
            is_whole = not (rest := text.read(step))
        if not is_whole:
            if len(buffer) - position > _MAX_ELEMENT:
                raise _broken(name, line, f"no complete element within {_MAX_ELEMENT} characters ({reason})")
            buffer, position, step = buffer[position:] + rest, 0, min(2 * step, _MAX_ELEMENT)
            continue
        line += buffer.count("\n", position, start)
        if reason:
            raise _broken(name, line, reason)
        content = buffer[start:end]
        yield line, element, content
        line += content.count("\n")
        position, is_first, step = end, False, _READ_CHARACTERS


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _check_end(rest: str, name: str, line: int) -> None:
    if rest.strip():
        raise _broken(name, line, "more text follows after the end of the list")


def _broken(name: str, line: int, reason: str) -> InputError:
    return InputError(
        f"{name}, line {line}: not valid JSON: {reason}.",
        "Mend the file there, or write one object a line (.jsonl): then a bad row costs only itself.",
    )


# One object


def _object_rows(path: Path, name: str, encoding: str) -> Iterator[JsonRow]:
    """Yield rows of {"data": [...]}, {column: [...]} or {column: {index: value}}; places are row numbers."""
    with open_text(path, encoding) as text:
        content = text.read().lstrip("\ufeff")
    try:
        value = json.loads(content)
    except RecursionError:
        raise _broken(name, 1, "nested too deeply") from None
    except json.JSONDecodeError as error:
        raise _broken(name, error.lineno, error.msg) from None
    except ValueError as error:
        raise _broken(name, 1, str(error)) from None
    del content
    rows = _columns_of(value)
    if rows is None:
        raise InputError(
            f"{name} is one JSON object that holds no rows: its keys are {', '.join(map(repr, list(value)[:8]))}.",
            'Expected a list of objects, {"data": [...]} or {"column": [...], ...} with lists of equal length.',
        )
    for number, row in enumerate(rows(), start=1):
        yield _row(number, row, json.dumps(row, ensure_ascii=False), encoding)


def _columns_of(value: dict[str, Any]) -> Callable[[], Iterator[Any]] | None:
    lists = {key: item for key, item in value.items() if isinstance(item, list)}
    if any(map(_are_messages, lists.values())):
        # A conversation is one row, and this is one.
        return lambda: iter([value])
    rows = next((lists[key] for key in ("data", "rows", "examples", "items") if key in lists), None)
    if rows is None and len(lists) == 1:
        rows = next(iter(lists.values()))
    if rows is not None and rows and all(isinstance(row, dict) for row in rows[:5]):
        return lambda: iter(rows)
    if value and len(lists) == len(value) and len({len(item) for item in lists.values()}) == 1:
        return lambda: (dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True))
    tables = {key: item for key, item in value.items() if isinstance(item, dict)}
    if value and len(tables) == len(value) and len({tuple(item) for item in tables.values()}) == 1:
        index = list(next(iter(tables.values())))
        return lambda: ({key: item[row] for key, item in tables.items()} for row in index)
    return None


def _are_messages(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(item, dict) and ("role" in item or "from" in item) for item in items)


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
