"""What an audit looks for, and what it finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tunesmith.data.personal.detecting import Detector, find_personal_data

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CHECKS = (
    "duplicate",
    "near_duplicate",
    "contradiction",
    "label_error",
    "leak",
    "imbalance",
    "language_mix",
    "encoding_damage",
    "boilerplate",
    "toxic",
    "personal_data",
)
"""Everything that is looked for; ``toxic`` only with a list of words."""


@dataclass(frozen=True, slots=True)
class AuditOptions:
    """What is looked for, and how."""

    checks: tuple[str, ...] = CHECKS
    asked: bool = False
    """Whether the checks were named one by one, so that one that cannot be made is an error."""
    similarity: float = 0.8
    """Least share of n-grams that near duplicates have in common."""
    precision: float = 0.5
    """Least estimated share of wrong labels among the rows that are said to have one."""
    words: tuple[str, ...] = ()
    """Words that no text should have."""
    detector: Detector = find_personal_data
    """What finds personal data."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing found."""

    kind: str
    """One of ``CHECKS``."""
    message: str
    rows: npt.NDArray[np.int64]
    """Numbers of the rows concerned, over all splits; the worst first where there is an order."""
    score: float
    """The figure: a share of rows, a similarity, an accuracy, a ratio; ``measure`` says which."""
    measure: str
    remedy: str
    details: Mapping[str, Any] = field(default_factory=dict)
    """What else is known, JSON-ready: labels suggested, intervals, how a figure was estimated."""
    partners: npt.NDArray[np.int64] | None = None
    """For each row, the one that it repeats or contradicts."""

    @property
    def is_empty(self) -> bool:
        """Whether it concerns no rows by themselves, but the set as a whole."""
        return not len(self.rows)
