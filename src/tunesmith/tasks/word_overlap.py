"""BM25: how much of a query's words a text has, rare words counting more (Robertson and Zaragoza 2009, eq. 3.15)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

from tunesmith.tasks.question_rule import WORD

SATURATION, LENGTH = 1.2, 0.75
"""k1 and b, at their usual values."""


class WordOverlap:
    """Scores texts by the words that they share with a query; how rare these are is counted in a collection."""

    def __init__(self, texts: Iterable[str]) -> None:
        """Count in how many of ``texts`` each word stands."""
        self._num_with: Counter[str] = Counter()
        self._num_texts = 0
        num_words = 0
        for text in texts:
            words = _words(text)
            self._num_with.update(set(words))
            self._num_texts += 1
            num_words += len(words)
        self._mean_length = max(num_words / max(self._num_texts, 1), 1.0)

    def scores(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return the score of every text for the query."""
        asked = {word: self._rarity(word) for word in set(_words(query))}
        found = []
        for text in texts:
            words = _words(text)
            counts = Counter(words)
            longer = SATURATION * (1 - LENGTH + LENGTH * len(words) / self._mean_length)
            found.append(
                sum(
                    rarity * counts[word] * (SATURATION + 1) / (counts[word] + longer)
                    for word, rarity in asked.items()
                    if counts[word]
                )
            )
        return found

    def _rarity(self, word: str) -> float:
        number = self._num_with[word]
        return math.log(1 + (self._num_texts - number + 0.5) / (number + 0.5))


def _words(text: str) -> list[str]:
    return WORD.findall(text.lower())
