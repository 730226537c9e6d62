"""Which columns hold tokens with tags, or texts with spans: the roles of token classification."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tunesmith.data.tagged_columns import tagged_pair
from tunesmith.tasks.columns import TEXT
from tunesmith.types import ColumnProfile, Role

TOKENS = Role(
    "tokens",
    ("tokens", "words", "token", "word", "form", "sentence", "text", "characters", "chars"),
    ("list",),
    purpose="the tokens of a sentence",
)
TAGS = Role(
    "tags",
    ("tags", "ner_tags", "ner", "labels", "entities", "tag", "label", "pos_tags", "pos", "upos"),
    ("list",),
    purpose="a tag for every token",
)
ENTITIES = Role(
    "entities",
    ("entities", "spans", "ents", "entity", "annotations", "labels", "label"),
    ("object",),
    purpose="spans of characters: start, end and label of each entity",
)


def _named(role: Role, column: ColumnProfile, reason: str) -> Role:
    """Return the role for one column and no other."""
    name = column.name.strip().lower()
    return replace(role, names=(name,), kinds=(column.kind,), reason="" if name in role.names else reason)


def _text_role(profiles: Mapping[str, ColumnProfile]) -> Role:
    """Return the role of the text; annotation tools write it into an object of its own."""
    held = profiles.get("data")
    if held is None or held.kind != "object" or not any('"text"' in example for example in held.examples):
        return TEXT
    return _named(TEXT, held, "an object that holds the text")


def tag_roles(profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
    """Return the roles to fill: texts with spans where a column of objects is named for that, else tokens with tags.

    ``profiles`` are by column name; ``overrides`` (role to column) are the user's own word.
    """
    pair = tagged_pair(profiles, (TOKENS.names, TAGS.names), overrides)
    if pair is not None and ENTITIES.name not in overrides:
        return _named(TOKENS, pair[0], "as many parts as tags in every row"), _named(
            TAGS, pair[1], "a tag for every token in every row"
        )
    usual = {name: index for index, name in enumerate(ENTITIES.names)}
    columns = [
        (not column.holds_spans, usual.get(column.name.strip().lower(), len(usual)), column)
        for column in profiles.values()
        if column.kind in ENTITIES.kinds
        and (column.holds_spans or (column.name.strip().lower() in usual and not column.has_no_spans))
    ]
    if not columns and ENTITIES.name not in overrides:
        return TOKENS, TAGS
    entities = ENTITIES
    if columns:
        best = min(columns, key=lambda one: one[:2])[2]
        entities = _named(ENTITIES, best, "places and labels" if best.holds_spans else "")
    return _text_role(profiles), entities
