"""A question as those see it who judge an answer to it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked in a row, as rewards see it."""

    prompt: str
    """A text; a transcript where the conversation has several turns."""
    messages: Sequence[Mapping[str, Any]]
    reference: str | None
    """The right answer, where the row has one."""
    row: Mapping[str, Any]
    """The cells of the user's file, by column."""
    place: str
    """Where the row stands in it."""

    def to_json(self) -> str:
        """Return it as ``from_json`` reads it."""
        fields = ("prompt", "messages", "reference", "row", "place")
        return json.dumps({name: getattr(self, name) for name in fields}, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return what ``to_json`` wrote."""
        return cls(**json.loads(text))
