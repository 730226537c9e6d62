"""Words replaced by others that mean the same, by a lexicon."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from random import Random

from tunesmith.data.augmentation.edits import Edit, Place, chosen, is_free

_WORD = re.compile(r"[A-Za-z]+(?:-[A-Za-z]+)*")
_HAN = re.compile("[\u4e00-\u9fff]+")
_LONGEST = 4
"""Characters of a Chinese word that is looked for, and no fewer than two."""


class Synonyms:
    """Replaces a share of the words by a synonym; case and a plural's s are kept."""

    def __init__(self, lexicon: Mapping[str, Sequence[str]], share: float, *, single_words: bool = False) -> None:
        """With ``single_words`` no word is replaced by several, as where each token has a label of its own."""
        self._lexicon = lexicon
        self._share = share
        self._single = single_words

    def __call__(self, text: str, kept: Sequence[Place], random: Random) -> list[Edit]:
        words = [found for found in _WORD.finditer(text) if is_free(*found.span(), kept)]
        known = [(found, others) for found in words if (others := self._others(found[0]))]
        edits = [Edit(found.start(), found.end(), random.choice(others)) for found, others in known]
        num_units = len(words)
        for found in _HAN.finditer(text):
            num_units += max(len(found[0]) // 2, 1)
            edits += self._chinese(found[0], found.start(), kept, random)
        return chosen(edits, num_units, self._share, random) if edits else []

    def _others(self, word: str) -> list[str]:
        """Return the synonyms of an English word, in its form."""
        plain = word.lower()
        ending = ""
        others = self._lexicon.get(plain, ())
        if not others and len(plain) > 3 and plain.endswith("s") and not plain.endswith("ss"):
            others, ending = self._lexicon.get(plain[:-1], ()), "s"
        found = [f"{other}{ending}" for other in others if not (self._single and " " in other)]
        if word.isupper() and len(word) > 1:
            return [other.upper() for other in found]
        return [other[:1].upper() + other[1:] for other in found] if word[0].isupper() else found

    def _chinese(self, run: str, offset: int, kept: Sequence[Place], random: Random) -> list[Edit]:
        """Return an edit for every word of the lexicon in a run of characters: the longest from the left on."""
        edits, place = [], 0
        while place < len(run) - 1:
            for length in range(min(_LONGEST, len(run) - place), 1, -1):
                others = self._lexicon.get(run[place : place + length], ())
                start, end = offset + place, offset + place + length
                if others and is_free(start, end, kept):
                    edits.append(Edit(start, end, random.choice(list(others))))
                    place += length - 1
                    break
            place += 1
        return edits
