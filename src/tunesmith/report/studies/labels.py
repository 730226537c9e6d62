"""Places names beside the dots of a drawing so that none lies on another, at any width from a given one on.

A dot stands at a share of the width, its name at a fixed distance from it. Two boxes that lie beside each other at
the least width, the left one belonging to the dot further left, only move apart as the drawing grows; boxes one above
the other never meet. So what is free at the least width is free at every greater one, and one layout serves for all.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

LINE_HEIGHT = 15.0
"""CSS pixels that a name takes upwards."""
_GAP = 2.0
_CHARACTER, _WIDE_CHARACTER = 6.9, 12.5
_LEADER_STEPS = 6
_PRICE_OF_INTERVAL, _PRICE_OF_LEADER, _PRICE_OF_NAME = 14.0, 60.0, 80.0
"""Pixels of distance that a name rather takes than to cross an interval, a line to a name, or a name with its own."""
_ANGLES = (0.6, 1.0, 1.35, 0.25)
"""Angles of lines to names, in radians from level."""
_PRICE_OF_OPPOSITE = 25.0
"""The same for the place straight across from where a name leans to."""
_DEAREST = 90.0
"""Price above which a name that need not stand is left out."""


@dataclass(frozen=True, slots=True)
class Box:
    """A box that hangs on a place of the drawing: CSS pixels to the left, right, top and bottom edge."""

    x: float
    """Share of the width."""
    left: float
    right: float
    """Edges relative to ``x``; negative is to the left of it."""
    top: float
    bottom: float
    """Edges from the top of the drawing, whose height does not change."""

    def meets(self, other: Box, width: float) -> bool:
        """Say whether two boxes overlap at ``width`` CSS pixels, or may at a greater width."""
        is_level = other.top < self.bottom and self.top < other.bottom
        return is_level and not (self._is_left_of(other, width) or other._is_left_of(self, width))

    def _is_left_of(self, other: Box, width: float) -> bool:
        return self.x <= other.x and self.x * width + self.right <= other.x * width + other.left

    def fits(self, width: float, height: float, beyond: float) -> bool:
        """Say whether the box lies in a drawing, whose right edge it may cross by ``beyond``."""
        across = self.x * width + self.left >= 0 and self.x * width + self.right <= width + beyond
        return across and self.top >= 0 and self.bottom <= height


@dataclass(frozen=True, slots=True)
class Dot:
    """A dot to be named: where it is (share of the width, pixels from the top), its interval and its name."""

    x: float
    y: float
    low: float
    high: float
    """Ends of the interval in pixels from the top, the smaller first."""
    name: str
    must: bool = True
    """Whether the name may not be left out for want of room, other than where there is none at all."""
    leans: tuple[int, int] = (1, 0)
    """Where the name stands best: to the right or left, above (-1), below or level."""
    radius: float = 6.5
    """CSS pixels around the middle that no name may cover."""


@dataclass(frozen=True, slots=True)
class Label:
    """Where the name of dot number ``dot`` begins or ends, in pixels from the dot."""

    dot: int
    dx: float
    dy: float
    anchor: str
    has_leader: bool
    box: Box


def text_width(text: str) -> float:
    """Return CSS pixels that ``text`` takes at 12 pixels a letter, on the safe side."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return wide * _WIDE_CHARACTER + (len(text) - wide) * _CHARACTER


def place_labels(dots: Sequence[Dot], width: float, height: float, *, beyond: float = 14.0) -> list[Label]:
    """Return where names stand; dots are named in their order, and those without room go without.

    Names never lie on dots or on other names. As far as can be they are near their dots, and keep off intervals and
    the lines that lead to names: each place is judged by its distance and by what it crosses.
    """
    around = [Box(dot.x, -dot.radius, dot.radius, dot.y - dot.radius, dot.y + dot.radius) for dot in dots]
    intervals = [Box(dot.x, -2, 2, dot.low, dot.high) for dot in dots]
    names: list[Box] = []
    leaders: list[Box] = []
    placed: list[Label] = []
    for index, dot in enumerate(dots):
        best, least = None, math.inf if dot.must else _DEAREST
        for price, label in _candidates(index, dot):
            if price >= least:  # the cheapest come first
                break
            if not label.box.fits(width, height, beyond) or _met(label.box, (*around, *names), width):
                continue
            line = _leader(label, dot)
            crossed = _PRICE_OF_INTERVAL * _met(label.box, intervals, width)
            crossed += _PRICE_OF_LEADER * _met(label.box, leaders, width)
            crossed += _PRICE_OF_NAME * sum(_met(piece, names, width) for piece in line)
            crossed += _PRICE_OF_LEADER * any(_met(piece, leaders, width) for piece in line)
            if price + crossed < least:
                best, least = label, price + crossed
        if best is not None:
            placed.append(best)
            names.append(best.box)
            leaders += _leader(best, dot)
    return placed


def _met(box: Box, others: Iterable[Box], width: float) -> int:
    """Return how many of ``others`` a box overlaps."""
    return sum(box.meets(other, width) for other in others)


def _candidates(index: int, dot: Dot) -> Iterator[tuple[float, Label]]:
    """Yield places for a name with their price: where it leans to, around the dot, then ever further away."""
    long = text_width(dot.name)
    side, level = dot.leans
    near = ((side, level), (-side, level), (side, 0), (side, -1), (side, 1), (-side, 0), (-side, -1), (-side, 1))
    for price, (right, down) in enumerate(near):
        extra = _PRICE_OF_OPPOSITE if level and (right, down) == (-side, 0) else 0.0
        dx, dy = right * (6.0 if down else dot.radius + 3.5), down * (dot.radius + 8)
        yield price + extra, _label(index, dot, dx, dy, long, has_leader=False)
    for distance in range(20, 260, 6):
        for angle in _ANGLES:
            for down in (-1, 1):
                for right in (1, -1):
                    dx, dy = distance * math.cos(angle), distance * math.sin(angle)
                    yield float(distance), _label(index, dot, right * dx, down * dy, long, has_leader=True)


def _label(index: int, dot: Dot, dx: float, dy: float, long: float, *, has_leader: bool) -> Label:
    is_right = dx > 0
    left, right = (dx - _GAP, dx + long + _GAP) if is_right else (dx - long - _GAP, dx + _GAP)
    middle = dot.y + dy
    box = Box(dot.x, left, right, middle - LINE_HEIGHT / 2, middle + LINE_HEIGHT / 2)
    return Label(index, dx, dy, "start" if is_right else "end", has_leader, box)


def _leader(label: Label, dot: Dot) -> list[Box]:
    """Return small boxes along the line that leads from a dot to its name."""
    if not label.has_leader:
        return []
    boxes = []
    for step in range(1, _LEADER_STEPS + 1):
        part = step / (_LEADER_STEPS + 1)
        x, y = label.dx * part, dot.y + label.dy * part
        reach_x, reach_y = abs(label.dx) / (2 * _LEADER_STEPS) + 1, abs(label.dy) / (2 * _LEADER_STEPS) + 1
        boxes.append(Box(dot.x, x - reach_x, x + reach_x, y - reach_y, y + reach_y))
    return boxes
