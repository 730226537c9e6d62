"""What explanations of many rows have in common: words that speak for each label, and faithfulness with intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tunesmith.data.rows import Rows
from tunesmith.evaluate import IntervalDict, interval, resamples
from tunesmith.tasks.base import Columns
from tunesmith.trust.explanation import Explainer, Explanation
from tunesmith.types import InputError

MIN_TEXTS = 3
"""Texts that a word must stand in to be listed."""
NUM_WORDS = 15
CONFIDENCE = 0.95
NUM_RESAMPLES = 1000
Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ExplainedRows:
    """Explanations of the rows of a file, and what they have in common."""

    rows: tuple[Explanation, ...]
    left_out: int
    """Rows that the model does not read whole, or that have no words."""
    words: dict[str, list[dict[str, Any]]]
    """Per label: the words that speak most for it, with their mean score and in how many texts they stand."""
    faithfulness: dict[str, dict[str, IntervalDict]]
    """Per method: the means, and what they differ by from words in random order."""

    def to_dict(self) -> dict[str, Any]:
        return {
            "rows": [one.to_dict() for one in self.rows],
            "left_out": self.left_out,
            "words": self.words,
            "faithfulness": self.faithfulness,
        }


def explain_rows(
    explainer: Explainer,
    rows: Rows | Columns,
    *,
    most: int,
    label: str | None = None,
    seed: int = 0,
    working: Notify = lambda _: None,
) -> ExplainedRows:
    """Explain at most ``most`` rows, evenly from all over the file.

    Raises ``InputError`` where none of them can be explained.
    """
    names = rows.column_names if isinstance(rows, Rows) else list(rows)
    num_rows = len(rows[names[0]])
    if not num_rows:
        raise InputError("There are no rows to explain.", "Give a file with rows.")
    chosen = np.linspace(0, num_rows - 1, min(num_rows, most), dtype=np.int64).tolist()
    found: list[Explanation] = []
    refused: list[InputError] = []
    for done, place in enumerate(chosen):
        working(f"explaining: {done} of {len(chosen)} rows")
        columns = {name: [rows[name][place]] for name in names if name not in explainer.task.truths}
        try:
            found.append(explainer.explain(columns, label=label, parts=False, row=place + 1))
        except InputError as error:
            refused.append(error)
    if not found:
        raise InputError(refused[0].problems)
    return ExplainedRows(tuple(found), len(refused), word_effects(found), mean_faithfulness(found, seed))


def word_effects(explanations: Sequence[Explanation]) -> dict[str, list[dict[str, Any]]]:
    """Return the words with the highest mean score for each label; a word counts once a text, by the sum there."""
    of_label: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for one in explanations:
        label = str(one.prediction.get("label", one.target)) if one.unit == "log-odds" else one.target
        sums: dict[str, float] = defaultdict(float)
        for token, score in zip(one.tokens, one.scores, strict=True):
            if any(letter.isalnum() for letter in token):
                sums[token.lower()] += score
        for token, total in sums.items():
            of_label[label][token].append(total)
    listed = {}
    for label, words in sorted(of_label.items()):
        means = [(float(np.mean(scores)), word, len(scores)) for word, scores in words.items()]
        best = sorted((one for one in means if one[2] >= MIN_TEXTS and one[0] > 0), key=lambda one: (-one[0], one[1]))
        listed[label] = [{"word": word, "score": mean, "texts": texts} for mean, word, texts in best[:NUM_WORDS]]
    return listed


def mean_faithfulness(explanations: Sequence[Explanation], seed: int) -> dict[str, dict[str, IntervalDict]]:
    """Return the mean of each figure over the texts, and the gain over words in random order, with intervals."""
    names = dict.fromkeys(name for one in explanations for name in one.faithfulness)
    found: dict[str, dict[str, IntervalDict]] = {}
    for name in names:
        measured = [one.faithfulness[name] for one in explanations if name in one.faithfulness]
        own = {
            "comprehensiveness": np.array([one.comprehensiveness for one in measured]),
            "sufficiency": np.array([one.sufficiency for one in measured]),
            "random_comprehensiveness": np.array([one.random_comprehensiveness for one in measured]),
            "random_sufficiency": np.array([one.random_sufficiency for one in measured]),
        }
        own["comprehensiveness_gain"] = own["comprehensiveness"] - own["random_comprehensiveness"]
        own["sufficiency_gain"] = own["random_sufficiency"] - own["sufficiency"]
        weights_RN = np.concatenate(list(resamples(len(measured), NUM_RESAMPLES, seed)))
        found[name] = {
            figure: interval(float(values.mean()), weights_RN @ values / len(values), CONFIDENCE)
            for figure, values in own.items()
        }
    return found
