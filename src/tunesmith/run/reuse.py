"""What runs share: how often something was made, and how many other runs used it without making it again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class _Part:
    made: int = 0
    reused: int = 0
    seconds: float = 0.0
    """Seconds that it would have taken to make it as the first time for every other run that used it."""


@dataclass
class Reuse:
    """An account by kind: rows, tokens, models as loaded, states of frozen layers, baselines."""

    _parts: dict[str, _Part] = field(default_factory=dict)
    _seconds: dict[str, float] = field(default_factory=dict)
    """Seconds that each thing took, by its name."""
    _of_run: set[str] = field(default_factory=set)
    """What the run under way has made or used already."""
    _inner: float = 0.0
    """Seconds that were spent on things that are counted by themselves, within the one being made."""

    def begin_run(self) -> None:
        """Take note that another run begins: alone, it would have to make everything itself, once."""
        self._of_run.clear()

    def make(self, kind: str, name: str, make: Callable[[], T]) -> T:
        """Make something, and take note of what it takes beyond other things made on the way."""
        outside, self._inner = self._inner, 0.0
        began = time.perf_counter()
        try:
            made = make()
        finally:
            whole = time.perf_counter() - began
            own, self._inner = whole - self._inner, outside + whole
        self._of_run.add(name)
        self._part(kind).made += 1
        self._seconds[name] = own
        return made

    def used_again(self, kind: str, name: str) -> None:
        """Take note that what was made before was used; by a run that has it already it is not counted."""
        if name in self._of_run:
            return
        self._of_run.add(name)
        part = self._part(kind)
        part.reused += 1
        part.seconds += self._seconds.get(name, 0.0)

    def record(self) -> dict[str, Any]:
        """Return the account as JSON values, the greatest saving first."""
        parts = [
            {"what": kind, "made": part.made, "reused": part.reused, "seconds": part.seconds}
            for kind, part in sorted(self._parts.items(), key=lambda item: -item[1].seconds)
            if part.reused
        ]
        return {"saved_seconds": sum(part.seconds for part in self._parts.values()), "parts": parts}

    def _part(self, kind: str) -> _Part:
        return self._parts.setdefault(kind, _Part())
