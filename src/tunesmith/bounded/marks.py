"""Long runs of combining marks, put into the order that Unicode asks for.

What brings texts into a normal form orders marks by exchanging neighbours, which takes the square of a run's
length: minutes for one cell of 600,000 marks. Runs that are in order already take no time.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from typing import Literal

LONG = 1000
"""Marks in a row that are worth ordering here; those of real texts have a handful."""


def in_order(text: str, form: Literal["NFC", "NFD", "NFKC", "NFKD"]) -> str:
    """Return a text of the same normal form ``form`` whose very long runs of marks are in canonical order."""
    if text.isascii() or len(text) < LONG:
        return text
    becomes, alone, long_run = _marks()
    # A run of this length has a mark at one of these places.
    if becomes.isdisjoint(text[LONG - 1 :: LONG]) or long_run.search(text) is None:
        return text
    # Only the runs are taken apart, character by character; letters before and after stay as they are.
    decompose = _compatible if "K" in form else _canonical
    return long_run.sub(lambda run: alone.sub(_sorted, "".join(map(decompose, run.group()))), text)


def _sorted(run: re.Match[str]) -> str:
    return "".join(sorted(run.group(), key=unicodedata.combining))


@functools.lru_cache(maxsize=4096)
def _canonical(character: str) -> str:
    return unicodedata.normalize("NFD", character)


@functools.lru_cache(maxsize=4096)
def _compatible(character: str) -> str:
    return unicodedata.normalize("NFKD", character)


@functools.cache
def _marks() -> tuple[frozenset[str], re.Pattern[str], re.Pattern[str]]:
    """Return what becomes marks in any normal form, and patterns of runs of marks and of long runs of the former."""
    characters = map(chr, range(0x300, 0x20000))  # no mark has a higher number
    becomes = [one for one in characters if all(map(unicodedata.combining, unicodedata.normalize("NFKD", one)))]
    marks = [one for one in becomes if unicodedata.combining(one)]
    return frozenset(becomes), re.compile(f"[{_ranges(marks)}]+"), re.compile(f"[{_ranges(becomes)}]{{{LONG},}}")


def _ranges(characters: list[str]) -> str:
    ranges: list[list[int]] = []
    for code in map(ord, characters):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges)
