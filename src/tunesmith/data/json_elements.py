"""What a JSON file of any form consists of: values a line, one list, objects one after the other, or one object.

One object can hold rows in many ways: as a list within it, as columns, by keys, or by splits.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from tunesmith.data.encodings import Lines, open_text
from tunesmith.data.json_objects import rows_within
from tunesmith.data.json_shapes import unwrapped, utterances
from tunesmith.data.nested_questions import questions_within
from tunesmith.data.nested_rows import rows_in
from tunesmith.data.sources import DELIMITED, JSON, split_named, splits_of
from tunesmith.types import InputError

_READ_CHARACTERS = 1 << 18
_MAX_ELEMENT = 64 * 1024 * 1024
_SAMPLE_LINES = 20
_decoder = json.JSONDecoder()
_SPLITS = re.compile(r'"(?:train|training|dev|val|valid|validation|test)\w*"\s*:\s*[\[{]')


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
    for element in _elements(path, name, encoding, part):
        value = unwrapped(element.value)
        marked, rows = questions_within(value) or rows_in(value), utterances(value)
        if marked is not None:
            for mark, row in marked:
                yield replace(element, value=row, content=json.dumps(row, ensure_ascii=False), mark=mark)
        elif rows is None:
            yield element if value is element.value else replace(element, value=value)
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


def json_splits(path: Path, name: str, encoding: str) -> tuple[dict[str, str], list[str]]:
    """Return the keys of an object of splits (``{"train": [...], "test": [...]}``) by the split that each speaks of.

    With them come the keys of further rows, which are none of the splits.
    """
    with open_text(path, encoding) as text:
        start, first_lines = _beginning(text)
    if start != "{" or _is_json_lines(first_lines):
        return {}, []
    with open_text(path, encoding) as text:
        if not _SPLITS.search(text.read(_READ_CHARACTERS)):
            return {}, []
    try:
        value = _whole(path, name, encoding)
    except InputError:
        return {}, []  # whoever reads it says what is wrong
    keys = [key for key, rows in value.items() if isinstance(rows, (list, dict)) and rows and split_named(key)]
    found = splits_of(keys)
    further = [key for key, rows in value.items() if isinstance(rows, list) and rows and key not in found.values()]
    return (found, further) if "train" in found else ({}, [])


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
    return isinstance(value, dict) and rows_within(value) is None and not _SPLITS.search(first_lines[0])


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
            if reader.skip_space() == "]":
                continue  # a comma behind the last element, as in many programs' own code
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
        rows = (lambda: iter(inner)) if isinstance(inner, list) else rows_within(inner)
    else:
        rows = rows_within(value)
    if rows is None:
        raise InputError(
            f"{name} is one JSON object that holds no rows: its keys are {', '.join(map(repr, list(value)[:8]))}.",
            'Expected a list of objects, {"data": [...]}, {"train": [...], "test": [...]} or {"column": [...], ...} '
            "with lists of equal length.",
        )
    for number, row in enumerate(rows(), start=1):
        yield Element(number, row, json.dumps(row, ensure_ascii=False))
