"""Changes of a text as edits: what stands where afterwards is known exactly, so that labels of places stay true."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Edit:
    """Characters ``start`` up to, not including, ``end`` become ``text``."""

    start: int
    end: int
    text: str


Place = tuple[int, int]
"""Characters from the first up to, not including, the second."""


class Way(Protocol):
    """A way to change texts."""

    def __call__(self, text: str, kept: Sequence[Place], random: Random) -> list[Edit]:
        """Return edits in the order of the text, without overlaps, none of which touches a place that is kept."""


def applied(text: str, edits: Iterable[Edit]) -> str:
    """Return the text after the edits, which are in its order and do not overlap."""
    parts: list[str] = []
    last = 0
    for edit in edits:
        parts += [text[last : edit.start], edit.text]
        last = edit.end
    return "".join([*parts, text[last:]])


def moved(place: int, edits: Iterable[Edit]) -> int:
    """Return where a character that no edit changes stands afterwards."""
    return place + sum(len(edit.text) - (edit.end - edit.start) for edit in edits if edit.end <= place)


def is_free(start: int, end: int, kept: Sequence[Place]) -> bool:
    """Say whether a stretch has no character in common with places that are kept."""
    return all(end <= first or start >= last for first, last in kept)


def chosen(candidates: Sequence[Edit], num_words: int, share: float, random: Random) -> list[Edit]:
    """Return as many of some edits as make a share of a text's words, at least one, in the order of the text."""
    number = min(max(1, round(share * num_words)), len(candidates))
    return sorted(random.sample(list(candidates), number), key=lambda edit: edit.start)
