"""Which columns hold texts that belong together, and what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tunesmith.data.columns import is_plain_text, matching_name
from tunesmith.data.related_texts import ANCHOR, FURTHER_NEGATIVES, NEGATIVE, POSITIVE, SCORE
from tunesmith.types import ColumnKind, ColumnProfile, Role

_ANCHORS = """
    anchor query question sentence1 sentence_1 text1 text_1 text_a question1 premise text sentence title utterance
    prompt 查询 问题 句子1
"""
_POSITIVES = """
    positive positive_passage positive_text pos positive_doc document passage context answer sentence2 sentence_2 text2
    text_2 text_b question2 hypothesis text_pair response completion 正例 文档 句子2
"""
_NEGATIVES = (
    "negative negatives hard_negative hard_negatives negative_passage negative_passages negative_text neg negs 负例"
)
_SCORES = "score similarity similarity_score label relevance rating 分数 相似度"
SURE = ("positive", "positive_passage", "positive_text", "positive_doc", "pos", "正例")
"""Names of a second text that say what it is to the first one."""
_NUMBERED = re.compile(r"(hard_)?neg(ative)?(_passage|_text|_doc)?[ _]?(\d+)", flags=re.IGNORECASE)

_TEXT: tuple[ColumnKind, ...] = ("text", "category")

ROLES = (
    Role(ANCHOR, tuple(_ANCHORS.split()), _TEXT, purpose="the text that others are near to or far from: a query"),
    Role(
        POSITIVE, tuple(_POSITIVES.split()), _TEXT, purpose="a text that is near the anchor: a passage that answers it"
    ),
    Role(
        NEGATIVE,
        tuple(_NEGATIVES.split()),
        (*_TEXT, "list"),
        required=False,
        purpose="one or several texts that are far from the anchor, though they may seem near",
    ),
    Role(
        SCORE,
        tuple(_SCORES.split()),
        ("float", "integer"),
        required=False,
        purpose="how near the two texts are, as a number",
    ),
)


def roles_for(profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> tuple[Role, ...]:
    """Return the roles to fill: one for each column of negatives; texts whose names say nothing, in their order."""
    numbered = sorted(
        (int(found[4]), name) for name in profiles if (found := _NUMBERED.fullmatch(name.strip())) is not None
    )
    free = [name for _, name in numbered if name not in overrides.values()]
    is_taken = NEGATIVE in overrides or any(matching_name(name, ROLES[2].names, exact=True) for name in profiles)
    further = [*FURTHER_NEGATIVES] if is_taken else [NEGATIVE, *FURTHER_NEGATIVES]
    by_number = {
        role: Role(role, (name.strip().lower(),), ROLES[2].kinds, required=False, purpose=ROLES[2].purpose)
        for role, name in zip(further, free, strict=False)
    }
    given = {role: ROLES[2] for role in overrides if role in FURTHER_NEGATIVES and role not in by_number}
    extra = [replace(role, name=name) for name, role in given.items()]
    roles = [by_number.pop(role.name, role) for role in _in_order(profiles, overrides)]
    return (*roles, *by_number.values(), *extra)


def _in_order(profiles: Mapping[str, ColumnProfile], overrides: Mapping[str, str]) -> Sequence[Role]:
    """Return ``ROLES``; where two texts have names that say nothing, the first one is the anchor."""
    texts = [column for column in profiles.values() if is_plain_text(column)]
    if len(texts) != 2 or {ANCHOR, POSITIVE} & overrides.keys():
        return ROLES
    if any(matching_name(text.name, role.names, exact=True) for text in texts for role in ROLES[:2]):
        return ROLES
    reasons = ("the first of two texts", "the second of two texts")
    named = [
        replace(role, names=(text.name.strip().lower(), *role.names), reason=reason)
        for role, text, reason in zip(ROLES, texts, reasons, strict=False)
    ]
    return (*named, *ROLES[2:])


def fit_score(profiles: Mapping[str, ColumnProfile]) -> tuple[float, str]:
    """Say how well columns (by role) suit: well where one is named as the positive of another."""
    anchor, positive = profiles[ANCHOR], profiles[POSITIVE]
    if matching_name(positive.name, SURE, exact=True) and matching_name(anchor.name, ROLES[0].names, exact=True):
        return 0.95, f"column '{positive.name}' holds what is near to '{anchor.name}'"
    return 0.0, "only when asked for by name, or where columns are named anchor and positive"
