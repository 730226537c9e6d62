"""Columns that labels are hardly ever in, or likely in, by their names and their numbers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from tunesmith.data.column_words import describe
from tunesmith.data.profiles import LABEL_NAMES
from tunesmith.types import ColumnProfile, Problem

_MOST_STARS, _MOST_GRADES = 10, 11
"""The highest of such numbers, and how many there are."""
_ABOUT = """
    user users username author authors sender speaker screen reviewer customer account assignee reporter creator
    language lang locale country region city timezone device platform client version source channel file filename path
    verified helpful thumbs
    upvotes downvotes likes votes vote retweets comments replies views followers useful funny cool
    month year day weekday hour week
"""
_ABOUT_NAMES = frozenset(_ABOUT.split())
"""Last words in names of columns that say who wrote a text, where, when or to what echo: seldom what is learned."""
_OF_NAMES = frozenset(["", "name", "id", "count", "code", "type", "num", "number", "up", "down"])
"""Words that say nothing of what a column is of."""


def unreadable_label(profiles: Mapping[str, ColumnProfile]) -> Problem | None:
    """Return why a column is not learned that is certainly there to be predicted, by its name or its form."""
    for column in profiles.values():
        if column.is_decorated:
            shown = ", ".join(repr(example) for example in column.examples[:3])
            message = f"Column '{column.name}' holds amounts that are not written as plain numbers ({shown})."
            return Problem("error", message, "Write bare numbers, such as 1234.5, to have them predicted.")
        if column.name.strip().lower() in LABEL_NAMES and column.kind in ("text", "object"):
            message = f"Column '{column.name}' is named as what is to be predicted, but no labels were found in it; "
            message += f"it holds {describe(column)}: {', '.join(column.examples[:2])}."
            fix = f"Write a name or a list of names into it, or insist: data.columns.label {column.name}."
            return Problem("error", message, fix)
    return None


def has_few_values(column: ColumnProfile) -> bool:
    """Say whether a column's values come again and again."""
    return column.num_distinct <= 0.2 * column.num_rows


def is_about(column: ColumnProfile) -> bool:
    """Say whether a column's name says that it is about a text rather than what a text is."""
    words = [word for word in words_of(column.name) if word not in _OF_NAMES]
    return bool(words) and words[-1] in _ABOUT_NAMES


def are_stars(column: ColumnProfile) -> bool:
    """Say whether a column holds a few small whole numbers, which come again and again: stars, grades, classes."""
    if column.kind != "integer" or column.low is None or column.high is None:
        return False
    is_small = -1 <= column.low <= 1 and column.high <= _MOST_STARS
    return is_small and 2 <= column.num_distinct <= _MOST_GRADES and has_few_values(column)


def words_of(name: str) -> list[str]:
    """Return the words of a column's name in lower case, also of one such as ``reviewText``."""
    return re.split(r"[^a-z]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower())
