"""Marks of acceptance: columns that say of every row whether its answer is one to learn from.

What was rejected is never learned from by accident. A column is such a mark when it is called
like one and says nothing but yes or no (``label: false`` beside a prompt and its completion,
``answer: reject``, ``accept: 0``, a thumb down).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tunesmith.types import ColumnProfile, Role

ACCEPTED = Role(
    "accepted",
    (),
    ("boolean", "category", "integer", "float", "text"),
    required=False,
    purpose="says which rows are to be learned from",
)
"""The role that a mark fills; every task has it."""

_YES_WORDS = """
    1 1.0 true yes y accept accepted good chosen approve approved correct ok okay pass passed up thumbs_up
    thumbsup upvote upvoted like liked helpful desirable preferred keep kept safe valid right positive win 👍
    👍🏻 👍🏼 👍🏽 👍🏾 👍🏿 ✅ ✔ 是 对 好
"""
_YES = frozenset(_YES_WORDS.split())
_NO_WORDS = """
    0 0.0 -1 -1.0 false no n reject rejected bad refuse refused denied disapproved incorrect fail failed down
    thumbs_down thumbsdown downvote downvoted dislike disliked unhelpful undesirable harmful toxic unsafe
    discard discarded ignore ignored skip skipped drop wrong invalid negative lose flag flagged spam 👎 👎🏻 👎🏼
    👎🏽 👎🏾 👎🏿 ❌ ✘ 否 错 坏
"""
_NO = frozenset(_NO_WORDS.split())
_WORDS_OF_REVIEW = frozenset(["accept", "accepted", "reject", "rejected", "ignore", "ignored"])
"""What only somebody who reviews rows says: such a mark is obeyed beside labels, too."""
_FOR_WORDS = """
    accepted accept is_accepted acceptable chosen is_chosen selected is_selected preferred is_preferred
    approved is_approved good is_good correct is_correct valid is_valid helpful is_helpful desirable upvoted
    liked like thumbs thumb thumbs_up thumbs_up_down feedback user_feedback human_feedback vote verdict
    decision status review review_status answer label labels kto_tag tag rating score reward quality
    preference keep is_best outcome
"""
_FOR = frozenset(_FOR_WORDS.split())
_AGAINST_WORDS = """
    rejected reject is_rejected bad is_bad flagged is_flagged toxic is_toxic harmful is_harmful unsafe
    is_unsafe disliked thumbs_down downvoted deleted is_deleted discard discarded wrong is_wrong incorrect
    refused is_spam
"""
_AGAINST = frozenset(_AGAINST_WORDS.split())
_MAX_VALUES = 5
"""As many distinct values as a profile shows."""


def is_mark(column: ColumnProfile, *, of_chat: bool) -> bool:
    """Say whether a column that no other role needs marks rows as accepted or rejected.

    Beside labels and tags (``of_chat`` false) only words of review do: truth values may be anything there.
    """
    name = _plain(column.name)
    if name not in _FOR | _AGAINST or not 0 < column.num_distinct <= _MAX_VALUES:
        return False
    values = {_plain(example) for example in column.examples}
    if not of_chat:
        return values <= _WORDS_OF_REVIEW
    return values <= _YES | _NO


def _plain(value: Any) -> str:
    return "_".join(str(value).strip().lower().replace("-", " ").split()) if _is_word(value) else str(value).strip()


def _is_word(value: Any) -> bool:
    return not str(value).strip().startswith("-")


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What a mark says of N rows."""

    is_rejected: npt.NDArray[np.bool_]
    """[N]"""
    is_silent: npt.NDArray[np.bool_]
    """[N]: whether it says nothing, or nothing that is understood, where it says yes of others."""


def judge_rows(name: str, values: Sequence[Any]) -> Verdicts:
    """Read a mark. Where it is only ever raised against rows, silence means that nothing is wrong with a row."""
    plain = ["" if _is_blank(value) else _plain(value) for value in values]
    is_against = _plain(name) in _AGAINST
    yes, no = (_NO, _YES) if is_against else (_YES, _NO)
    if is_against:  # "rejected: yes" and "rejected: rejected" say the same
        yes, no = yes - {"rejected", "reject"}, no | {"rejected", "reject"}
    is_accepted = np.array([value in yes for value in plain], dtype=np.bool_)
    is_rejected = np.array([value in no for value in plain], dtype=np.bool_)
    is_silent = ~is_accepted & ~is_rejected
    if is_against or not is_accepted.any():
        is_silent &= np.array([value != "" for value in plain], dtype=np.bool_)
    return Verdicts(is_rejected, is_silent)


def is_thumb(column: ColumnProfile) -> bool:
    """Say whether a column says of every answer whether it is a good or a bad one, and both occur."""
    values = {_plain(example) for example in column.examples}
    return column.num_distinct > 1 and is_mark(column, of_chat=True) and bool(values & _YES) and bool(values & _NO)


def read_thumb(value: Any) -> bool | None:
    """Return whether a mark says yes; None where it says neither yes nor no."""
    plain = "" if _is_blank(value) else _plain(value)
    return True if plain in _YES else False if plain in _NO else None


def _is_blank(value: Any) -> bool:
    return value is None or value != value or not str(value).strip()  # noqa: PLR0124 (NaN)
