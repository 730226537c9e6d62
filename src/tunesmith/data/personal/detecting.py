"""Finding personal data in texts: all rules, each character claimed once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from tunesmith.data.personal.rules import KINDS, NUMBERS_OF_THINGS, RULES

_LOOK_BACK = 24
"""Characters before a number in which it is said what it is the number of."""


@dataclass(frozen=True, slots=True)
class Found:
    """A stretch of a text that is personal data."""

    start: int
    end: int
    kind: str
    """One of ``KINDS``, or ``place`` where a model looks for those."""


class Detector(Protocol):
    """Whatever finds personal data in a text."""

    def __call__(self, text: str) -> list[Found]: ...


def find_personal_data(text: str) -> list[Found]:
    """Return what the rules find in a text, in its order, without overlaps."""
    found = []
    for rule in RULES:
        if rule.needs is not None and rule.needs.search(text) is None:
            continue
        for match in rule.pattern.finditer(text):
            start, end = match.span(1 if rule.pattern.groups else 0)
            if rule.is_number and NUMBERS_OF_THINGS.search(text[max(0, start - _LOOK_BACK) : start]):
                continue
            if rule.holds(text[start:end]):
                found.append(Found(start, end, rule.kind))
    return without_overlaps(found)


def without_overlaps(found: Iterable[Found]) -> list[Found]:
    """Return stretches in the order of the text; of those that overlap the surer kind's, then the longer one."""
    order = {kind: place for place, kind in enumerate(KINDS)}
    kept: list[Found] = []
    for one in sorted(found, key=lambda one: (order.get(one.kind, len(KINDS)), one.start - one.end, one.start)):
        if all(one.end <= other.start or one.start >= other.end for other in kept):
            kept.append(one)
    return sorted(kept, key=lambda one: one.start)


def both(detectors: Sequence[Detector]) -> Detector:
    """Return a detector that finds what any of several find."""

    def detect(text: str) -> list[Found]:
        return without_overlaps(one for detector in detectors for one in detector(text))

    return detect
