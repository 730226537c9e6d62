"""What one rendering of a chat template may cost: steps, seconds, sizes.

A template is a program that came with a model. Every loop, call, operator and container it makes is
counted against the ``Budget`` of the rendering; what would be too big is refused before it is made.
"""

from __future__ import annotations

import re
import time
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, Sized, ValuesView
from contextvars import ContextVar
from typing import Any

MAX_STEPS = 400_000
"""Loop iterations, calls, comparisons and operators of one rendering; a long conversation takes some thousands."""
MAX_SECONDS = 0.5
"""Processor time of one rendering (a pause of the machine does not count)."""
MAX_CHARACTERS = 1_000_000
"""Length of one text that a template makes, on top of ``GROWTH`` times the length of what it was given."""
GROWTH = 8
MAX_KEPT = 50_000_000
"""Characters of all longer texts that a rendering makes, on top of ``KEPT_GROWTH`` times what it was given."""
KEPT_GROWTH = 500
SHORT = 1024
"""Texts below this length are not counted towards ``MAX_KEPT``."""
MAX_NODES = 300_000
"""Values in one container, those of inner containers counted each time they are reached."""
MAX_NUMBER = 10_000
"""Largest whole number that a filter or a padding method takes as an argument."""
MAX_BITS = 10_000
"""Longest whole number that is calculated with."""
MAX_FORMAT = 10_000
"""Longest format string."""

_CLOCK_EVERY = 8
_NODE_CHARACTERS = 4
_CONTAINERS = (dict, list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)
_PERCENT = re.compile(r"%(?:\([^)]{0,200}\))?[-#0 +]{0,5}(\*|\d*)(?:\.(\*|\d*))?")


class LimitError(Exception):
    """A template asks for more than a rendering may cost."""


class Budget:
    """What is left of one rendering's means."""

    __slots__ = ("_deadline", "_kept", "_longest", "_steps", "_until_clock", "marks", "written")

    def __init__(self, num_characters: int) -> None:
        self._steps = MAX_STEPS
        self._until_clock = _CLOCK_EVERY
        self._deadline = time.thread_time() + MAX_SECONDS
        self._longest = MAX_CHARACTERS + GROWTH * num_characters
        self._kept = MAX_KEPT + KEPT_GROWTH * num_characters
        self.written = 0
        """Characters of the text so far."""
        self.marks: list[tuple[int, str]] = []
        """Where each ``{% generation %}`` block started, and its text."""

    def step(self, count: int = 1) -> None:
        """Count work; raise ``LimitError`` when there was too much of it."""
        self._steps -= count
        if self._steps < 0:
            raise LimitError(f"it takes more than {MAX_STEPS} steps")
        self._until_clock -= 1
        if self._until_clock <= 0:
            self._until_clock = _CLOCK_EVERY
            if time.thread_time() > self._deadline:
                raise LimitError(f"it takes more than {MAX_SECONDS} seconds")

    def text_of(self, length: int) -> None:
        """Allow a text of ``length`` characters to be made."""
        if length > self._longest:
            raise LimitError(f"it makes a text of {length} characters")

    def keep(self, value: Any) -> Any:
        """Count a value that was made and return it."""
        if isinstance(value, str | bytes):
            length = len(value)
            if length >= SHORT:
                self.text_of(length)
                self._kept -= length
                if self._kept < 0:
                    raise LimitError("the texts it makes are too long")
        elif value is None or value is True or value is False:
            pass  # the commonest results, and asking what they are takes long
        elif isinstance(value, _CONTAINERS):
            self.text_of(self.weigh(value))
        return value

    def joined(self, left: str, right: str) -> str:
        """Return ``left + right``, checked and counted: by far the commonest operation."""
        self.step()
        self.text_of(len(left) + len(right))
        text: str = self.keep(left + right)
        return text

    def weigh(self, value: Any) -> int:
        """Return about how long a value is written out; ``LimitError`` for one that would be too long to measure."""
        if isinstance(value, str | bytes):
            return len(value)
        characters = nodes = 0
        stack = [value]
        while stack:
            one = stack.pop()
            nodes += 1
            if isinstance(one, str | bytes):
                characters += len(one)
            elif isinstance(one, Mapping):
                stack += one.keys()
                stack += one.values()
            elif isinstance(one, _CONTAINERS):
                stack += one
            if nodes > MAX_NODES or len(stack) > 4 * MAX_NODES:
                raise LimitError(f"it makes a container of more than {MAX_NODES} values")
        self.step(nodes // 8)
        return characters + _NODE_CHARACTERS * nodes

    def as_text(self, value: Any) -> str:
        """Return ``str(value)``, refused where that would be too long."""
        if type(value) is str:
            return value
        self.text_of(self.weigh(value))
        return str(value)

    def counted(self, value: Any) -> Any:
        """Return a value to be gone through: sized ones are counted now, others item by item."""
        if isinstance(value, Sized):
            self.step(len(value) // 16)
            return value
        return self._counting(value) if isinstance(value, Iterator) else value

    def _counting(self, items: Iterator[Any]) -> Iterator[Any]:
        for item in items:
            self.step()
            yield item

    def number(self, value: Any) -> None:
        """Refuse whole numbers too big to be a width or a count."""
        if isinstance(value, int) and abs(value) > MAX_NUMBER:
            raise LimitError(f"it asks for a width or a number of {'very many' if abs(value) > 10**9 else value}")

    def percent(self, template: str, arguments: Any) -> None:
        """Check ``template % arguments`` before it is made."""
        if len(template) > MAX_FORMAT:
            raise LimitError(f"it has a format of {len(template)} characters")
        size = len(template) + self.weigh(arguments) * max(1, template.count("%"))
        for width, precision in _PERCENT.findall(template):
            if "*" in (width, precision) or len(width) > 4 or len(precision) > 4:
                raise LimitError("it formats with a very big width")
            size += int(width or 0) + int(precision or 0)
        self.text_of(size)

    def operator(self, operator: str, left: Any, right: Any) -> None:
        """Check the arguments of a binary operator before it is used."""
        self.step()
        if isinstance(left, str | bytes) and operator == "%":
            self.percent(str(left), right)
        elif isinstance(left, int) and isinstance(right, int):
            bits = left.bit_length() * max(right, 1) if operator == "**" else left.bit_length() + right.bit_length()
            if bits > MAX_BITS:
                raise LimitError("it calculates with very big numbers")
        elif operator == "*":
            for sequence, times in ((left, right), (right, left)):
                if isinstance(times, int) and isinstance(sequence, Sequence):
                    is_text = isinstance(sequence, str | bytes)
                    self._repeat(len(sequence) * max(times, 0), is_text)
        elif operator == "+" and isinstance(left, Sequence) and isinstance(right, Sequence):
            self._repeat(len(left) + len(right), isinstance(left, str | bytes))

    def _repeat(self, length: int, is_text: bool) -> None:
        if is_text:
            self.text_of(length)
        elif length > MAX_NODES:
            raise LimitError(f"it makes a container of {length} values")

    def method(self, owner: str | bytes, name: str, arguments: Sequence[Any], named: Sequence[Any]) -> tuple[Any, ...]:
        """Check a call of a text's method before it is made; return the unnamed arguments to call it with."""
        given = list(arguments)
        if name in ("ljust", "rjust", "center", "zfill", "expandtabs"):
            for one in (*given, *named):
                self.number(one)
            if name == "expandtabs":
                tab: Any = "\t" if isinstance(owner, str) else b"\t"
                width = next((one for one in (*given, *named) if isinstance(one, int)), 8)
                self.text_of(len(owner) + owner.count(tab) * max(width, 0))
        elif name == "replace" and len(given) > 1 and isinstance(given[1], type(owner)):
            self.replacing(owner, given[0], given[1])
        elif name == "join" and given and isinstance(given[0], Iterable):
            items = given[0] = list(self.counted(given[0]))
            self.joining(owner, items)
        elif name == "translate" and given and isinstance(given[0], Mapping):
            longest = max((len(one) for one in given[0].values() if isinstance(one, str)), default=1)
            self.text_of(len(owner) * max(longest, 1))
        return tuple(given)

    def replacing(self, text: Any, old: Any, new: Any) -> None:
        """Check ``text.replace(old, new)``."""
        if isinstance(old, type(text)):
            self.text_of(len(text) + text.count(old) * len(new))

    def joining(self, separator: Any, items: Sequence[Any]) -> None:
        """Check ``separator.join(items)``."""
        self.text_of(self.weigh(list(items)) + len(separator) * len(items))


_current: ContextVar[Budget] = ContextVar("chat template budget")


def current() -> Budget:
    """Return the budget of the rendering under way."""
    return _current.get()


class Spending:
    """``with Spending(budget)``: count what is done inside against ``budget``."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget

    def __enter__(self) -> Budget:
        self._token = _current.set(self._budget)
        return self._budget

    def __exit__(self, *_: object) -> None:
        _current.reset(self._token)
