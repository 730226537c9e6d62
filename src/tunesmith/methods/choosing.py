"""Which method is likely to do well: what is known beforehand, by published work and others' records, as plain rules.

Nothing here is measured on the data at hand; that is what a contest is for. Every rule says in words where it comes
from, and what it says is a class of quality, not a number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from tunesmith.methods.base import Method
from tunesmith.methods.situation import Situation
from tunesmith.readable import compact, count, percent

Quality = Literal["best", "good", "fair"]
QUALITIES: tuple[Quality, ...] = ("best", "good", "fair")
"""Classes of likely quality: as good as anything that is known, somewhat below, and what a quick look gives."""

FEW_ROWS = 500
"""Rows below which training every weight learns them by heart."""
NOISY = 0.05
"""Share of rows that contradict others from which on labels count as noisy."""
RANKS = (8, 256)
"""The smallest and the largest rank that is proposed."""
SMALL_MODEL, RANK_OF_SMALL_WRITERS = 2_000_000_000, 16
"""A language model below so many weights wants at least this rank."""

SOURCE_OF_CAPACITY = (
    "an adapter learns as well as full fine-tuning while its weights are no fewer than the answers to be learned "
    "(Schulman et al. 2025, LoRA Without Regret)"
)
SOURCE_OF_SMALL = (
    "language models below 2 billion weights lose 5.1% of the loss at rank 4, 2.4% at 16 and 0.5% at 64 against rank "
    "128 (derived from published runs on 100,000 rows)"
)
SOURCE_OF_FEW = "on few rows full fine-tuning learns them by heart: adapters or the head first (the field's practice)"
SOURCE_OF_PLENTY = (
    "where rows are plentiful and clean, training every weight learns most (the field's practice; Biderman et al. "
    "2024, LoRA Learns Less and Forgets Less)"
)
SOURCE_OF_NOISE = "what can learn all rows by heart learns wrong labels too (a rule of thumb, not measured here)"
SOURCE_OF_HEAD = "a head alone sees only what the frozen model tells apart already (a linear probe)"
SOURCE_OF_PART = "what is frozen stays as it was (a rule of thumb, not measured here)"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a method trains of a model."""

    num_weights: int
    """Parameters that are trained."""
    num_outside_head: int
    """Those of them that are no part of the task's own head."""
    num_all: int
    """Parameters of the model."""


@dataclass(frozen=True, slots=True)
class Likely:
    """How well a method is likely to do."""

    quality: Quality
    reasons: tuple[str, ...]
    """Each with its source."""


def likely_quality(method: Method, trained: Trained, situation: Situation) -> Likely:
    """Return how well a method that trains so much is likely to do."""
    if not trained.num_outside_head:
        return _head(situation)
    if method.needs_base:
        return _adapter(method, trained, situation)
    share = trained.num_weights / max(trained.num_all, 1)
    if share < 1 and not method.trains_everything:
        return Likely("good", (f"{percent(share)} of the weights are trained: {SOURCE_OF_PART}",))
    return _whole(situation)


def _head(situation: Situation) -> Likely:
    if situation.num_rows < FEW_ROWS:
        return Likely("good", (f"{count(situation.num_rows)} training rows: {SOURCE_OF_FEW}",))
    return Likely("fair", (f"only the head is trained: {SOURCE_OF_HEAD}",))


def _whole(situation: Situation) -> Likely:
    rows = f"{count(situation.num_rows)} training rows"
    if situation.num_rows < FEW_ROWS:
        return Likely("good", (f"{rows}: {SOURCE_OF_FEW}",))
    if situation.noise > NOISY:
        return Likely("good", (f"{percent(situation.noise)} of the rows contradict others: {SOURCE_OF_NOISE}",))
    return Likely("best", (f"{rows}: {SOURCE_OF_PLENTY}",))


def _adapter(method: Method, trained: Trained, situation: Situation) -> Likely:
    found = []
    room, asked = trained.num_outside_head, situation.num_answers
    what = "tokens of answers" if situation.writes else "labels"
    enough = room >= asked
    relation = "no fewer than" if enough else "fewer than"
    found.append(f"{compact(room)} weights, {relation} the {compact(asked)} {what}: {SOURCE_OF_CAPACITY}")
    rank = getattr(method, "rank", None)
    small = (
        situation.writes and situation.num_weights < SMALL_MODEL and rank is not None and rank < RANK_OF_SMALL_WRITERS
    )
    if small:
        found.append(f"rank {rank}: {SOURCE_OF_SMALL}")
    return Likely("best" if enough and not small else "good", tuple(found))


def wanted_rank(per_rank: int, situation: Situation) -> tuple[int, str]:
    """Return the rank that suffices, a power of two, and why; ``per_rank`` are an adapter's weights at rank 1."""
    least, most = RANKS
    needed = math.ceil(situation.num_answers / max(per_rank, 1))
    reason = SOURCE_OF_CAPACITY
    if situation.writes and situation.num_weights < SMALL_MODEL and needed < RANK_OF_SMALL_WRITERS:
        needed, reason = RANK_OF_SMALL_WRITERS, SOURCE_OF_SMALL
    return min(max(2 ** math.ceil(math.log2(max(needed, 1))), least), most), reason
