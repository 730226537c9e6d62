"""What a JSON file of any form consists of: values a line, one list, objects one after the other, or one object.

One object can hold rows in many ways: as a list within it, as columns, by keys, or by splits.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tunesmith.data.encodings import Lines, open_text
from tunesmith.data.header_rows import has_known_name
from tunesmith.data.nested_questions import questions_within
from tunesmith.data.sources import DELIMITED, JSON, split_named, splits_of
from tunesmith.types import InputError

_READ_CHARACTERS = 1 << 18
_MAX_ELEMENT = 64 * 1024 * 1024
_SAMPLE_LINES = 20
_decoder = json.JSONDecoder()
_SPLITS = re.compile(r'"(?:train|training|dev|val|valid|validation|test)\w*"\s*:\s*[\[{]')
_ROW_KEYS = ("data", "rows", "examples", "items", "instances", "records", "samples", "documents", "results")
_ASKED = ("question", "query", "stem", "sent2", "ctx")
"""What a question is called, beside which a list is that of its answers."""
_MAX_DEPTH = 3


@dataclass(frozen=True, slots=True)
class Element:
    """One value of the file, or why it is none."""

    line: int
    value: Any
    content: str
    reason: str = ""
    number: int = 0
    """Which of the texts it is that an object lists under a label, from 1; 0 for any other value."""
    mark: str = ""
    """What tells it from others at the same line: ``#`` and the key of a question within an object of many."""


def holds_json(path: Path, encoding: str, suffix: str) -> bool:
    """Say whether a text file is JSON, whatever its name; a name that says so is believed where it can be."""
    with open_text(path, encoding) as text:
        lines = [line.lstrip("\ufeff").strip() for line in islice(Lines(text), _SAMPLE_LINES)]
    lines = [line for line in lines if line]
    if not lines:
        return suffix in JSON
    num_like = sum(line.startswith(("{", "[")) or _is_value(line) for line in lines)
    if suffix in JSON:
        return lines[0][0] in "{[" or num_like >= 0.5 * len(lines)
    is_whole = _is_container(lines[0])
    if suffix in DELIMITED:
        return is_whole or lines[0] in ("{", "[", "[{")
    begins = lines[0].startswith(('{"', "[{")) or lines[0] in ("{", "[") or lines[0].startswith(("{ ", "[["))
    return is_whole or begins


def _is_value(line: str) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _is_container(line: str) -> bool:
    if not line.startswith(("{", "[{", '["', "[[")):
        return False
    return isinstance(_line_value(line)[0], (dict, list))


def elements(path: Path, name: str, encoding: str, part: str = "") -> Iterator[Element]:
    """Yield the values that are the file's rows, or are meant to be; ``part`` is the key of one split of an object.

    Raises ``InputError`` where a list or an object is broken: nothing after that place can be trusted.
    """
    for element in map(_unwrapped, _elements(path, name, encoding, part)):
        questions, rows = questions_within(element.value), _utterances(element.value)
        if questions is not None:
            for mark, row in questions:
                yield replace(element, value=row, content=json.dumps(row, ensure_ascii=False), mark=mark)
        elif rows is None:
            yield element
        else:
            for number, row in enumerate(rows, 1):
                yield replace(element, value=row, content=json.dumps(row, ensure_ascii=False), number=number)


def _elements(path: Path, name: str, encoding: str, part: str) -> Iterator[Element]:
    with open_text(path, encoding) as text:
        start, first_lines = _beginning(text)
    if part:
        yield from _object_rows(_whole(path, name, encoding), name, part)
    elif start == "[" and not _is_json_lines(first_lines):
        with open_text(path, encoding) as text:
            yield from _array_elements(text, name)
    elif start == "{" and not _is_json_lines(first_lines):
        yield from _objects(path, name, encoding)
    else:
        with open_text(path, encoding) as text:
            yield from _line_elements(Lines(text))


_WRAPPERS = (
    *("fields", "attributes", "properties", "_source", "record", "row", "node", "payload", "item", "entry"),
    *("example", "doc", "document", "values"),
)
"""Names of objects that hold a row's columns, as databases, search engines and services write them."""


def _unwrapped(element: Element) -> Element:
    """Return an element whose columns stand in an object within it (``{"id": 7, "fields": {...}}``) with them outside.

    Databases and forms export rows so: outside stand a number, a kind, a time, and no text. Where a name stands in
    both, the inner one is told by the object's (``fields.id``).
    """
    value = element.value
    if not isinstance(value, dict):
        return element
    key = next((key for key in _WRAPPERS if isinstance(value.get(key), dict)), None)
    rest = {name: one for name, one in value.items() if name != key}
    if key is None or any(isinstance(one, str) and " " in one.strip() for one in rest.values()):
        return element
    inner = {f"{key}.{name}" if name in rest else name: one for name, one in value[key].items()}
    return replace(element, value={**inner, **rest})


_LABELS = ("tag", "intent", "label", "class", "category", "name")
_UTTERANCES = ("patterns", "utterances", "examples", "queries", "phrases", "texts", "sentences", "samples")


def _utterances(value: Any) -> list[dict[str, Any]] | None:
    """Return a row for each of the texts that an object lists under a label; None where it is a row itself.

    What else it holds comes with every row (``{"tag": ..., "patterns": [...], "responses": [...]}``).
    """
    if not isinstance(value, dict):
        return None
    label = next((key for key in _LABELS if isinstance(value.get(key), str)), None)
    texts = next((key for key in _UTTERANCES if isinstance(value.get(key), list)), None)
    if label is None or texts is None or "text" in value:
        return None
    if not all(isinstance(text, str) for text in value[texts]):
        return None
    rest = {key: one for key, one in value.items() if key not in (label, texts)}
    return [{"text": text, "label": value[label]} | rest for text in value[texts]]


def json_splits(path: Path, name: str, encoding: str) -> dict[str, str]:
    """Return the keys of an object of splits (``{"train": [...], "test": [...]}``) by the split that each speaks of."""
    with open_text(path, encoding) as text:
        start, first_lines = _beginning(text)
    if start != "{" or _is_json_lines(first_lines):
        return {}
    with open_text(path, encoding) as text:
        if not _SPLITS.search(text.read(_READ_CHARACTERS)):
            return {}
    try:
        value = _whole(path, name, encoding)
    except InputError:
        return {}  # whoever reads it says what is wrong
    keys = [key for key, rows in value.items() if isinstance(rows, (list, dict)) and rows and split_named(key)]
    found = splits_of(keys)
    return found if "train" in found else {}


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
    value, is_value = _line_value(first_lines[0])
    if not is_value:
        # A bad first row, if what follows cannot be the inside of an object.
        return first_lines[0].startswith("{") and len(first_lines) > 1 and first_lines[1].startswith("{")
    if len(first_lines) > 1:
        return True
    return isinstance(value, dict) and _columns_of(value) is None and not _SPLITS.search(first_lines[0])


def _line_value(content: str) -> tuple[Any, bool]:
    try:
        return _parse_line(content), True
    except (ValueError, RecursionError):
        return None, False


def _parse_line(content: str) -> Any:
    """Return the value of a line: JSON, also with a comma after it, or as Python writes it."""
    try:
        return json.loads(content)
    except ValueError:
        if content.endswith(","):
            return json.loads(content[:-1])
        if not content.startswith(("{'", "['")):
            raise
        try:
            value = ast.literal_eval(content)
            json.dumps(value)
        except (SyntaxError, TypeError, MemoryError):
            value = None
        if value is None:
            raise
        return value


def _line_elements(lines: Lines) -> Iterator[Element]:
    for line in lines:
        content = line.strip().lstrip("\ufeff") if lines.number == 1 else line.strip()
        if not content:
            continue
        if lines.is_cut:
            yield Element(lines.number, None, content[:1000], "the line is too long")
            continue
        try:
            yield Element(lines.number, _parse_line(content), content)
        except RecursionError:
            yield Element(lines.number, None, content[:1000], "nested too deeply")
        except ValueError as error:
            yield Element(lines.number, None, content, f"not valid JSON: {error}")


# ---- values one after the other ------------------------------------------------------------------


class _Reader:
    """Hands out a text by pieces that grow where they must."""

    def __init__(self, text: Any, name: str) -> None:
        self._text = text
        self.name = name
        self.buffer: str = text.read(_READ_CHARACTERS).lstrip("\ufeff")
        self.position = 0
        self.line = 1
        self._step = _READ_CHARACTERS

    def more(self) -> bool:
        """Read on; return whether there was anything."""
        rest = self._text.read(self._step)
        self.buffer, self.position = self.buffer[self.position :] + rest, 0
        return bool(rest)

    def skip_space(self) -> str:
        """Go to the next character that is not white space; return it, or nothing at the end."""
        while True:
            start = self.position
            while self.position < len(self.buffer) and self.buffer[self.position] in " \t\r\n":
                self.position += 1
            self.line += self.buffer.count("\n", start, self.position)
            if self.position < len(self.buffer):
                return self.buffer[self.position]
            if not self.more():
                return ""

    def value(self) -> Element:
        """Return the value that begins here, and go behind it."""
        while True:
            reason = ""
            try:
                value, end = _decoder.raw_decode(self.buffer, self.position)
            except RecursionError:
                raise broken(self.name, self.line, "nested too deeply") from None
            except ValueError as error:
                reason = str(error)
            # A number at the end of the buffer may go on.
            if not reason and end < len(self.buffer):
                break
            if len(self.buffer) - self.position > _MAX_ELEMENT:
                why = f"no complete element within {_MAX_ELEMENT} characters ({reason})"
                raise broken(self.name, self.line, why)
            if not self.more():
                if reason:
                    raise broken(self.name, self.line, reason)
                break
            self._step = min(2 * self._step, _MAX_ELEMENT)
        self._step = _READ_CHARACTERS
        # Reading on begins the buffer anew at the value.
        value, end = _decoder.raw_decode(self.buffer, self.position)
        content = self.buffer[self.position : end]
        found = Element(self.line, value, content)
        self.line += content.count("\n")
        self.position = end
        return found


def _array_elements(text: Any, name: str) -> Iterator[Element]:
    """Yield the elements of the array a file consists of, reading on as needed."""
    reader = _Reader(text, name)
    reader.skip_space()
    reader.position += 1
    is_first = True
    while True:
        following = reader.skip_space()
        if following == "]":
            reader.position += 1
            if reader.skip_space():
                raise broken(name, reader.line, "more text follows after the end of the list")
            return
        if not is_first:
            if following != ",":
                raise broken(name, reader.line, "',' or ']' expected" if following else "the file ends inside")
            reader.position += 1
            reader.skip_space()
        yield reader.value()
        is_first = False


def _objects(path: Path, name: str, encoding: str) -> Iterator[Element]:
    """Yield the objects of a file that stand one after the other, or the rows of the only one."""
    with open_text(path, encoding) as text:
        reader = _Reader(text, name)
        reader.skip_space()
        try:
            first = reader.value()
        except InputError:
            # One object as long as the file, or broken: its own parser says where.
            yield from _object_rows(_whole(path, name, encoding), name)
            return
        following = reader.skip_space()
        if not following:
            yield from _object_rows(first.value, name)
            return
        yield first
        while following:
            if following == ",":
                reader.position += 1
                following = reader.skip_space()
                continue
            yield reader.value()
            following = reader.skip_space()


def broken(name: str, line: int, reason: str) -> InputError:
    """Return the error for a file that is broken at a line."""
    return InputError(
        f"{name}, line {line}: not valid JSON: {reason}.",
        "Mend the file there, or write one object a line (.jsonl): then a bad row costs only itself.",
    )


# ---- one object ----------------------------------------------------------------------------------


def _whole(path: Path, name: str, encoding: str) -> Any:
    """Return the one value that the file consists of."""
    with open_text(path, encoding) as text:
        content = text.read().lstrip("\ufeff")
    try:
        return json.loads(content)
    except RecursionError:
        raise broken(name, 1, "nested too deeply") from None
    except json.JSONDecodeError as error:
        raise broken(name, error.lineno, error.msg) from None
    except ValueError as error:
        raise broken(name, 1, str(error)) from None


def _object_rows(value: Any, name: str, part: str = "") -> Iterator[Element]:
    """Yield the rows of one object, or of one of its splits; places are row numbers."""
    if part:
        inner = value[part]
        rows = (lambda: iter(inner)) if isinstance(inner, list) else _columns_of(inner)
    else:
        rows = _columns_of(value)
    if rows is None:
        raise InputError(
            f"{name} is one JSON object that holds no rows: its keys are {', '.join(map(repr, list(value)[:8]))}.",
            'Expected a list of objects, {"data": [...]}, {"train": [...], "test": [...]} or {"column": [...], ...} '
            "with lists of equal length.",
        )
    for number, row in enumerate(rows(), start=1):
        yield Element(number, row, json.dumps(row, ensure_ascii=False))


Rows = Callable[[], Iterator[Any]]


def _columns_of(value: Mapping[str, Any], depth: int = 0) -> Rows | None:  # noqa: PLR0911 (one form after the other)
    """Return the rows of an object: a list within it, columns, or objects by key."""
    lists = {key: item for key, item in value.items() if isinstance(item, list)}
    if any(map(_are_messages, lists.values())) or any(isinstance(value.get(name), str) for name in _ASKED):
        # A conversation is one row, and so is a question with its answers or choices, and this is one.
        return lambda: iter([value])
    columns, cells = lists.get("columns"), lists.get("data")
    if columns and cells and all(isinstance(row, list) and len(row) == len(columns) for row in cells):
        # As pandas writes a table "split": the names of the columns, and the cells row by row.
        return lambda: (dict(zip(map(str, columns), row, strict=True)) for row in cells)
    rows = next((lists[key] for key in _ROW_KEYS if key in lists), None)
    if rows is None and len(lists) == 1:
        rows = next(iter(lists.values()))
    if rows is not None and rows and _are_rows(rows):
        inner = [row.get("row") for row in rows[:5] if isinstance(row, dict)]
        if inner and all(isinstance(row, dict) for row in inner):  # as the hub's own server hands rows out
            return lambda: (row["row"] for row in rows)
        return lambda: iter(rows)
    if value and len(lists) == len(value) and len({len(item) for item in lists.values()}) == 1:
        return lambda: (dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True))
    if _are_classes(value):
        return lambda: ({"text": text, "label": label} for label, texts in value.items() for text in texts)
    tables = {key: item for key, item in value.items() if isinstance(item, dict)}
    if depth < _MAX_DEPTH and len(tables) == 1 and not lists:
        inside = next(iter(tables.values()))
        if any(isinstance(item, (list, dict)) for item in inside.values()):
            return _columns_of(inside, depth + 1)
    if value and len(tables) == len(value) > 1 and _are_keyed(tables):
        return lambda: iter(tables.values())
    if value and len(tables) == len(value) and len({tuple(item) for item in tables.values()}) == 1:
        index = list(next(iter(tables.values())))
        return lambda: ({key: item[row] for key, item in tables.items()} for row in index)
    if depth < _MAX_DEPTH and not has_known_name(list(value)):
        # Beside what is said of the file, one part of it holds the rows.
        within = [rows_of for item in tables.values() if (rows_of := _columns_of(item, depth + 1)) is not None]
        return within[0] if len(within) == 1 else None
    return None


def _are_classes(value: Mapping[str, Any]) -> bool:
    """Say whether an object holds the texts of each class under its name; columns would all have as many cells."""
    return len(value) > 1 and all(
        isinstance(texts, list) and texts and all(isinstance(text, str) for text in texts) for texts in value.values()
    )


def _are_rows(rows: list[Any]) -> bool:
    first = rows[:5]
    return all(isinstance(row, dict) for row in first) or all(isinstance(row, list) and len(row) > 1 for row in first)


def _are_keyed(tables: Mapping[str, dict[str, Any]]) -> bool:
    """Say whether objects are rows by key (``{"id1": {"text": ..., "label": ...}}``) rather than columns by index."""
    first = next(iter(tables.values()))
    has_names = bool(first) and not all(str(key).isdigit() for key in first)
    if not has_names or any(isinstance(item, dict) for item in first.values()):
        return False
    same = sum(item.keys() == first.keys() for item in tables.values())
    return same >= 0.9 * len(tables) and (len(tables) > len(first) or all(key.isdigit() for key in tables))


def _are_messages(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(item, dict) and ("role" in item or "from" in item) for item in items)


def are_messages(value: Any) -> bool:
    """Say whether a value is a list of a conversation's turns."""
    return isinstance(value, list) and _are_messages(value)
