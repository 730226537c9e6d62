"""The figures as one SVG: a bar per ratio, and cost over size where it was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, LEFT, RIGHT, BAR, GAP = 820, 200, 90, 18, 8
PLOT_HEIGHT, PLOT_MARGIN = 240, 56
INK, FAINT, GOOD, BAD = "#24292f", "#d0d7de", "#0a7d62", "#b35900"
AXES = {
    "linear-cost-tokens": ("tokens per epoch", "seconds per epoch"),
    "linear-cost-length": ("tokens per row", "seconds per row"),
}


def svg(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the picture; cases without figures are left out."""
    ratios = [record for record in records if record["ratio"] is not None and record["case"] not in AXES]
    curves = [record for record in records if record.get("points")]
    parts: list[str] = []
    height = 20.0
    if ratios:
        height = _bars(parts, ratios, height)
    for record in curves:
        height = _curve(parts, record, height)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" width="{WIDTH}" '
        f'height="{height:.0f}" font-family="system-ui, sans-serif" font-size="12" fill="{INK}">'
    )
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height:.0f}" fill="white"/>', *parts, "</svg>", ""])


def _bars(parts: list[str], records: Sequence[Mapping[str, Any]], top: float) -> float:
    """Draw ratios along a logarithmic axis, 1 marked; return where the next picture starts."""
    values = [value for record in records for value in (record["ratio"], *record["spread"], 1.0)]
    low, high = math.log(min(values) / 1.05), math.log(max(values) * 1.05)
    room = WIDTH - LEFT - RIGHT

    def x(value: float) -> float:
        return LEFT + room * (math.log(value) - low) / (high - low)

    parts.append(f'<text x="20" y="{top:.0f}" font-weight="600">Times better than the peer</text>')
    top += 16
    bottom = top + len(records) * (BAR + GAP)
    for tick in _ticks(math.exp(low), math.exp(high)):
        color = INK if tick == 1 else FAINT
        parts.append(f'<line x1="{x(tick):.1f}" x2="{x(tick):.1f}" y1="{top}" y2="{bottom}" stroke="{color}"/>')
        parts.append(f'<text x="{x(tick):.1f}" y="{bottom + 14}" text-anchor="middle">{tick:g}×</text>')
    for index, record in enumerate(records):
        y, ratio, (least, most) = top + index * (BAR + GAP) + GAP / 2, record["ratio"], record["spread"]
        first, last = sorted((x(1.0), x(ratio)))
        middle = y + BAR / 2
        parts += [
            f'<text x="{LEFT - 8}" y="{middle + 4}" text-anchor="end">{escape(record["case"])}</text>',
            (
                f'<rect x="{first:.1f}" y="{y}" width="{max(1.0, last - first):.1f}" height="{BAR}" rx="2" '
                f'fill="{GOOD if ratio >= 1 else BAD}"><title>{escape(record["peer_name"])}</title></rect>'
            ),
            (
                f'<line x1="{x(least):.1f}" x2="{x(most):.1f}" y1="{middle}" y2="{middle}" stroke="{INK}" '
                'stroke-width="1.5"/>'
            ),
            f'<text x="{max(x(most), last) + 6:.1f}" y="{middle + 4}">{ratio:.2f}×</text>',
        ]
    return bottom + 40


def _curve(parts: list[str], record: Mapping[str, Any], top: float) -> float:
    """Draw measured cost over size in logarithms, with the line of the reference exponent through the last point."""
    points = [(float(x), float(y)) for x, y, *_ in record["points"]]
    (low_x, high_x), (low_y, high_y) = (_range([point[axis] for point in points]) for axis in (0, 1))
    room, height = WIDTH - LEFT - RIGHT, PLOT_HEIGHT - PLOT_MARGIN

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log(x) - math.log(low_x)) / (math.log(high_x) - math.log(low_x))
        up = (math.log(y) - math.log(low_y)) / (math.log(high_y) - math.log(low_y))
        return LEFT + room * across, top + 16 + height * (1 - up)

    label_x, label_y = AXES.get(record["case"], ("size", "seconds"))
    title = f"{record['title']}: {record['tunesmith']:.2f}, reference {record['peer']:.2f}"
    parts.append(f'<text x="20" y="{top:.0f}" font-weight="600">{escape(title)}</text>')
    for tick in _decades(low_y, high_y):
        _, y = place(low_x, tick)
        parts.append(f'<line x1="{LEFT}" x2="{LEFT + room}" y1="{y:.1f}" y2="{y:.1f}" stroke="{FAINT}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g} s</text>')
    for value, _ in points:
        x, y = place(value, low_y)
        parts.append(f'<text x="{x:.1f}" y="{y + 16:.1f}" text-anchor="middle" font-size="10">{_short(value)}</text>')
    parts.append(f'<text x="{LEFT + room}" y="{top + height + 48:.0f}" text-anchor="end">{escape(label_x)}</text>')
    parts.append(f'<text x="20" y="{top + 32:.0f}" fill="{INK}">{escape(label_y)}</text>')
    last_x, last_y = points[-1]
    first_y = last_y * (points[0][0] / last_x) ** record["peer"]
    if first_y >= low_y:
        (x1, y1), (x2, y2) = place(points[0][0], first_y), place(last_x, last_y)
        parts.append(
            f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{BAD}" stroke-dasharray="4 4"/>'
        )
    placed = [place(*point) for point in points]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{GOOD}" stroke-width="2"/>')
    parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{GOOD}"/>' for x, y in placed]
    return top + PLOT_HEIGHT + 30


def _range(values: Sequence[float]) -> tuple[float, float]:
    return min(values) / 1.5, max(values) * 1.5


def _ticks(low: float, high: float) -> list[float]:
    known = (0.01, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
    return [tick for tick in known if low <= tick <= high]


def _decades(low: float, high: float) -> list[float]:
    return [10.0**power for power in range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)]


def _short(value: float) -> str:
    for size, name in ((2**20, "M"), (2**10, "k")):
        if value >= size:
            return f"{value / size:g}{name}"
    return f"{value:g}"
