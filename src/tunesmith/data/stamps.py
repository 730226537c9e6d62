"""Cells that say when or where, and nothing that could be learned: dates, times, addresses."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SHARE = 0.95
"""Share of a column's cells that must be such stamps."""
_FIRST = 20
"""Cells that most columns are told by."""
_MAX_LENGTH = 64
"""Characters of a date."""

_MONTHS = """
    jan feb mar apr may jun jul aug sep oct nov dec mär mai okt dez mars avr juin juil août déc
    ene abr ago dic gen mag giu lug set ott
"""
_NAMES_OF_DAYS = "mon tue wed thu fri sat sun"
_AROUND = "utc gmt z t am pm at of de st nd rd th h uhr o clock cet cest bst est edt cst cdt mst mdt pst pdt ist jst"
_NAMED = (*_MONTHS.split(), *_NAMES_OF_DAYS.split())
_MONTH = tuple(_MONTHS.split())
_ZONES = frozenset(_AROUND.split())
_CHINESE = re.compile(r"[年月日号時时分秒点上下午星期周一二三四五六]+")
_WORD = re.compile(r"[^\W\d_]+")
_DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{1,4}|\d{1,2}:\d{2}|\d{4}年")
_REST = re.compile(r"[\d\s.,:;/+()'’–-]*")
_ADDRESS = re.compile(
    r"(?:[a-z][a-z0-9+.-]{1,9}://|www\.)\S+|[\w.+'-]+@[\w-]+(?:\.[\w-]+)+|(?:[0-9]{1,3}\.){3}[0-9]{1,3}", re.IGNORECASE
)
"""Of the web, of e-mail, of a network."""


def are_stamps(texts: Sequence[str]) -> bool:
    """Say whether nearly all texts are dates, times or addresses, and nothing else."""
    return all(sum(map(is_stamp, looked_at)) >= _SHARE * len(looked_at) > 0 for looked_at in (texts[:_FIRST], texts))


def is_stamp(text: str) -> bool:
    """Say whether a text is a date, a time or an address, and nothing else."""
    return _is_date(text) or _ADDRESS.fullmatch(text) is not None


def _is_date(text: str) -> bool:
    if len(text) > _MAX_LENGTH or not any(map(str.isdigit, text)):
        return False
    words = _WORD.findall(text.lower())
    has_month = any(word.startswith(_MONTH) for word in words)
    are_known = all(word in _ZONES or word.startswith(_NAMED) or _CHINESE.fullmatch(word) for word in words)
    return (
        are_known and (has_month or _DATE.search(text) is not None) and _REST.fullmatch(_WORD.sub("", text)) is not None
    )
