"""Small records that tables of studies are laid out from, and the strips that stand in them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunesmith.report.charts import Scale, colour_of, nice_domain, nice_ticks, tick_format
from tunesmith.types import Interval

Link = Callable[[str], str]
"""From a run's folder, as it stands in ``study.json``, to the address of its page; empty where there is none."""

_BEYOND = 6.0
"""Ends that are this many times as far out as the middle one are not drawn, but pointed to."""
_NEARLY_BEYOND = 1.5
"""That is, unless they are less than this many times as far out as what is drawn."""
_STRETCH = 1.6
_LEAST_KEPT = 4


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands in a cell, what it is sorted by, and small print."""

    text: str
    sort: float = math.nan
    note: str = ""


@dataclass(frozen=True, slots=True)
class RunLink:
    """A run: its folder below that of the study, and the address of its page if it has one."""

    folder: str
    address: str


@dataclass(frozen=True, slots=True)
class StripAxis:
    """The axis that strips of a table share."""

    low: float
    high: float
    is_cut: bool = False
    """Whether something lies beyond its ends."""

    @property
    def scale(self) -> Scale:
        return Scale(self.low, self.high)

    @property
    def ticks(self) -> list[float]:
        return nice_ticks(self.low, self.high, 4)

    def labels(self, scale: float = 1.0) -> Markup:
        """Draw the tick labels, ``scale`` times the values, which stand above or below the strips."""
        show = tick_format([scale * tick for tick in self.ticks])
        texts = Markup("").join(
            Markup('<text x="{}" y="12" text-anchor="middle">{}</text>').format(
                self.scale.percent(tick), show(scale * tick)
            )
            for tick in self.ticks
        )
        return Markup('<svg class="whisker-axis" aria-hidden="true">{}</svg>').format(texts)


def strip_axis(
    estimates: Sequence[Interval], *, around_zero: bool = False, least: float = 0.0, is_whole: bool = False
) -> StripAxis:
    """Return an axis that holds ``estimates``; ``around_zero`` for differences, at least ``least`` to both sides.

    What is far from all others would leave these no room: it does not stretch the axis, unless that ``is_whole``.
    """
    ends = [end for e in estimates for end in (e.low, e.high, e.value) if math.isfinite(end)]
    if not ends:
        return StripAxis(-least or -1.0, least or 1.0) if around_zero else StripAxis(0.0, 1.0)
    if not around_zero:
        near_ones = estimates if is_whole else near_estimates(estimates) or estimates
        near = [end for e in near_ones for end in (e.low, e.high, e.value) if math.isfinite(end)]
        air = (max(near) - min(near)) * 0.06
        low, high = nice_domain([min(near) - air, max(near) + air], 4)
        return StripAxis(low, high, is_cut=max(ends) > high or min(ends) < low)
    limit = max(_BEYOND * statistics.median(map(abs, ends)), 2.5 * least)
    limit = limit if max(map(abs, ends)) > _NEARLY_BEYOND * limit else math.inf
    near = [min(max(end, -limit), limit) for end in ends]
    low, high = nice_domain([*near, -least * 1.2, least * 1.2], 6)
    return StripAxis(low, high, is_cut=max(ends) > high or min(ends) < low)


def near_estimates(estimates: Sequence[Interval], least: int = _LEAST_KEPT) -> list[Interval]:
    """Return the estimates without those few that lie so far from the others that these would have no room.

    One is left out where the others then have 1.6 times the room, as long as ``least`` of them stay.
    """
    kept = sorted((e for e in estimates if math.isfinite(e.value)), key=lambda e: e.value)
    while len(kept) > least:
        rest = max((kept[1:], kept[:-1]), key=lambda part: _reach(kept) / max(_reach(part), 1e-12))
        if _reach(kept) < _STRETCH * _reach(rest):
            break
        kept = rest
    return kept


def _reach(estimates: Sequence[Interval]) -> float:
    ends = [end for e in estimates for end in (e.low, e.high, e.value) if math.isfinite(end)]
    return max(ends) - min(ends)


def draw_strip(
    axis: StripAxis,
    estimate: Interval,
    *,
    says: str,
    colour: int = 0,
    kind: str = "",
    band: tuple[float, float] | None = None,
    dots: Sequence[tuple[float, str]] = (),
    has_zero: bool = False,
) -> Markup:
    """Draw an estimate with its interval on one line.

    Args:
        axis: The axis that strips of the table share.
        estimate: Value and ends.
        says: The same in words.
        colour: Place in the palette, where ``kind`` does not decide.
        kind: Class of the drawing, for the colour of a verdict.
        band: Ends of a shaded band: the margin.
        dots: Single values with their names, drawn small.
        has_zero: Whether a line stands at 0.
    """
    x = axis.scale
    parts = [
        Markup('<line class="grid" x1="{0}" x2="{0}" y1="0" y2="100%"/>').format(x.percent(tick)) for tick in axis.ticks
    ]
    if band:
        parts.insert(
            0,
            Markup('<rect class="margin" x="{}" width="{:.2f}%" y="0" height="100%"/>').format(
                x.percent(band[0]), 100 * (x.share(band[1]) - x.share(band[0]))
            ),
        )
    if has_zero:
        parts.append(Markup('<line class="zero" x1="{0}" x2="{0}" y1="0" y2="100%"/>').format(x.percent(0.0)))
    if math.isfinite(estimate.low) and math.isfinite(estimate.high):
        parts.append(
            Markup('<line class="whisker" x1="{}" x2="{}" y1="50%" y2="50%"/>').format(
                x.percent(estimate.low), x.percent(estimate.high)
            )
        )
    parts += [
        Markup('<svg x="{}" y="50%" class="at"><circle class="seed" cy="8" r="2.3"/><title>{}</title></svg>').format(
            x.percent(value), name
        )
        for value, name in dots
        if axis.low <= value <= axis.high
    ]
    parts += _value(axis, estimate)
    return Markup('<svg class="whiskers {}" role="img" style="--key:{}"><title>{}</title>{}</svg>').format(
        kind, colour_of(colour), says, Markup("").join(parts)
    )


def _value(axis: StripAxis, estimate: Interval) -> list[Markup]:
    """Draw the value, or an arrow where it lies beyond the axis."""
    if estimate.value < axis.low:
        return [Markup('<path class="beyond" d="M8 5L0 11L8 17Z"/>')]
    if estimate.value > axis.high:
        return [Markup('<svg x="100%" class="at"><path class="beyond" d="M-8 5L0 11L-8 17Z"/></svg>')]
    if not math.isfinite(estimate.value):
        return []
    return [Markup('<circle class="estimate" cx="{}" cy="50%" r="4.5"/>').format(axis.scale.percent(estimate.value))]


def bar(shares: Sequence[tuple[str, float]], says: str) -> Markup:
    """Draw shares of a whole side by side; each with the class that colours it."""
    parts, start = [], 0.0
    for kind, share in shares:
        parts.append(
            Markup('<rect class="{}" x="{:.2f}%" width="{:.2f}%" height="100%"/>').format(
                kind, 100 * start, 100 * share
            )
        )
        start += share
    return Markup('<svg class="bar-strip" role="img"><title>{}</title>{}</svg>').format(says, Markup("").join(parts))
