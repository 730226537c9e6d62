"""Objects whose columns or texts stand deeper within: brought out, so that each is a row of plain columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunesmith.data.profiles import LABEL_NAMES
from tunesmith.data.tool_exports import exported_row
from tunesmith.data.translations import NAMES

_WRAPPERS = (
    *("fields", "attributes", "properties", "_source", "record", "row", "node", "payload", "item", "entry"),
    *("example", "doc", "document", "values"),
)
"""Names of objects that hold a row's columns, as databases, search engines and services write them."""
_TEXTS = frozenset(["text", "sentence", "content", "body", "message", "comment", "review", "question", "prompt"])
_LABELS = ("tag", "intent", "label", "class", "category", "name")
_UTTERANCES = ("patterns", "utterances", "examples", "queries", "phrases", "texts", "sentences", "samples")


def unwrapped(value: Any) -> Any:
    """Return an object whose columns stand in an object within it (``{"id": 7, "fields": {...}}``) with them outside.

    Databases and forms export rows so: outside stand a number, a kind, a time, and no text. Where a name stands in
    both, the inner one is told by the object's (``fields.id``). What annotation tools write beside a text is a column.
    """
    if not isinstance(value, dict):
        return value
    value = exported_row(value)
    key = next((key for key in _WRAPPERS if isinstance(value.get(key), dict)), None)
    rest = {name: one for name, one in value.items() if name != key}
    if key is None:
        return _question_with_choices(value) or _from_several(value) or value
    if _has_text(rest):
        return value
    inner = {f"{key}.{name}" if name in rest else name: one for name, one in value[key].items()}
    return {**inner, **rest}


def _has_text(value: Mapping[str, Any]) -> bool:
    return any(isinstance(one, str) and " " in one.strip() for one in value.values())


def _question_with_choices(value: dict[str, Any]) -> dict[str, Any] | None:
    """Return the columns of a question that stands in one object with its choices, as ARC and CommonsenseQA have it."""
    asked = value.get("question")
    if not isinstance(asked, dict) or not isinstance(asked.get("stem"), str) or "choices" not in asked:
        return None
    rest = {name: one for name, one in value.items() if name != "question"}
    inner = {f"question.{name}" if name in rest else name: one for name, one in asked.items() if name != "stem"}
    return {"question": asked["stem"], **inner, **rest}


def _from_several(value: dict[str, Any]) -> dict[str, Any] | None:
    """Return the columns of a row whose text stands in an object, as plain as others (``{"review": {"text": ...}}``).

    Names that several objects have are told by the object's (``review.id``).
    """
    inner = {key: one for key, one in value.items() if isinstance(one, dict) and one and _is_plain(one)}
    outside = {key: one for key, one in value.items() if key not in inner}
    if any(map(_holds_lists, outside.values())) or _has_text(outside) or not any(map(_has_text, inner.values())):
        return None
    if any(name.strip().lower() in NAMES | LABEL_NAMES for name in inner) or not _TEXTS.isdisjoint(outside):
        return None  # a text in several languages, which is brought out later; a label; a text of one word
    names = [name for one in inner.values() for name in one] + list(outside)
    return outside | {
        name if names.count(name) == 1 else f"{key}.{name}": cell
        for key, one in inner.items()
        for name, cell in one.items()
    }


def _is_plain(value: Mapping[str, Any]) -> bool:
    """Say whether an object holds values by names: no turn of a conversation, and no list at any depth."""
    return not ({"role", "from"} & value.keys()) and not any(map(_holds_lists, value.values()))


def _holds_lists(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_lists, value.values()))
    return isinstance(value, list) and bool(value)


def utterances(value: Any) -> list[dict[str, Any]] | None:
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
