"""Texts disturbed in ways that people disturb them: typing errors, case, punctuation, order of words, negation.

Each is a function of a text and random numbers of its own, so that the same row is disturbed alike in every audit.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from tunesmith.data.documents.lines import CJK

_NEIGHBOURS = {
    letter: f"{row[place - 1] if place else ''}{row[place + 1] if place + 1 < len(row) else ''}"
    for row in ("qwertyuiop", "asdfghjkl", "zxcvbnm")
    for place, letter in enumerate(row)
}
"""The keys beside each letter."""
TYPO_SHARE = 0.1
"""Of the words of a text that get a typing error; one at least."""
_UNSPACED = re.compile(f"[{CJK}]")
_MARKS = re.compile(r"[^\w\s]|_")
_VERBS = re.compile(r"\b(is|are|was|were|has|have|had|do|does|did|can|could|will|would|should|must)\b(?! not\b)", re.I)
_NOT = re.compile(r"\b(?:not|never)\b\s*|n't\b", re.I)
_CHINESE_NOT = re.compile("[不没]")
_CHINESE_VERBS = re.compile("[是会能要喜想有好]")

Random = np.random.Generator


def typos(text: str, random: Random) -> str:
    """Return the text with letters swapped, left out, doubled or replaced by a key beside; of Chinese, swapped."""
    pieces = re.split(r"(\s+)", text)
    if _UNSPACED.search(text) and len(pieces) < 4:
        return _swapped_characters(text, random)
    places = [place for place, piece in enumerate(pieces) if len(piece) > 2 and any(map(str.isalpha, piece))]
    if not places:
        return text
    number = max(1, round(TYPO_SHARE * len(places)))
    for place in random.choice(places, size=min(number, len(places)), replace=False):
        pieces[place] = _mistyped(pieces[place], random)
    return "".join(pieces)


def _mistyped(word: str, random: Random) -> str:
    at = int(random.integers(0, len(word) - 1))
    kind = int(random.integers(0, 4))
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    if kind == 1:
        return word[:at] + word[at + 1 :]
    if kind == 2:
        return word[:at] + word[at] + word[at:]
    beside = _NEIGHBOURS.get(word[at].lower(), word[at])
    return word[:at] + beside[int(random.integers(0, len(beside)))] + word[at + 1 :]


def _swapped_characters(text: str, random: Random) -> str:
    letters = list(text)
    for _ in range(max(1, round(TYPO_SHARE * len(text) / 2))):
        at = int(random.integers(0, max(len(letters) - 1, 1)))
        if at + 1 < len(letters):
            letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


def lower_case(text: str, random: Random) -> str:
    """Return the text in small letters."""
    del random
    return text.lower()


def upper_case(text: str, random: Random) -> str:
    """Return the text in capitals."""
    del random
    return text.upper()


def without_punctuation(text: str, random: Random) -> str:
    """Return the text without any mark."""
    del random
    return re.sub(r"\s+", " ", _MARKS.sub("", text)).strip()


def other_order(text: str, random: Random) -> str:
    """Return the text with its words (characters of Chinese) in an order drawn at random."""
    if _UNSPACED.search(text) and len(text.split()) < 4:
        return "".join(random.permutation(list(text)).tolist())
    words = text.split()
    return " ".join(random.permutation(words).tolist()) if words else text


def negated(text: str, random: Random) -> str:
    """Return the text with its first negation taken out or, without one, its first verb negated; as it is without."""
    del random
    if _UNSPACED.search(text):
        if _CHINESE_NOT.search(text):
            return _CHINESE_NOT.sub("", text, count=1)
        return _CHINESE_VERBS.sub(lambda found: f"不{found[0]}", text, count=1)
    if _NOT.search(text):
        return _NOT.sub("", text, count=1)
    return _VERBS.sub(lambda found: f"{found[0]} not", text, count=1)


DISTURBANCES: dict[str, Callable[[str, Random], str]] = {
    "typing errors": typos,
    "lower case": lower_case,
    "upper case": upper_case,
    "no punctuation": without_punctuation,
    "other order": other_order,
    "negated": negated,
}
"""Names -> what is done to a text."""
CHANGES_MEANING = frozenset({"negated", "other order"})
"""What may change what is right: of these it is told how many answers change, and no loss is held against the run."""
