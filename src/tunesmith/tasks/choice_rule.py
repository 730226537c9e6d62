"""What chooses among answers without learning: words that it shares with the question, its length, or its place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tunesmith.data.choice_rows import CHOICES, CONTEXT, LABEL, QUESTION
from tunesmith.data.encoded import Ragged
from tunesmith.tasks.base import Columns
from tunesmith.tasks.question_rule import words_of

Rule = Callable[[Columns, Mapping[int, int]], list[int]]
"""From rows, and how often each place is right in training, to the number of a choice of each row."""


def _shares_most(rows: Columns, counts: Mapping[int, int]) -> list[int]:
    del counts
    contexts: Sequence[str | None] = rows.get(CONTEXT) or [""] * len(rows[QUESTION])
    found = []
    for question, context, choices in zip(rows[QUESTION], contexts, rows[CHOICES], strict=True):
        asked = words_of(f"{context or ''} {question or ''}")
        shares = [len(own & asked) / max(len(own), 1) for own in map(words_of, choices)]
        found.append(int(np.argmax(shares)))
    return found


def _is_longest(rows: Columns, counts: Mapping[int, int]) -> list[int]:
    del counts
    return [int(np.argmax([len(choice) for choice in choices])) for choices in rows[CHOICES]]


def _stands_there_most(rows: Columns, counts: Mapping[int, int]) -> list[int]:
    return [max(range(len(choices)), key=lambda place: counts.get(place, 0)) for choices in rows[CHOICES]]


RULES: dict[str, Rule] = {
    "the choice that shares most of its words": _shares_most,
    "the longest choice": _is_longest,
    "the commonest place": _stands_there_most,
}


def choose_by_rule(train: Columns, rows: Columns) -> tuple[str, dict[str, Any]]:
    """Return the rule that is right most often on training rows, by its name, and outputs of its choices."""
    labels = list(train[LABEL])
    counts = Counter(labels)

    def num_right(name: str) -> int:
        return sum(chosen == label for chosen, label in zip(RULES[name](train, counts), labels, strict=True))

    name = max(RULES, key=num_right)
    lengths = [len(choices) for choices in rows[CHOICES]]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    scores = np.zeros(int(offsets[-1]), dtype=np.float32)
    # As sure as a rule can be: its log loss says nothing.
    scores[offsets[:-1] + np.array(RULES[name](rows, counts), dtype=np.int64)] = 1.0
    return name, {"scores": Ragged(scores, offsets)}
