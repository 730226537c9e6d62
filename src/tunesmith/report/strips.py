"""Small drawings that stand in tables: estimates with their intervals, and the compact confusion map."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from tunesmith.readable import bounds, count, number
from tunesmith.report.charts import Scale, colour_of, nice_domain, nice_ticks, tick_format
from tunesmith.types import Interval


@dataclass(frozen=True, slots=True)
class Whisker:
    """One estimate on a whisker strip."""

    name: str
    estimate: Interval
    colour: int = 0


def whisker_domain(estimates: Iterable[Interval], *, floor: float | None = None) -> tuple[float, float]:
    """Return round ends that hold all intervals with a little air; not below ``floor`` nor, for it, above 1."""
    values = [end for e in estimates for end in (e.low, e.high, e.value) if math.isfinite(end)]
    if not values:
        return 0.0, 1.0
    air = (max(values) - min(values)) * 0.08 or abs(values[0]) * 0.05 or 0.05
    low, high = nice_domain([min(values) - air, max(values) + air], 4)
    if floor is None:
        return low, high
    # The ends of a share stay ends, unless nothing would lie between them.
    low, high = max(low, floor), min(high, 1.0) if max(values) <= 1.0 else high
    return (low, high) if low < high else (floor, max(values[0], 1.0))


def whiskers(lines: Sequence[Whisker], domain: tuple[float, float], *, grid: int = 4) -> Markup:
    """Draw estimates as dots with their intervals on one strip, the first on top of the others."""
    x = Scale(*domain)
    shown = [line for line in lines if math.isfinite(line.estimate.value)]
    said = "; ".join(f"{line.name} {number(line.estimate.value)} {bounds(line.estimate)}".strip() for line in shown)
    parts = [
        Markup('<line class="grid" x1="{0}" x2="{0}" y1="0" y2="100%"/>').format(x.percent(tick))
        for tick in (nice_ticks(*domain, grid) if grid else ())
    ]
    parts.extend(_whisker(line, x) for line in reversed(shown))
    return Markup(
        '<svg class="whiskers" role="img"><title>{}</title><desc>Dot: value; line: interval.</desc>{}</svg>'
    ).format(said or "no value", Markup("").join(parts))


def _whisker(line: Whisker, x: Scale) -> Markup:
    estimate, colour = line.estimate, colour_of(line.colour)
    interval = Markup("")
    if math.isfinite(estimate.low) and math.isfinite(estimate.high):
        interval = Markup('<line class="whisker" stroke="{}" x1="{}" x2="{}" y1="50%" y2="50%"/>').format(
            colour, x.percent(estimate.low), x.percent(estimate.high)
        )
    hollow = " hollow" if line.colour < 0 else ""
    return Markup('{}<circle class="estimate{}" style="--key:{}" cx="{}" cy="50%" r="4.5"/>').format(
        interval, hollow, colour, x.percent(estimate.value)
    )


def whisker_axis(domain: tuple[float, float], *, grid: int = 4) -> Markup:
    """Draw the tick labels that belong to strips drawn with the same ``domain``."""
    x, ticks = Scale(*domain), nice_ticks(*domain, grid)
    text = tick_format(ticks)
    labels = Markup("").join(
        Markup('<text x="{}" y="12" text-anchor="middle">{}</text>').format(x.percent(tick), text(tick))
        for tick in ticks
    )
    return Markup('<svg class="whisker-axis" aria-hidden="true">{}</svg>').format(labels)


def heat_map(matrix: Sequence[Sequence[float]], labels: Sequence[str], *, title: str, description: str) -> Markup:
    """Draw a square matrix without numbers, each row as shares of its sum; pointing at a cell reads it."""
    size = len(matrix)
    cells: list[Markup] = []
    for i, row in enumerate(matrix):
        total = sum(row) or 1.0
        for j, amount in enumerate(row):
            if amount > 0:
                cells.append(
                    Markup(
                        '<rect class="{}" x="{}" y="{}" width="1" height="1" fill-opacity="{:.2f}"><title>{} → {}: '
                        "{}</title></rect>"
                    ).format(
                        "hit" if i == j else "miss",
                        j,
                        i,
                        0.25 + 0.75 * amount / total,
                        labels[i],
                        labels[j],
                        count(amount),
                    )
                )
    return Markup(
        '<svg class="heat-map" role="img" viewBox="0 0 {0} {0}"><title>{1}</title><desc>{2}</desc>'
        '<rect class="ground" width="{0}" height="{0}"/>{3}</svg>'
    ).format(size, title, description, Markup("").join(cells))
