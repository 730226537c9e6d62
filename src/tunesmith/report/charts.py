"""Charts as inline SVG that fit any width without their text being scaled.

The trick: the outer ``<svg>`` has no view box, so its lengths are CSS pixels and its
percentages follow the page; ticks and labels stand there. Curves stand in a nested
``<svg viewBox="0 0 10000 10000" preserveAspectRatio="none">``, which stretches, with
``vector-effect: non-scaling-stroke`` keeping every line its width. Dots are lines of
length 0 with round caps. Colours are CSS variables of the page (``--series-0`` ...), so
that one drawing suits light, dark and print.

Functions return ``Markup``: every text from outside is escaped here.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from markupsafe import Markup

from tunesmith.readable import count, number

Point = tuple[float, float]
Formatter = Callable[[float], str]

NUM_COLOURS = 6
"""Length of the page's palette (``--series-0`` ... ``--series-5``)."""

_UNITS = 10_000
_NEARLY_EQUAL = 1e-9
"""Values that differ by less than this part of their size are drawn as equal: there is no axis between them."""
_LARGEST = 1e300
"""Values beyond are drawn as this one, so that differences of values stay finite."""
_CHARACTER_WIDTH = 7.0
"""CSS pixels of one digit of a tick label, on the safe side."""


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Return at most ``most`` + 1 round numbers (1, 2 or 5 times a power of ten) within ``[low, high]``."""
    if not (math.isfinite(low) and math.isfinite(high)) or not _differ(low, high):
        return [low] if math.isfinite(low) else []
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1.0, 2.0, 5.0, 10.0) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    decimals = max(12, 3 - math.floor(math.log10(step)))
    return [round(index * step, decimals) + 0.0 for index in range(first, last + 1)]


def _differ(low: float, high: float) -> bool:
    """Say whether ``high`` is so far above ``low`` that an axis can lie between them."""
    return high - low > max(_NEARLY_EQUAL * max(abs(low), abs(high)), sys.float_info.min)


def _apart(low: float, high: float) -> tuple[float, float]:
    """Return ends that an axis can lie between: those given, or places around them where they are nearly equal."""
    if _differ(low, high):
        return low, high
    spread = max(abs(low), abs(high)) * 0.1
    spread = spread if _differ(-spread, spread) else 0.5
    return low - spread, high + spread


def nice_domain(values: Iterable[float], most: int = 5) -> tuple[float, float]:
    """Return round ends that hold all finite ``values``; (0, 1) when there are none."""
    finite = [min(max(value, -_LARGEST), _LARGEST) for value in values if math.isfinite(value)]
    if not finite:
        return 0.0, 1.0
    low, high = _apart(min(finite), max(finite))
    ticks = nice_ticks(low, high, most + 3)
    step = ticks[1] - ticks[0] if len(ticks) > 1 else high - low
    return math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step


def tick_format(ticks: Sequence[float]) -> Formatter:
    """Return a formatter that shows all ``ticks`` with the same, least number of decimals."""
    largest = max(map(abs, ticks), default=0.0)
    largest = largest if largest >= sys.float_info.min else 0.0  # below, powers of ten run out
    step = min((b - a for a, b in pairwise(ticks)), default=largest) or 1.0
    if 0 < largest < 0.001 or largest >= 1e7:
        exponent = math.floor(math.log10(largest) + 1e-9)
        superscript = str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        digits = max(0, exponent - math.floor(math.log10(step) + 1e-9))
        return lambda value: "0" if value == 0 else f"{number(value / 10.0**exponent, decimals=digits)}·10{superscript}"
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    return lambda value: number(value, decimals=decimals)


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Return a centred moving average, triangular weights, that ignores what is not finite."""
    array = np.asarray(values, dtype=np.float64)
    half = max(1, window // 2)
    kernel = np.concatenate([np.arange(1, half + 2), np.arange(half, 0, -1)]).astype(np.float64)
    known = np.isfinite(array)
    total = np.convolve(np.where(known, array, 0.0), kernel, mode="full")[half : half + len(array)]
    weight = np.convolve(known.astype(np.float64), kernel, mode="full")[half : half + len(array)]
    with np.errstate(invalid="ignore", divide="ignore"):
        return [float(value) for value in np.where(weight > 0, total / weight, np.nan)]


def thin(points: Sequence[Point], most: int = 400) -> list[Point]:
    """Return finite points, and no more than ``most`` of them: each stretch keeps its lowest and highest."""
    finite = [(float(x), float(y)) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if len(finite) <= most:
        return finite
    kept: list[Point] = [finite[0]]
    for part in np.array_split(np.arange(1, len(finite) - 1), max(1, (most - 2) // 2)):
        ends = {min(part, key=lambda i: finite[i][1]), max(part, key=lambda i: finite[i][1])}
        kept.extend(finite[i] for i in sorted(ends))
    kept.append(finite[-1])
    return kept


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart."""

    name: str
    points: Sequence[Point]
    colour: int = 0
    """Index in the palette; negative draws in the muted colour of context."""
    style: Literal["line", "faint", "dots", "line and dots", "dashed"] = "line"
    band: Sequence[tuple[float, float, float]] = ()
    """Confidence band: x, low, high."""
    in_legend: bool = True
    readout: bool = True
    """Whether the hover read-out names its value."""


@dataclass(frozen=True, slots=True)
class Axis:
    """One axis: what it shows and, when fixed, from where to where."""

    label: str
    domain: tuple[float, float] | None = None
    ticks: int = 5


@dataclass(frozen=True, slots=True)
class Scale:
    """Values of an axis as places on it."""

    low: float
    high: float
    flip: bool = False

    def share(self, value: float) -> float:
        """Return the place of ``value`` along the axis: 0 to 1 from left or top, outliers at the ends."""
        low, high = _apart(self.low, self.high)
        place = (min(max(value, low), high) - low) / (high - low)
        place = 1 - place if self.flip else place
        return min(max(place, 0.0), 1.0)

    def unit(self, value: float) -> int:
        return round(self.share(value) * _UNITS)

    def percent(self, value: float) -> str:
        return f"{self.share(value) * 100:.2f}".rstrip("0").rstrip(".") + "%"


def colour_of(index: int) -> str:
    """Return the CSS colour of a place in the palette; negative is the muted colour of context."""
    return "var(--muted-line)" if index < 0 else f"var(--series-{index % NUM_COLOURS})"


def _path(points: Iterable[Point], x: Scale, y: Scale) -> str:
    return " ".join(f"{x.unit(a)},{y.unit(b)}" for a, b in points)


def _dots(points: Iterable[Point], x: Scale, y: Scale) -> str:
    return "".join(f"M{x.unit(a)} {y.unit(b)}h0" for a, b in points)


def _draw(series: Series, x: Scale, y: Scale) -> Markup:
    points = thin(series.points)
    colour = colour_of(series.colour)
    parts: list[Markup] = []
    if series.band:
        outline = [(a, high) for a, _, high in series.band] + [(a, low) for a, low, _ in reversed(series.band)]
        parts.append(Markup('<polygon class="band" fill="{}" points="{}"/>').format(colour, _path(outline, x, y)))
    if series.style != "dots":
        kind = {"faint": "line faint", "dashed": "line dashed"}.get(series.style, "line")
        hover = Markup(' data-name="{}"').format(series.name) if series.readout else ""
        parts.append(
            Markup('<polyline class="{}" stroke="{}" points="{}"{}/>').format(kind, colour, _path(points, x, y), hover)
        )
    if "dots" in series.style:
        parts.append(Markup('<path class="dots" stroke="{}" d="{}"/>').format(colour, _dots(points, x, y)))
    return Markup("").join(parts)


def _legend(series: Sequence[Series]) -> Markup:
    shown = [line for line in series if line.in_legend]
    if len(shown) < 2:
        return Markup("")
    items = Markup("").join(
        Markup('<li><span class="key {}" style="--key:{}"></span><bdi>{}</bdi></li>').format(
            line.style.replace(" and ", "-"), colour_of(line.colour), line.name
        )
        for line in shown
    )
    return Markup('<ul class="legend">{}</ul>').format(items)


def _frame(
    inner: Markup,
    *,
    title: str,
    description: str,
    x_axis: Axis,
    y_axis: Axis,
    x: Scale,
    y: Scale,
    legend: Markup | None = None,
    shape: str = "",
    hover: bool = False,
) -> Markup:
    """Put grid, ticks and labels around what is drawn."""
    x_ticks, y_ticks = nice_ticks(x.low, x.high, x_axis.ticks), nice_ticks(y.low, y.high, y_axis.ticks)
    x_text, y_text = tick_format(x_ticks), tick_format(y_ticks)
    left = round(max((len(y_text(tick)) for tick in y_ticks), default=1) * _CHARACTER_WIDTH + 10)
    grid = Markup("").join(
        [
            Markup(
                '<line class="grid" x1="0" x2="100%" y1="{0}" y2="{0}"/><text x="-8" y="{0}" dy=".33em" '
                'text-anchor="end">{1}</text>'
            ).format(y.percent(tick), y_text(tick))
            for tick in y_ticks
        ]
        + [
            Markup('<text x="{}" y="100%" dy="17" text-anchor="middle">{}</text>').format(x.percent(tick), x_text(tick))
            for tick in x_ticks
        ]
    )
    data = Markup(' data-x="{},{}" data-y="{},{}" data-label="{}"').format(x.low, x.high, y.low, y.high, x_axis.label)
    return Markup(
        '<div class="chart">{legend}{y_name}'
        '<div class="plot" style="padding-left:{left}px"><svg class="drawing {shape}" role="img"{data}>'
        "<title>{title}</title><desc>{description}</desc>{grid}"
        '<line class="axis" x1="0" x2="100%" y1="100%" y2="100%"/>'
        '<svg viewBox="0 0 10000 10000" preserveAspectRatio="none" width="100%" height="100%">{inner}</svg>'
        '</svg></div><div class="axis-name x">{x_name}</div></div>'
    ).format(
        legend=legend or "",
        y_name=Markup('<div class="axis-name">{}</div>').format(y_axis.label) if y_axis.label else "",
        left=left,
        shape=shape,
        data=data if hover else "",
        title=title,
        description=description,
        grid=grid,
        inner=inner,
        x_name=x_axis.label,
    )


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    description: str,
    x_axis: Axis,
    y_axis: Axis,
    diagonal: bool = False,
    shape: Literal["", "square", "low", "tall"] = "",
) -> Markup:
    """Draw lines with axes, legend (from two lines on) and hover read-out; ``diagonal`` adds y = x."""
    points = [point for line in series for point in line.points]
    banded = [value for line in series for _, low, high in line.band for value in (low, high)]
    x = Scale(*(x_axis.domain or _tight([a for a, b in points if math.isfinite(b)])))
    y = Scale(*(y_axis.domain or nice_domain([b for _, b in points] + banded, y_axis.ticks)), flip=True)
    parts = [_draw(line, x, y) for line in series]
    if diagonal:
        low, high = max(x.low, y.low), min(x.high, y.high)
        parts.insert(
            0, Markup('<polyline class="line reference" points="{}"/>').format(_path([(low, low), (high, high)], x, y))
        )
    return _frame(
        Markup("").join(parts),
        title=title,
        description=description,
        x_axis=x_axis,
        y_axis=y_axis,
        x=x,
        y=y,
        legend=_legend(series),
        shape=shape,
        hover=True,
    )


def _tight(values: Sequence[float]) -> tuple[float, float]:
    finite = [min(max(value, -_LARGEST), _LARGEST) for value in values if math.isfinite(value)]
    return _apart(min(finite), max(finite)) if finite else (0.0, 1.0)


def scatter_chart(
    points: Sequence[Point],
    *,
    title: str,
    description: str,
    x_axis: Axis,
    y_axis: Axis,
    diagonal: bool = False,
) -> Markup:
    """Draw a cloud of points; with ``diagonal`` both axes have the same ends and y = x is drawn."""
    finite = [(a, b) for a, b in points if math.isfinite(a) and math.isfinite(b)]
    x_domain = x_axis.domain or nice_domain([a for a, _ in finite])
    y_domain = y_axis.domain or nice_domain([b for _, b in finite])
    if diagonal:
        x_domain = y_domain = (min(x_domain[0], y_domain[0]), max(x_domain[1], y_domain[1]))
    x, y = Scale(*x_domain), Scale(*y_domain, flip=True)
    line = _path([(x.low, x.low), (x.high, x.high)], x, y) if diagonal else ""
    inner = Markup('<path class="dots cloud" stroke="var(--series-0)" d="{}"/>{}').format(
        _dots(finite, x, y), Markup('<polyline class="line reference" points="{}"/>').format(line) if line else ""
    )
    return _frame(inner, title=title, description=description, x_axis=x_axis, y_axis=y_axis, x=x, y=y, shape="square")


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    title: str,
    description: str,
    x_axis: Axis,
    y_axis: Axis,
    shape: Literal["", "square", "low"] = "",
    colour: int = 0,
) -> Markup:
    """Draw bars from ``edges[i]`` to ``edges[i + 1]``; pointing at one reads its count."""
    bins = list(zip(edges, edges[1:], counts, strict=False))
    x = Scale(*(x_axis.domain or _tight(list(edges))))
    y = Scale(*(y_axis.domain or (0.0, nice_domain([0.0, *counts], y_axis.ticks)[1])), flip=True)
    step = tick_format(nice_ticks(x.low, x.high, 20))
    bars = Markup("").join(
        Markup(
            '<rect class="bar" fill="{}" x="{}" y="{}" width="{}" height="{}"><title>{} to {}: {}</title></rect>'
        ).format(
            colour_of(colour),
            x.unit(low),
            y.unit(amount),
            max(1, round((x.unit(high) - x.unit(low)) * 0.95)),
            _UNITS - y.unit(amount),
            step(low),
            step(high),
            count(amount),
        )
        for low, high, amount in bins
        if amount > 0
    )
    return _frame(bars, title=title, description=description, x_axis=x_axis, y_axis=y_axis, x=x, y=y, shape=shape)


def shorten(text: str, most: int) -> str:
    """Return ``text`` in at most ``most`` characters, the last one an ellipsis when it was longer."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
