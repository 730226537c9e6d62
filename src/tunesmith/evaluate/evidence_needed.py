"""What would decide a comparison that is undecided: more seeds, more test rows, and about how many."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tunesmith.evaluate.student import half_width
from tunesmith.evaluate.variance import Parts, satterthwaite

T = TypeVar("T")

MAX_SEEDS = 50
"""More than so many seeds in all are no advice."""
MAX_ROWS = 100
"""Nor is it to have this many times the test rows."""
_FACTORS = [1.1**step for step in range(1, math.floor(math.log(MAX_ROWS, 1.1)) + 1)]
"""How many times the test rows are tried, each a tenth more than the one before."""
USUAL_DISAGREEMENT = 0.1
"""Share of the rows that two trained models usually get differently right, where nothing is known yet."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A comparison as it stands."""

    difference: float
    parts: Parts
    num_seeds: int
    """Of each method; 0 where no seed changes anything."""
    num_rows: int
    margin: float | None
    confidence: float
    confidence_to_differ: float
    """The confidence at which 0 has to be outside, so that the correction for many comparisons agrees."""

    def half_width(self, seeds: int, rows: float, confidence: float) -> float:
        """Return half of the interval's width that so many seeds and ``rows`` times the test rows would give."""
        fewer = self.num_seeds / seeds if seeds else 1.0
        by_rows = self.parts.rows / rows
        by_seeds = (self.parts.seeds - self.parts.joint + self.parts.joint / rows) * fewer
        known = self.parts.seed_freedom
        if self.num_seeds > 1 and math.isfinite(known):
            known *= (seeds - 1) / (self.num_seeds - 1)
        freedom = satterthwaite((by_rows, self.num_rows * rows - 1), (by_seeds, known))
        return half_width(by_rows + by_seeds, freedom, confidence)

    def is_decided(self, seeds: int, rows: float) -> bool:
        """Say whether so much would decide, if the difference stayed as it is."""
        distance = abs(self.difference)
        if distance > self.half_width(seeds, rows, self.confidence_to_differ):
            return True
        return self.margin is not None and distance + self.half_width(seeds, rows, self.confidence) <= self.margin


def advice(evidence: Evidence) -> str:
    """Return a clause that says what would decide; empty where nothing is known."""
    if not math.isfinite(evidence.difference) or not math.isfinite(evidence.parts.total):
        return "the metric is undefined for one of the two"
    if evidence.num_seeds == 1 or not evidence.parts.seed_freedom:
        return "one seed says nothing of methods: at least 3 would"
    seeds, rows = _fewest_seeds(evidence), _fewest_rows(evidence, evidence.num_seeds)
    alone = [*([_seeds(evidence, seeds)] if seeds else []), *([_rows(evidence, rows)] if rows else [])]
    if len(alone) == 2:
        return f"about {alone[0]}, or about {alone[1]}, would decide"
    if alone:
        return f"about {alone[0]} would decide" + ("" if seeds or not evidence.num_seeds else "; more seeds would not")
    if (together := _fewest_together(evidence)) is not None:
        return f"about {_seeds(evidence, together[0])} together with {_rows(evidence, together[1])} would decide"
    return f"not even {MAX_SEEDS} seeds and {MAX_ROWS} times the test rows would decide: the two are too much alike"


def rows_to_resolve(evidence: Evidence) -> int | None:
    """Return how many test rows tell a difference of the margin however many seeds; None where those here do."""
    parts, margin = evidence.parts, evidence.margin
    if not margin or not math.isfinite(parts.rows):
        return None
    half = half_width(parts.rows, math.inf, evidence.confidence)
    return None if half <= margin else round_up(evidence.num_rows * (half / margin) ** 2)


def rows_needed(margin: float, *, confidence: float = 0.95, disagreement: float = USUAL_DISAGREEMENT) -> int:
    """Return how many test rows tell two models apart by ``margin`` of accuracy, before anything is trained.

    Of N rows that two models get right equally often, the share ``disagreement`` being right for one of them only, the
    difference spreads by sqrt(disagreement / N); half of the interval is to be no wider than the margin.
    """
    return round_up((half_width(disagreement, math.inf, confidence) / margin) ** 2)


def round_up(number: float) -> int:
    """Return a number of which two figures count, rounded up."""
    if number < 100:
        return math.ceil(number)
    unit = int(10 ** (math.floor(math.log10(number)) - 1))
    return math.ceil(number / unit) * unit


def _fewest_seeds(evidence: Evidence) -> int | None:
    if not evidence.num_seeds:
        return None
    more = range(evidence.num_seeds + 1, MAX_SEEDS + 1)
    return _first(more, lambda seeds: evidence.is_decided(seeds, 1.0))


def _fewest_rows(evidence: Evidence, seeds: int) -> float | None:
    return _first(_FACTORS, lambda rows: evidence.is_decided(seeds, rows))


def _fewest_together(evidence: Evidence) -> tuple[int, float] | None:
    """Return the seeds, and how many times the rows, that decide when both grow alike."""
    if not evidence.num_seeds:
        return None
    both = [(min(math.ceil(evidence.num_seeds * rows), MAX_SEEDS), rows) for rows in _FACTORS]
    return _first(both, lambda pair: evidence.is_decided(*pair))


def _first(growing: Sequence[T], decides: Callable[[T], bool]) -> T | None:
    """Return the least that decides; whatever is more decides, too."""
    place = bisect_left(growing, x=True, key=decides)
    return growing[place] if place < len(growing) else None


def _seeds(evidence: Evidence, seeds: int) -> str:
    more = seeds - evidence.num_seeds
    return f"{more} more seed{'s' if more > 1 else ''}"


def _rows(evidence: Evidence, rows: float) -> str:
    return f"{round_up(evidence.num_rows * (rows - 1)):,} more test rows"
