"""Lists of objects of which each has a name, and what that name is: ``[{"id": 28, "name": "Action"}, ...]``.

Web services write labels, genres and topics so, and annotation tools put several choices into an object of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = ("name", "title", "label", "displayName", "display_name")
_LISTS = ("choices", "labels", "taxonomy")
_OTHERWISE = ("start", "end", "begin", "offset", "from", "to", "role", "content", "text", "parameters")
"""Keys of objects that are more than a name: places in a text, turns of a conversation, answers, tools."""


def name_in(value: Any) -> str | None:
    """Return the name of an object that has one and otherwise only numbers and words; None for any other value."""
    if not isinstance(value, Mapping) or not value:
        return None
    key = next((key for key in _NAMES if isinstance(value.get(key), str)), None)
    if key is None or any(isinstance(one, (dict, list)) for one in value.values()):
        return None
    others = {str(name).lower(): one for name, one in value.items() if name not in (key, "description")}
    is_more = any(
        name.startswith(_OTHERWISE) or (isinstance(one, str) and " " in one.strip()) for name, one in others.items()
    )
    return None if is_more else str(value[key])


def names_in(value: Any) -> list[str] | None:
    """Return the names of objects in a list, or the list of an object that holds no more; None for any other value."""
    if isinstance(value, Mapping):
        inner = next(iter(value.values())) if len(value) == 1 and next(iter(value)) in _LISTS else None
        is_list = isinstance(inner, list) and all(isinstance(item, str) for item in inner)
        return list(inner) if is_list and inner is not None else None
    if not isinstance(value, list) or not value:
        return None
    names = [name_in(item) for item in value]
    return [name for name in names if name is not None] if None not in names else None
