"""A plane for the figures of studies: axes that may be logarithmic, lines and marks, any width.

It stands on the trick of ``tunesmith.report.charts``: what stretches is drawn in a nested drawing, what must not
(marks, text) stands at percentages of the outer one, whose lengths are CSS pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from markupsafe import Markup

from tunesmith.report.charts import Formatter, Point, Scale, colour_of, nice_domain, nice_ticks, thin, tick_format

_CHARACTER_WIDTH = 7.0
_NARROWEST = {"small": 84.0, "slice": 190.0}
"""Least CSS pixels across of drawings of a shape; 200 of others."""
_MOST_MINOR = 60
_SMALLEST = 1e-100
"""Values that a logarithmic axis holds are not smaller, nor larger than its inverse: powers of ten run out."""
SPAN_OF_LOGARITHM = 8.0
"""An axis is logarithmic from this ratio between its largest and smallest value on."""
DURATIONS = (1e-3, 0.01, 0.1, 1, 10, 60, 600, 3600, 36_000, 86_400, 864_000)
"""Round times in seconds, about a factor of ten apart."""
FINE_DURATIONS = (
    *(factor * 10.0**power for power in range(-5, 1) for factor in (1, 2, 5)),
    *(10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 18_000, 36_000, 86_400, 172_800, 432_000, 864_000),
)
"""Round times in seconds where ticks may stand."""


@dataclass(frozen=True, slots=True)
class PlaneAxis:
    """One axis: its ends, its ticks with their texts, and whether places on it are logarithms."""

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    is_log: bool = False
    minor: Sequence[float] = ()
    """Places of short ticks without a text."""
    factor: float = 1.0
    """What values are multiplied by where they are read."""

    def scale(self, *, flip: bool = False) -> Scale:
        return Scale(self.at(self.low), self.at(self.high), flip)

    def at(self, value: float) -> float:
        """Return what stands for ``value`` on the scale."""
        return math.log10(value) if self.is_log else value

    def holds(self, value: float) -> bool:
        """Say whether ``value`` has a place on the axis."""
        return math.isfinite(value) and (value > 0 or not self.is_log)


def linear_axis(
    label: str, values: Iterable[float], show: Formatter | None = None, most: int = 6, *, scale: float = 1.0
) -> PlaneAxis:
    """Return an axis with round ends that holds the finite ``values``; its texts say ``scale`` times these."""
    low, high = nice_domain(values, most)
    ticks = nice_ticks(low, high, most)
    show = show or tick_format([scale * tick for tick in ticks])
    return PlaneAxis(label, low, high, [(tick, show(scale * tick)) for tick in ticks], factor=scale)


def cost_axis(label: str, values: Iterable[float], show: Formatter, round_values: Sequence[float] = ()) -> PlaneAxis:
    """Return an axis for positive ``values``, logarithmic where they span almost a decade or more.

    ``round_values`` are the places where ticks may stand, if those are not 1, 2 and 5 times powers of ten.
    """
    known = [value for value in values if math.isfinite(value)]
    positive = [value for value in known if value > 0]
    if not positive or min(known) <= 0:
        return axis_from_zero(label, known, show, round_values)
    if max(positive) / min(positive) >= SPAN_OF_LOGARITHM:
        return log_axis(label, positive, show, round_values)
    air = (max(positive) - min(positive)) * 0.08 or max(positive) * 0.25
    low, high = max(min(positive) - 2 * air, 0.0), max(positive) + air  # names of the best stand to the left
    return PlaneAxis(label, low, high, _ticks_within(low, high, show, round_values))


def axis_from_zero(
    label: str, values: Iterable[float], show: Formatter, round_values: Sequence[float] = ()
) -> PlaneAxis:
    """Return an axis from 0 that holds ``values``, with ticks a nice step, or one of ``round_values``, apart."""
    high = max((value for value in values if math.isfinite(value) and value > 0), default=1.0) * 1.06
    return PlaneAxis(label, 0.0, high, _ticks_within(0.0, high, show, round_values))


def _ticks_within(low: float, high: float, show: Formatter, round_values: Sequence[float]) -> list[tuple[float, str]]:
    step = next((value for value in round_values if (high - low) / value <= 5), 0.0)
    if not step:
        return [(tick, show(tick)) for tick in nice_ticks(low, high, 5)]
    first, last = math.ceil(low / step), math.floor(high / step)
    return [(step * place, show(step * place)) for place in range(first, last + 1)]


def log_axis(label: str, values: Sequence[float], show: Formatter, round_values: Sequence[float] = ()) -> PlaneAxis:
    """Return a logarithmic axis that holds the positive ``values`` with a little air, and few ticks."""
    low, high = (min(max(end, _SMALLEST), 1 / _SMALLEST) for end in (min(values), max(values)))
    air = max((high / low) ** 0.06, 1.15)
    low, high = low / air, high * air
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    decades = [10.0**power for power in range(first, last + 1)]
    fine = [factor * decade for decade in decades for factor in (1.0, 2.0, 5.0)]
    chosen = [value for value in (round_values or fine) if low <= value <= high]
    if len(chosen) > 5:
        coarse = DURATIONS if round_values else decades
        chosen = [value for value in coarse if low <= value <= high]
    stride = max(1, math.ceil(len(chosen) / 5))
    minor = [factor * decade for decade in decades for factor in range(1, 10) if low <= factor * decade <= high]
    if len(minor) > _MOST_MINOR:
        minor = []
    return PlaneAxis(label, low, high, [(value, show(value)) for value in chosen[::stride]], is_log=True, minor=minor)


@dataclass(frozen=True, slots=True)
class PlaneLine:
    """One line; ``name`` is read out where the pointer is, and empty where it is not."""

    points: Sequence[Point]
    colour: int = 0
    style: Literal["line", "faint", "dashed", "thin"] = "line"
    name: str = ""


@dataclass(frozen=True, slots=True)
class PlaneMark:
    """One mark with what it says."""

    x: float
    y: float
    text: str
    colour: int = 0
    shape: Literal["dot", "hollow", "chosen", "cross"] = "dot"


def draw_plane(
    x_axis: PlaneAxis,
    y_axis: PlaneAxis,
    lines: Sequence[PlaneLine],
    marks: Sequence[PlaneMark] = (),
    *,
    title: str,
    description: str,
    shape: str = "",
    behind: Markup | None = None,
    over: Markup | None = None,
    names_axes: bool = True,
    height: int = 0,
) -> Markup:
    """Draw lines and marks with their axes.

    Args:
        x_axis: The axis across; only where it is linear the script reads lines out.
        y_axis: The axis upwards.
        lines: Drawn in order, the first lowest.
        marks: Drawn over all lines; one that is not finite upwards is a cross at the foot.
        title: What the drawing is, for those who do not see it.
        description: What is to be seen in it, for the same.
        shape: Class of the drawing: how high it is.
        behind: What is drawn below the lines, in units of the plane (0 to 10,000).
        over: What is drawn over all, in pixels and percentages.
        names_axes: Whether the names of the axes stand beside the drawing.
        height: Height in CSS pixels, where it is not that of ``shape``.
    """
    x_axis = replace(x_axis, ticks=fitting_ticks(x_axis, _NARROWEST.get(shape, 200.0)))
    x, y = x_axis.scale(), y_axis.scale(flip=True)
    left = round(max((len(text) for _, text in y_axis.ticks), default=1) * _CHARACTER_WIDTH + 10)
    data = Markup("")
    if any(line.name for line in lines) and not x_axis.is_log and not y_axis.is_log:
        data = Markup(' data-x="{},{}" data-y="{},{}" data-label="{}"').format(
            x.low, x.high, y_axis.factor * y.low, y_axis.factor * y.high, x_axis.label
        )
    return Markup(
        '<div class="chart">{y_name}<div class="plot" style="padding-left:{left}px">'
        '<svg class="drawing {shape}" role="img"{data}{height}><title>{title}</title><desc>{description}</desc>{grid}'
        '<line class="axis" x1="0" x2="100%" y1="100%" y2="100%"/>'
        '<svg viewBox="0 0 10000 10000" preserveAspectRatio="none" width="100%" height="100%">{behind}{lines}</svg>'
        "{marks}{over}</svg></div>{x_name}</div>"
    ).format(
        y_name=Markup('<div class="axis-name">{}</div>').format(y_axis.label) if names_axes and y_axis.label else "",
        left=left,
        shape=shape,
        data=data,
        height=Markup(' style="height:{}px"').format(height) if height else "",
        title=title,
        description=description,
        grid=_grid(x_axis, y_axis, x, y),
        behind=behind or "",
        lines=draw_lines(x_axis, y_axis, lines),
        marks=Markup("").join(_mark(mark, x_axis, y_axis, x, y) for mark in marks),
        over=over or "",
        x_name=Markup('<div class="axis-name x">{}</div>').format(x_axis.label) if names_axes else "",
    )


def fitting_ticks(axis: PlaneAxis, width: float) -> list[tuple[float, str]]:
    """Return every tick, every second, or so on, so that no texts touch where the axis is ``width`` CSS pixels long."""
    scale = axis.scale()
    for stride in range(1, len(axis.ticks) + 1):
        kept = list(axis.ticks[::stride])
        places = [(scale.share(axis.at(tick)) * width, len(text) * _CHARACTER_WIDTH / 2) for tick, text in kept]
        if all(b - y - a - x >= _CHARACTER_WIDTH for (a, x), (b, y) in pairwise(places)):
            return kept
    return []


def draw_lines(x_axis: PlaneAxis, y_axis: PlaneAxis, lines: Sequence[PlaneLine]) -> Markup:
    """Draw lines alone, in units of the plane."""
    x, y = x_axis.scale(), y_axis.scale(flip=True)
    return Markup("").join(_line(line, x_axis, y_axis, x, y) for line in lines)


def _line(line: PlaneLine, x_axis: PlaneAxis, y_axis: PlaneAxis, x: Scale, y: Scale) -> Markup:
    known = [(x_axis.at(a), y_axis.at(b)) for a, b in line.points if x_axis.holds(a) and y_axis.holds(b)]
    points = " ".join(f"{x.unit(a)},{y.unit(b)}" for a, b in thin(known, 120))
    name = Markup(' data-name="{}"').format(line.name) if line.name else ""
    style = "line" if line.style == "line" else f"line {line.style}"
    return Markup('<polyline class="{}" stroke="{}" points="{}"{}/>').format(
        style, colour_of(line.colour), points, name
    )


def _grid(x_axis: PlaneAxis, y_axis: PlaneAxis, x: Scale, y: Scale) -> Markup:
    level = Markup("").join(
        Markup(
            '<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/>'
            '<text x="-8" y="{0}" dy=".33em" text-anchor="end">{1}</text>'
        ).format(y.percent(y_axis.at(tick)), text)
        for tick, text in y_axis.ticks
    )
    upright = Markup("").join(
        Markup(
            '<line class="grid" x1="{0}" x2="{0}" y1="0" y2="100%"/>'
            '<text x="{0}" y="100%" dy="17" text-anchor="middle">{1}</text>'
        ).format(x.percent(x_axis.at(tick)), text)
        for tick, text in x_axis.ticks
    )
    minor = Markup("").join(
        Markup('<svg x="{}" y="100%" class="at"><path class="axis" d="M0 0v-4"/></svg>').format(
            x.percent(x_axis.at(tick))
        )
        for tick in x_axis.minor
    )
    return level + upright + minor


def _mark(mark: PlaneMark, x_axis: PlaneAxis, y_axis: PlaneAxis, x: Scale, y: Scale) -> Markup:
    if not x_axis.holds(mark.x):
        return Markup("")
    across = x.percent(x_axis.at(mark.x))
    is_known = y_axis.holds(mark.y)
    upwards = y.percent(y_axis.at(mark.y)) if is_known else "100%"
    shape = mark.shape if is_known else "cross"
    drawing = {
        "dot": '<circle class="mark" r="4"/>',
        "hollow": '<circle class="mark hollow" r="3.5"/>',
        "chosen": '<circle class="ring" r="8"/><circle class="mark" r="4"/>',
        "cross": '<path class="cross" d="M-4-4L4 4M-4 4L4-4"/>',
    }[shape]
    return Markup('<svg x="{}" y="{}" class="at" style="--key:{}">{}<title>{}</title></svg>').format(
        across,
        upwards,
        colour_of(mark.colour),
        Markup(drawing),  # noqa: S704 -- one of the four above
        mark.text,
    )


def steps_of(points: Sequence[Point]) -> list[Point]:
    """Return the corners of a staircase through ``points``: level to the next place, then up or down."""
    corners: list[Point] = list(points[:1])
    for (_, before), (place, value) in pairwise(points):
        corners += [(place, before), (place, value)]
    return corners
