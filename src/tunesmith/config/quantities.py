"""Durations and amounts of memory as people write them: ``30m``, ``1h30m``, ``8GB``, ``512 MiB``."""

from __future__ import annotations

import math
import re

from tunesmith.types import InputError

_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
}
_BYTES = {
    "": 1.0,
    **{unit: 1000.0**power for power, unit in enumerate(("k", "m", "g", "t"), 1)},
    **{f"{unit}i": 1024.0**power for power, unit in enumerate(("k", "m", "g", "t"), 1)},
}
"""By what stands before the B; without an i they are decimal, as everywhere that sizes are shown."""

_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_PART = re.compile(rf"{_NUMBER}\s*([a-z]*)\s*(?:,|and\b)?\s*")
_SIZE = re.compile(rf"{_NUMBER}\s*(?:([kmgt]i?)?b?|bytes?)")


def parse_duration(text: str, key: str) -> float:
    """Return a duration in seconds; ``InputError`` that names ``key`` where the text is none, or none above 0.

    A number has its unit, for 30 could be seconds as well as minutes: ``90s``, ``30m``, ``1h30m``, ``1 h 30 min``.
    """
    expected = f"Write a number with its unit, such as {key} 90s, {key} 30m or {key} 1h30m."
    rest, total, given = text.strip().lower(), 0.0, set[float]()
    while rest:
        part = _PART.match(rest)
        if part is None:
            raise InputError(f"{key} is {text!r}, which is no duration.", expected)
        if not part[2]:
            raise InputError(f"{key} is {text!r}: {part[1]} of what is not said.", expected)
        if part[2] not in _SECONDS:
            raise InputError(f"{key} is {text!r}, and {part[2]!r} is no unit of time.", expected)
        if _SECONDS[part[2]] in given:
            raise InputError(f"{key} is {text!r}, which names the same unit twice.", expected)
        given.add(_SECONDS[part[2]])
        total += float(part[1]) * _SECONDS[part[2]]
        rest = rest[part.end() :]
    return _above_zero(total, text, key, expected)


def parse_size(text: str, key: str) -> int:
    """Return an amount of memory in bytes; ``InputError`` that names ``key`` where the text is none, or none above 0.

    GB are a thousand million bytes and GiB are 1024³; a B may be left out.
    """
    expected = f"Write a number with its unit, such as {key} 8GB, {key} 512MB or {key} 16GiB."
    found = _SIZE.fullmatch(text.strip().lower())
    if found is None:
        raise InputError(f"{key} is {text!r}, which is no amount of memory.", expected)
    if not re.search(r"[a-z]", text.lower()):
        raise InputError(f"{key} is {text!r}: {found[1]} of what is not said.", expected)
    return int(_above_zero(float(found[1]) * _BYTES[found[2] or ""], text, key, expected))


def _above_zero(value: float, text: str, key: str, expected: str) -> float:
    if not (math.isfinite(value) and value >= 1e-3):
        raise InputError(f"{key} is {text!r}, which leaves nothing.", expected)
    return value
