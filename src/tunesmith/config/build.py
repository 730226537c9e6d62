"""From plain nested mappings to a typed configuration, reporting every problem at once."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from tunesmith.config.base import Choice, Config, ConfigError, nearest
from tunesmith.config.keys import (
    Section,
    default_of,
    describe,
    find_section,
    flat_types,
    is_required,
    knows,
    list_keys,
    words_of,
)
from tunesmith.config.synonyms import choice_meant, meaning_of, plain
from tunesmith.types import Problem

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo

C = TypeVar("C", bound=Config)

MAX_VALUE_LENGTH = 60
MOST_OWNERS = 3
"""Choices that are named of those that know a key."""


def build(cls: type[C], values: Mapping[str, Any], source: str = "") -> C:
    """Return a validated ``cls`` from nested mappings.

    A section may be given as a mapping, as a finished ``Config``, or, where a ``Choice``
    picks its class, as the name alone. ``source`` (a file name) starts every message.

    Raises ``ConfigError`` with one problem per wrong, unknown, misplaced or missing key.
    """
    builder = _Builder(cls, source)
    built = builder.build_section(cls, values, "")
    if builder.problems:
        raise ConfigError(builder.problems)
    assert isinstance(built, cls)
    return built


class _Builder:
    def __init__(self, root: type[Config], source: str) -> None:
        self.root = root
        self.source = source
        self.problems: list[Problem] = []

    def report(self, message: str, fix: str = "") -> None:
        self.problems.append(Problem("error", f"{self.source}: {message}" if self.source else message, fix))

    def build_section(
        self, cls: type[Config], values: Any, path: str, section: Section | None = None, name: str = ""
    ) -> Config | None:
        """Return the section at ``path``, or None after reporting what is wrong with it."""
        if values is None:
            values = {}
        if isinstance(values, Config) and isinstance(values, cls):
            return values
        if not isinstance(values, Mapping):
            self.report(
                f"{path.rstrip('.') or 'The configuration'} is {show(values)}; expected a section with keys of its own."
            )
            return None
        num_problems = len(self.problems)
        known: dict[str, Any] = {}
        failed: set[str] = set()
        for key, value in values.items():
            field = cls.model_fields.get(key) if isinstance(key, str) else None
            if field is None:
                self._report_unknown(str(key), cls, path, section, name)
                continue
            known[key] = self._build_value(field, value, f"{path}{key}", failed, key)
        self._add_required_sections(cls, known, path, failed)
        built = self._validate(cls, known, path, failed)
        return built if len(self.problems) == num_problems else None

    def _build_value(self, field: FieldInfo, value: Any, path: str, failed: set[str], key: str) -> Any:
        section = find_section(field)
        if section is None:
            if isinstance(value, bool) and not flat_types(field.annotation) & {bool, Any, object}:
                self.report(f"{path} is {show(value)}; expected: {describe(field)}.", field.description or "")
                failed.add(key)
            if isinstance(value, str):
                return _spelled(value, words_of(field.annotation))
            return value
        if value is None and section.optional:
            return None
        built = self._build_choice(field, section, value, path)
        if built is None:
            failed.add(key)
        return built

    def _add_required_sections(self, cls: type[Config], known: dict[str, Any], path: str, failed: set[str]) -> None:
        """Look into required sections that were not given, so that the keys they need are named."""
        for key, field in cls.model_fields.items():
            section = find_section(field)
            if key not in known and section and section.cls and not section.optional and is_required(field):
                known[key] = self.build_section(section.cls, {}, f"{path}{key}.", section)
                if known[key] is None:
                    failed.add(key)

    def _build_choice(self, field: FieldInfo, section: Section, value: Any, path: str) -> Config | None:
        choice = section.choice
        if choice is not None and isinstance(value, str):
            value = {choice.key: value}
        if section.cls is not None or isinstance(value, Config):
            return self.build_section(section.cls or type(value), value, f"{path}.", section)
        assert choice is not None
        if not isinstance(value, Mapping):
            self.report(f"{path} is {show(value)}; expected the name of a {choice.what}: {list_names(choice)}.")
            return None
        name = value.get(choice.key, getattr(default_of(field), choice.key, None))
        if not isinstance(name, str):
            received = f"{path}.{choice.key} is {show(name)}" if choice.key in value else f"{path} has no {choice.key}"
            fix = f"Give it as well: --{path} NAME, or '{choice.key}: NAME' under '{path}' in the file."
            self.report(f"{received}; expected the name of a {choice.what}: {list_names(choice)}.", fix)
            return None
        if choice.default is None:
            name = _spelled(name, list(choice.registry))
        cls = choice.class_of(name)
        if cls is None:
            guess = choice_meant(choice.what, name, choice.registry) or nearest(name.lower(), choice.registry)
            self.report(f"There is no {choice.what} {name!r}; there is {list_names(choice)}.", guess)
            return None
        return self.build_section(cls, {**value, choice.key: name}, f"{path}.", section, name)

    def _validate(self, cls: type[Config], known: dict[str, Any], path: str, failed: set[str]) -> Config | None:
        try:
            return cls.model_validate({key: value for key, value in known.items() if key not in failed})
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                location = detail["loc"]
                if not location or location[0] not in failed:
                    self._report_invalid(cls, detail, path)
            return None
        except UnicodeEncodeError as error:  # of pydantic, or of a check that hands a name on
            where = path.rstrip(".") or "The configuration"
            self.report(f"{where} holds {show(error.object)}, which has bytes that are no UTF-8.", "Write UTF-8.")
            return None

    def _report_invalid(self, cls: type[Config], detail: Any, path: str) -> None:
        location: tuple[str | int, ...] = detail["loc"]
        field = cls.model_fields.get(str(location[0])) if location else None
        keys = ".".join(str(part) for index, part in enumerate(location) if not (index and _is_type_tag(part)))
        key = f"{path}{keys}" if location else path.rstrip(".") or "The configuration"
        is_whole_field = "." not in keys
        reason = str(detail["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
        if detail["type"] in ("value_error", "assertion_error"):
            self.report(f"{key}: {reason}{'' if reason.endswith(('.', '!', '?')) else '.'}")
        elif field is None:
            self.report(f"{key}: {reason}.")
        elif detail["type"] == "string_unicode":
            fix = "Give it in UTF-8; a file whose name has other bytes must be renamed, or given by its folder."
            self.report(f"{key} is {show(detail['input'])}, which has bytes that are no UTF-8.", fix)
        elif detail["type"] == "missing":
            self._report_missing(field, key)
        else:
            expected = describe(field) if is_whole_field else reason.removeprefix("Input should be ")
            self._report_value(key, detail["input"], expected, field)

    def _report_missing(self, field: FieldInfo, key: str) -> None:
        section = find_section(field)
        if section is not None and section.choice is not None:
            expected = f"the name of a {section.choice.what}: {list_names(section.choice)}"
        else:
            expected = describe(field)
        help_text = " ".join((field.description or "").split())
        self.report(f"{key} is missing; expected: {expected}.", f"Give --{key}{f': {help_text}' if help_text else ''}")

    def _report_value(self, key: str, value: Any, expected: str, field: FieldInfo) -> None:
        fix = ""
        types_ = flat_types(field.annotation)
        if str in types_ and isinstance(value, int | float) and not isinstance(value, bool):
            fix = f'To mean the text, put it in quotes: {key.rsplit(".", 1)[-1]}: "{value}"'
        elif isinstance(value, str) and " | " in expected:
            fix = nearest(value, expected.removesuffix(" or null").split(" | "))
        line = f"{key} is {show(value)}; expected: {expected}."
        if not any(problem.message.endswith(line) for problem in self.problems):  # a union reports each member
            self.report(line, fix)

    def _report_unknown(self, key: str, cls: type[Config], path: str, section: Section | None, name: str) -> None:
        full = f"{path}{key}"
        if section is not None and section.choice is not None:
            owners = [other for other, owner in section.choice.registry.items() if key in owner.model_fields]
            if owners:
                what = section.choice.what
                some = " or ".join(map(repr, owners[:MOST_OWNERS]))
                others = f" or {len(owners) - MOST_OWNERS} others" if len(owners) > MOST_OWNERS else ""
                self.report(
                    f"{full} belongs to {what} {some}{others}, and the {what} is {name!r}.",
                    f"Choose --{path.rstrip('.')} {owners[0]}, or remove {full}.",
                )
                return
        self.report(f"{full} is not a known key.", suggest_key(self.root, full, list(cls.model_fields)))


def suggest_key(root: type[Config], path: str, siblings: list[str]) -> str:
    """Return a hint at the key that was meant: a sibling, the same name elsewhere, or the nearest of all."""
    section, _, name = path.rpartition(".")
    keys = list(list_keys(root))
    if meant := meaning_of(name, lambda key: knows(keys, key)):
        return " ".join(filter(None, [f"Did you mean {meant.as_keys()}?" if meant.settings else "", meant.note]))
    near = difflib.get_close_matches(name, siblings, n=1, cutoff=0.75)
    if near:
        return f"Did you mean '{f'{section}.' if section else ''}{near[0]}'?"
    by_name = {key.path.rsplit(".", 1)[-1]: key.path for key in keys}
    near = [name] if name in by_name else difflib.get_close_matches(name, list(by_name), n=1, cutoff=0.75)
    if near:
        return f"Did you mean '{by_name[near[0]]}'?"
    return f"Known here: {', '.join(siblings)}." if siblings else ""


def _spelled(word: str, known: Sequence[str]) -> str:
    """Return a word as it is known: ``LoRA`` is ``lora``."""
    if word in known:
        return word
    same = [one for one in known if plain(one) == plain(word)]
    return same[0] if len(same) == 1 else word


def list_names(choice: Choice) -> str:
    """Return the names of a choice as a sentence part: ``full, freeze or lora``."""
    names = [repr(name) for name in choice.registry]
    if choice.default is not None:
        return f"{', '.join(names)} or another {choice.what}" if names else f"a {choice.what}"
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "".join(names)


def show(value: Any) -> str:
    """Return a value as it reads in YAML, shortened."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= MAX_VALUE_LENGTH else f"{text[: MAX_VALUE_LENGTH - 1]}…"


def _is_type_tag(part: str | int) -> bool:
    """Say whether pydantic added this part of a location to tell the members of a union apart."""
    return isinstance(part, str) and (part in _UNION_TAGS or "[" in part or "(" in part)


_UNION_TAGS = frozenset({"int", "float", "str", "bool", "none", "list", "dict", "tuple", "literal", "path"})
