"""What anybody could answer without a model: the first sentences of a text, or its longest one, as its summary."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from tunesmith import metrics
from tunesmith.metrics.answers import Reference

MOST_ROWS = 500
"""Training rows by which the best rule is found."""

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|(?<=[。！？])[」』”]?")


def sentences(text: str) -> list[str]:
    """Return the sentences of a text, in any script with full stops; a text without any is one sentence."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part and part.strip()] or [text.strip()]


def _lead(number: int) -> Callable[[list[str]], str]:
    return lambda parts: " ".join(parts[:number])


RULES: Mapping[str, Callable[[list[str]], str]] = {
    "the first sentence": _lead(1),
    "the first two sentences": _lead(2),
    "the first three sentences": _lead(3),
    "the longest sentence": lambda parts: max(parts, key=len),
    "the last sentence": lambda parts: parts[-1],
    "all of the text": " ".join,
}


def best_extract(
    sources: Sequence[str | None], targets: Sequence[Reference], wanted: Sequence[str | None]
) -> tuple[str, list[str]]:
    """Return the rule that sums training rows up best, by its mean ROUGE-L, and what it makes of ``wanted`` rows."""
    stride = max(1, len(sources) // MOST_ROWS)
    rows = range(0, len(sources), stride)
    parts = [sentences(sources[row] or "") for row in rows]
    references = [targets[row] for row in rows]

    def score(name: str) -> float:
        statistics = metrics.answer_statistics([RULES[name](one) for one in parts], references)
        return float(metrics.answer_metrics(statistics, [[1.0] * len(parts)])["rouge_l"][0])

    name = max(RULES, key=score)
    return name, [RULES[name](sentences(text or "")) for text in wanted]
