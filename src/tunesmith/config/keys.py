"""The tree of configuration keys, read from the model classes: for errors, flags and help.

A *section* is a field whose type is a ``Config``. A section with a ``Choice`` stands for
several classes, one per name; its keys say which of the names know them.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from weakref import WeakKeyDictionary

from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from tunesmith.config.base import BY_ITSELF, Choice, Config

OTHER = "…"
"""Stands for every name outside a choice's registry, where it has a default class."""


@dataclass(frozen=True, slots=True)
class Section:
    """What a field holds when it is a section and not a value."""

    cls: type[Config] | None
    """Its class, where there is only one."""
    choice: Choice | None
    """How a plain text picks the class, or fills its key where there is only one."""
    optional: bool
    """Whether null is a value of the field."""

    def classes(self) -> dict[str, type[Config]]:
        """Return the possible classes by name; one without a choice has the name ``""``."""
        if self.cls is not None:
            return {"": self.cls}
        assert self.choice is not None
        others = {OTHER: self.choice.default} if self.choice.default else {}
        return {**self.choice.registry, **others}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the configuration that takes a value."""

    path: str
    """Dotted, such as ``method.rank``; a choice's own name has the path of its section."""
    field: FieldInfo
    choices: tuple[str, ...] = ()
    """The names that know this key, where its section is a choice and not all of them do."""
    section: Section | None = None
    """Set for a key that stands for a section: it picks the choice, or fills the section's own key."""
    written: str = ""
    """All of the field as a text, which is the same where several classes have one and the same field."""


def find_section(field: FieldInfo) -> Section | None:
    """Return what section ``field`` holds, or None when it holds a plain value."""
    choice: Choice | None = None
    optional = False
    classes: list[type[Config]] = []
    waiting: list[Any] = [field.annotation, *field.metadata]
    while waiting:
        item = waiting.pop()
        origin = get_origin(item)
        if isinstance(item, Choice):
            choice = item
        elif item is type(None):
            optional = True
        elif isinstance(item, type) and origin is None and issubclass(item, Config):
            classes.append(item)
        elif origin in (Union, types.UnionType, Annotated):
            waiting += get_args(item)
    if choice is not None:
        return Section(None if choice.registry else choice.default, choice, optional)
    return Section(classes[0], None, optional) if len(classes) == 1 else None


def list_keys(cls: type[Config], prefix: str = "") -> Iterator[Key]:
    """Yield every key of the tree below ``cls`` that people give, in the order of the fields."""
    for name, field, section, written in _fields_of(cls):
        path = f"{prefix}{name}"
        if section is None:
            yield Key(path, field, written=written)
        elif section.choice is None:
            assert section.cls is not None
            yield from list_keys(section.cls, f"{path}.")
        else:
            yield Key(path, field, section=section, written=written)
            yield from _list_choice_keys(section, section.choice.key, path)


_Fields = tuple[tuple[str, FieldInfo, Section | None, str], ...]
_known: WeakKeyDictionary[type[Config], tuple[Mapping[str, FieldInfo], _Fields]] = WeakKeyDictionary()


def _fields_of(cls: type[Config]) -> _Fields:
    """Return the fields of a class that people give, with their sections and as texts, found once for each class.

    What a choice may be is not remembered: methods and tasks are added to its registry. A class that refers to one
    defined later gets new fields as soon as that is there.
    """
    fields = cls.model_fields
    known = _known.get(cls)
    if known is None or known[0] is not fields:
        given = [(name, one) for name, one in fields.items() if one.json_schema_extra != BY_ITSELF]
        found = tuple((name, one, find_section(one), repr(one)) for name, one in given)
        known = _known[cls] = (fields, found)
    return known[1]


def _list_choice_keys(section: Section, key_name: str, path: str) -> Iterator[Key]:
    """Yield what all choices know first, then the keys of each, merged where they are the same."""
    classes = section.classes()
    found: dict[tuple[str, str], tuple[Key, list[str]]] = {}
    for choice_name, cls in classes.items():
        for key in list_keys(cls, f"{path}."):
            if key.path != f"{path}.{key_name}":
                found.setdefault((key.path, key.written), (key, []))[1].append(choice_name)
    for key, names in found.values():
        if len(names) == len(classes):
            yield key
    for key, names in found.values():
        if len(names) < len(classes):
            yield Key(key.path, key.field, tuple(names), key.section, key.written)


def paths_of(key: Key) -> Iterator[str]:
    """Yield the paths by which a key may be given: ``method`` and ``method.name``."""
    yield key.path
    if key.section is not None and key.section.choice is not None:
        yield f"{key.path}.{key.section.choice.key}"


def knows(keys: Sequence[Key], path: str) -> bool:
    """Say whether ``path`` is one of the keys, or an entry of one that holds a mapping."""
    return any(
        path in paths_of(key) or (path.startswith(f"{key.path}.") and flat_types(key.field.annotation) == {dict})
        for key in keys
    )


def words_of(annotation: Any) -> list[str]:
    """Return the texts that a type lists one by one; none where it takes any text."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return [value for value in arguments if isinstance(value, str)]
    if origin is Annotated:
        return words_of(arguments[0])
    if origin in (Union, types.UnionType):
        return [] if str in arguments else [word for inner in arguments for word in words_of(inner)]
    return []


def default_of(field: FieldInfo) -> Any:
    """Return the field's default, or ``PydanticUndefined`` when it is required."""
    if field.default_factory is not None:
        return field.get_default(call_default_factory=True, validated_data={})
    return field.default


def unset_of(field: FieldInfo) -> str:
    """Say what decides where the field is not given (``BY_DATA``); empty where its default does."""
    extra = field.json_schema_extra
    return str(extra.get("unset", "")) if isinstance(extra, dict) else ""


def is_required(field: FieldInfo) -> bool:
    """Say whether the field must be given."""
    return default_of(field) is PydanticUndefined


def describe(field: FieldInfo) -> str:
    """Say what values a field takes: ``whole number ≥ 1``, ``full | lora``, ``text or null``."""
    words = describe_type(field.annotation)
    limits = _describe_limits(field.metadata)
    if not limits:
        return words
    head, null, _ = words.partition(_OR_NULL)
    return f"{head} {limits}{null}"


_OR_NULL = " or null"
_SIMPLE_TYPES = {
    bool: "true | false",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    type(None): "null",
    Any: "any value",
    object: "any value",
    list: "list",
    tuple: "list",
    dict: "mapping",
}
_LIMITS = {
    "ge": "≥ {}",
    "gt": "> {}",
    "le": "≤ {}",
    "lt": "< {}",
    "multiple_of": "in steps of {}",
    "min_length": "at least {} long",
    "max_length": "at most {} long",
    "pattern": "that matches {}",
}


def describe_type(annotation: Any) -> str:
    """Say what values a type takes, in words."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is None:
        known = _SIMPLE_TYPES.get(annotation)
        return known or str(getattr(annotation, "__name__", annotation)).lower()
    if origin is Literal:
        return " | ".join(_literal_text(value) for value in arguments)
    if origin is Annotated:
        return " ".join(filter(None, [describe_type(arguments[0]), _describe_limits(arguments[1:])]))
    if origin in (Union, types.UnionType):
        words = " | ".join(describe_type(item) for item in arguments if item is not type(None))
        return f"{words}{_OR_NULL}" if type(None) in arguments else words
    inner = list(dict.fromkeys(describe_type(item) for item in arguments if item is not Ellipsis))
    if issubclass(origin, Mapping):
        return f"mapping of {inner[0]} to {inner[-1]}"
    return f"list of {' | '.join(inner)}"


def _literal_text(value: Any) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _describe_limits(metadata: Sequence[Any]) -> str:
    limits = []
    for item in metadata:
        for part in item.metadata if isinstance(item, FieldInfo) else [item]:
            for name, words in _LIMITS.items():
                value = getattr(part, name, None)
                if value is not None:
                    shown = f"{value:g}" if isinstance(value, float) else value
                    limits.append("not empty" if (name, value) == ("min_length", 1) else words.format(shown))
    return " and ".join(limits)


def flat_types(annotation: Any) -> set[Any]:
    """Return the plain types and literal values that ``annotation`` is a union of."""
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return {item for argument in get_args(annotation) for item in flat_types(argument)}
    if origin is Annotated:
        return flat_types(get_args(annotation)[0])
    if origin is Literal:
        return {type(value) for value in get_args(annotation)}
    return {origin or annotation}
