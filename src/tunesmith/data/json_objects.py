"""Rows within one JSON object: a list in it, columns, objects by key, texts by class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from tunesmith.data.header_rows import has_known_name
from tunesmith.data.messages import holds_messages

_ROW_KEYS = (
    *("data", "rows", "examples", "items", "instances", "records", "samples", "documents", "results"),
    *("common_examples", "utterances"),
)
_ASKED = ("question", "query", "stem", "sent2", "ctx")
"""What a question is called, beside which a list is that of its answers."""
_MAX_DEPTH = 3

Rows = Callable[[], Iterator[Any]]


def rows_within(value: Mapping[str, Any], depth: int = 0) -> Rows | None:  # noqa: PLR0911 (one form after the other)
    """Return the rows of an object: a list within it, columns, or objects by key."""
    lists = {key: item for key, item in value.items() if isinstance(item, list)}
    if any(map(_are_turns, lists.values())) or any(isinstance(value.get(name), str) for name in _ASKED):
        # A conversation is one row, and so is a question with its answers or choices, and this is one.
        return lambda: iter([value])
    listed = _listed_rows(lists)
    if listed is not None:
        return listed
    if value and len(lists) == len(value) and len({len(item) for item in lists.values()}) == 1:
        return lambda: (dict(zip(lists, cells, strict=True)) for cells in zip(*lists.values(), strict=True))
    if (intents := _intents(value)) is not None:
        return lambda: iter(intents)
    if _are_classes(value):
        return lambda: ({"text": text, "label": label} for label, texts in value.items() for text in texts)
    tables = {key: item for key, item in value.items() if isinstance(item, dict)}
    if depth < _MAX_DEPTH and len(tables) == 1 and not lists:
        inside = next(iter(tables.values()))
        if any(isinstance(item, (list, dict)) for item in inside.values()):
            return rows_within(inside, depth + 1)
    if value and len(tables) == len(value) > 1 and _are_keyed(tables):
        return lambda: iter(tables.values())
    if value and len(tables) == len(value) and len({tuple(item) for item in tables.values()}) == 1:
        index = list(next(iter(tables.values())))
        return lambda: ({key: item[row] for key, item in tables.items()} for row in index)
    if depth < _MAX_DEPTH and not has_known_name(list(value)):
        # Beside what is said of the file, one part of it holds the rows.
        within = [rows_of for item in tables.values() if (rows_of := rows_within(item, depth + 1)) is not None]
        return within[0] if len(within) == 1 else None
    return None


def _listed_rows(lists: Mapping[str, list[Any]]) -> Rows | None:
    """Return the rows that one of an object's lists holds; None where none does, or nobody can say which."""
    columns, cells = lists.get("columns"), lists.get("data")
    if columns and cells and all(isinstance(row, list) and len(row) == len(columns) for row in cells):
        # As pandas writes a table "split": the names of the columns, and the cells row by row.
        return lambda: (dict(zip(map(str, columns), row, strict=True)) for row in cells)
    rows = next((lists[key] for key in _ROW_KEYS if lists.get(key)), None)
    filled = [item for item in lists.values() if item]
    if rows is None and len(filled) == 1:
        rows = filled[0]
    if rows is None and _are_marked_texts(lists.get("annotations")):
        return lambda: (row for row in lists["annotations"] if row is not None)
    if rows is not None and rows and _are_rows(rows):
        inner = [row.get("row") for row in rows[:5] if isinstance(row, dict)]
        if inner and all(isinstance(row, dict) for row in inner):  # as the hub's own server hands rows out
            return lambda: (row["row"] for row in rows)
        return lambda: iter(rows)
    return None


def _are_marked_texts(rows: Any) -> bool:
    """Say whether a list holds texts with their entities (``[text, {"entities": [...]}]``), perhaps with gaps."""
    filled = [row for row in rows if row is not None] if isinstance(rows, list) else []
    return bool(filled) and all(
        isinstance(row, list) and len(row) == 2 and isinstance(row[0], str) and isinstance(row[1], dict)
        for row in filled
    )


def _intents(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Return texts with their intents, as Snips writes them: utterances in pieces, listed under their intent."""
    intents = value.get("intents")
    if not isinstance(intents, dict) or not intents:
        return None
    found = []
    for intent, held in intents.items():
        said = held.get("utterances") if isinstance(held, dict) else None
        if not isinstance(said, list):
            return None
        for one in said:
            pieces = one.get("data") if isinstance(one, dict) else None
            if not isinstance(pieces, list) or not all(isinstance(piece, dict) for piece in pieces):
                return None
            found.append({"text": "".join(str(piece.get("text", "")) for piece in pieces), "label": intent})
    return found


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


def _are_turns(items: list[Any]) -> bool:
    return bool(items) and all(isinstance(item, dict) and ("role" in item or holds_messages(item)) for item in items)


def are_messages(value: Any) -> bool:
    """Say whether a value is a list of a conversation's turns."""
    return isinstance(value, list) and _are_turns(value)
