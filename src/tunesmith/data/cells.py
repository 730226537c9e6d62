"""What single cells mean: numbers, truth values, lists, nothing."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence

INTEGER = r"[+-]?(?:0|[1-9][0-9]{0,17})"
"""No leading zeros: 007 is a name, not a number."""
FLOAT = r"[+-]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?"
MISSING_NUMBERS = frozenset({"", "na", "n/a", "nan", "null", "none", "<na>", "#n/a", "-nan"})
"""What stands for no number in a column of numbers, in lower case."""

_INTEGER = re.compile(INTEGER)
_FLOAT = re.compile(FLOAT)
_BOOLEANS = ({"true", "false"}, {"yes", "no"}, {"t", "f"})
_SEPARATORS = "|;,"


def is_number(text: str) -> bool:
    """Say whether the text is written as a number."""
    return len(text) <= 64 and _FLOAT.fullmatch(text) is not None


def is_integer(text: str) -> bool:
    """Say whether the text is written as a whole number of at most 64 bits."""
    return _INTEGER.fullmatch(text) is not None


def are_booleans(values: set[str]) -> bool:
    """Say whether the distinct values, in lower case, are a pair such as true and false."""
    return any(values <= pair for pair in _BOOLEANS) and len(values) == 2


def parse_list(text: str) -> list[str | int | float] | None:
    """Return the items of a cell written as a JSON (or Python) list of scalars, else None."""
    text = text.strip()
    if not (text.startswith("[") and text.endswith("]")) or len(text) > 10_000:
        return None
    for candidate in (text, text.replace("'", '"')):
        try:
            items = json.loads(candidate)
        except (ValueError, RecursionError):
            continue
        if isinstance(items, list) and all(
            isinstance(item, (str, int, float)) and not isinstance(item, bool) for item in items
        ):
            return items
        return None
    return None


def list_separator(values: Sequence[str] | Mapping[str, int]) -> str:
    """Return the character that joins several labels in one cell (``joy|anger``), or nothing.

    That needs cells with and without it, parts that are short, at least one that also stands
    alone, and most parts in several combinations. ``values`` may be counted already.
    """
    distinct = Counter(values)
    for separator in _SEPARATORS:
        joined = [value for value in distinct if separator in value]
        if len(joined) < 2 or sum(distinct[value] for value in joined) < 0.02 * distinct.total():
            continue
        combinations: Counter[str] = Counter()
        for value in distinct:
            combinations.update({part.strip() for part in value.split(separator)})
        if any(len(part) > 40 or len(part.split()) > 4 for part in combinations):
            continue
        shared = sum(count > 1 for part, count in combinations.items() if part)
        stands_alone = any(part in distinct for part in combinations)
        if stands_alone and shared >= 2 and shared >= 0.5 * len(combinations):
            return separator
    return ""


def split_list(text: str, separator: str) -> list[str]:
    """Return the parts of a cell, in their order, without blanks."""
    return [part.strip() for part in text.split(separator) if part.strip()]
