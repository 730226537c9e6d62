"""Quality against cost: which methods nobody beats in both, for every cost there is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from tunesmith.report.charts import Point, shorten
from tunesmith.report.studies.costs import COSTS, Cost
from tunesmith.report.studies.labels import Dot, Label, place_labels
from tunesmith.report.studies.plane import (
    SPAN_OF_LOGARITHM,
    PlaneAxis,
    PlaneLine,
    cost_axis,
    draw_plane,
    linear_axis,
    steps_of,
)
from tunesmith.report.studies.records import Contest, Method
from tunesmith.report.studies.table import near_estimates
from tunesmith.report.studies.words import MetricWords
from tunesmith.types import Interval

LOW, HIGH = 420, 560
"""CSS pixels that the drawing is high, the greater where there are many methods."""
_MANY = 12
_LEAST_COSTS = 6
LAYOUTS = {"broad": 840, "wide": 520, "narrow": 216}
"""Least CSS pixels of the drawing for each layout of its names, as in the style sheet."""
_LONGEST_NAME = {"broad": 32, "wide": 26, "narrow": 16}
_AIR = 0.04
_DOT, _SQUARE = '<circle class="mark" r="5"/>', '<rect class="mark" x="-5" y="-5" width="10" height="10" rx="1"/>'
_ARROWS = {
    "down": '<path class="mark" d="M-6-11H6L0-1Z"/>',
    "up": '<path class="mark" d="M-6 11H6L0 1Z"/>',
    "left": '<path class="mark" d="M11-6V6L1 0Z"/>',
    "right": '<path class="mark" d="M-11-6V6L-1 0Z"/>',
}


@dataclass(frozen=True, slots=True)
class ParetoFigure:
    """The picture for one cost."""

    title: str
    chart: Markup
    has_beyond: bool
    """Whether arrows point to methods beyond the edges."""
    front: str
    """Sentence that names the methods on the front."""
    missing: str
    """Sentence that names methods without such a cost or without a result; empty where there are none."""
    unnamed: str
    """The same for those that have no room for their name on a narrow screen."""


def is_dominated(cost: float, quality: float, others: Sequence[tuple[float, float]]) -> bool:
    """Say whether one of ``others`` costs no more and is no worse, and is better in one; quality is to be high."""
    return any(c <= cost and q >= quality and (c < cost or q > quality) for c, q in others)


def pareto_figures(contest: Contest, words: MetricWords) -> list[ParetoFigure]:
    """Return a picture for every cost that two methods with a result have."""
    figures = []
    for cost in COSTS:
        shown = [m for m in contest.methods if math.isfinite(m.mean) and math.isfinite(cost.of(m))]
        if len(shown) > 1:
            figures.append(_Picture.of(contest, shown, cost, words).figure())
    return figures


@dataclass(frozen=True, slots=True)
class _Picture:
    """One picture while it is drawn."""

    contest: Contest
    cost: Cost
    words: MetricWords
    x_axis: PlaneAxis
    y_axis: PlaneAxis
    front: Sequence[Method]
    """The cheapest first."""
    others: Sequence[Method]

    @classmethod
    def of(cls, contest: Contest, shown: Sequence[Method], cost: Cost, words: MetricWords) -> _Picture:
        sign = 1 if words.is_higher_better else -1
        pairs = [(cost.of(method), sign * method.mean) for method in shown]
        front = [m for m, (c, q) in zip(shown, pairs, strict=True) if not is_dominated(c, q, pairs)]
        # The reference, then the best: names have their choice of room in this order.
        others = [method for method in shown if method not in front]
        others.sort(key=lambda method: (method.name != contest.reference, -sign * method.mean))
        near = near_estimates([method.interval for method in shown])
        if any(method.name == contest.reference and method.interval not in near for method in shown):
            near = [method.interval for method in shown]  # the reference belongs into the picture
        ends = [end for one in near for end in (one.value, one.low, one.high) if math.isfinite(end)]
        y_axis = linear_axis(words.axis, ends, scale=words.scale)
        air = (max(ends) - min(ends)) * _AIR
        low, high = (min(ends) - air, max(ends) + air) if air else (y_axis.low, y_axis.high)
        return cls(
            contest,
            cost,
            words,
            x_axis=cost_axis(cost.axis, _near_costs(shown, cost, contest.reference), cost.show_tick, cost.rounds),
            y_axis=replace(y_axis, low=low, high=high, ticks=[t for t in y_axis.ticks if low <= t[0] <= high]),
            front=sorted(front, key=lambda method: (cost.of(method), -sign * method.mean)),
            others=others,
        )

    def figure(self) -> ParetoFigure:
        methods = [*self.front, *self.others]
        dots = {layout: [self._dot(method, layout) for method in methods] for layout in LAYOUTS}
        labels = {layout: place_labels(dots[layout], width, self._height) for layout, width in LAYOUTS.items()}
        named = {label.dot for label in labels["narrow"]}
        drawn = [self._method(method) for method in reversed(methods)]
        drawn += [self._names(layout, labels[layout], dots[layout]) for layout in LAYOUTS]
        chart = draw_plane(
            self.x_axis,
            self.y_axis,
            [PlaneLine(self._corners(), 0, "dashed")],
            title=f"{self.words.title} against {self.cost.axis}",
            description="; ".join(map(self._says, methods)),
            shape="pareto",
            over=Markup("").join(drawn) + self._compass(),
            height=self._height,
        )
        without = [method.shown for method in self.contest.methods if method not in methods]
        unnamed = [method.shown for place, method in enumerate(methods) if place not in named]
        return ParetoFigure(
            title=self.cost.title,
            chart=chart,
            has_beyond=any(map(self._beyond, methods)),
            front=f"On the front, the cheapest first: {', '.join(method.shown for method in self.front)}.",
            missing=f"Without a result or without its {self.cost.axis}: {', '.join(without)}." if without else "",
            unnamed=f"Without room for their names: {', '.join(unnamed)}." if unnamed else "",
        )

    @property
    def _height(self) -> int:
        return HIGH if len(self.front) + len(self.others) > _MANY else LOW

    def _beyond(self, method: Method) -> str:
        """Say beyond which edge a method is that is far from all others: left, right, down, up, or none."""
        cost = self.cost.of(method)
        if cost < self.x_axis.low or cost > self.x_axis.high:
            return "left" if cost < self.x_axis.low else "right"
        if method.mean < self.y_axis.low or method.mean > self.y_axis.high:
            return "down" if method.mean < self.y_axis.low else "up"
        return ""

    def _says(self, method: Method) -> str:
        name = f"{method.shown} (reference)" if method.name == self.contest.reference else method.shown
        return f"{name}: {self.words.interval(method.interval)}, {self.cost.show(self.cost.of(method))}"

    def _corners(self) -> list[Point]:
        corners = steps_of([(self.cost.of(method), method.mean) for method in self.front])
        return [*corners, (self.x_axis.high, self.front[-1].mean)]  # what costs more than the last one is no better

    def _place(self, method: Method) -> tuple[float, float]:
        """Return where a method stands: shares of the width and of the height."""
        x, y = self.x_axis.scale(), self.y_axis.scale(flip=True)
        return x.share(self.x_axis.at(self.cost.of(method))), y.share(method.mean)

    def _dot(self, method: Method, layout: str) -> Dot:
        y = self.y_axis.scale(flip=True)
        across, down = self._place(method)
        ends = [self._height * y.share(end) for end in (method.low, method.high) if math.isfinite(end)] or [
            self._height * down
        ]
        name = shorten(method.shown, _LONGEST_NAME[layout])
        if self._beyond(method):
            name = (
                f"{shorten(method.shown, 16)} {self.words.value(method.mean)}, {self.cost.show(self.cost.of(method))}"
            )
        is_front = method in self.front
        # The front comes from the side of worse methods and goes on to the right: the other corner is free.
        corner = (-1, -1 if self.words.is_higher_better else 1)
        must = is_front or layout != "narrow" or method.name == self.contest.reference
        leans, radius = corner if is_front else (1, 0), 12.0 if self._beyond(method) else 6.5
        return Dot(across, self._height * down, min(ends), max(ends), name, must, leans, radius)

    def _method(self, method: Method) -> Markup:
        y = self.y_axis.scale(flip=True)
        across, down = (f"{100 * share:.2f}%" for share in self._place(method))
        mark = _ARROWS.get(self._beyond(method)) or (_SQUARE if method.name == self.contest.reference else _DOT)
        whisker = Markup("")
        if math.isfinite(method.low) and math.isfinite(method.high) and not self._beyond(method):
            whisker = Markup('<line class="whisker" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
                across, y.percent(method.low), y.percent(method.high)
            )
        return Markup('<g class="method{}">{}<svg x="{}" y="{}" class="at">{}<title>{}</title></svg></g>').format(
            "" if method in self.front else " dimmed",
            whisker,
            across,
            down,
            Markup(mark),  # noqa: S704 -- one of ours
            self._says(method),
        )

    def _names(self, layout: str, labels: Sequence[Label], dots: Sequence[Dot]) -> Markup:
        texts = [
            Markup(
                '<svg x="{:.2f}%" y="{:.1f}" class="at{}">{}<text x="{:.1f}" y="{:.1f}" dy=".33em" '
                'text-anchor="{}">{}</text></svg>'
            ).format(
                100 * dots[label.dot].x,
                dots[label.dot].y,
                "" if label.dot < len(self.front) else " dimmed",
                _leader(label) if label.has_leader else "",
                label.dx,
                label.dy,
                label.anchor,
                dots[label.dot].name,
            )
            for label in labels
        ]
        return Markup('<g class="names {}">{}</g>').format(layout, Markup("").join(texts))

    def _compass(self) -> Markup:
        """Say in which corner the better methods are."""
        if self.words.is_higher_better:
            return Markup('<text class="corner" x="4" y="2" dy=".8em">↖ better</text>')
        return Markup('<text class="corner" x="4" y="100%" dy="-8">↙ better</text>')


def _near_costs(shown: Sequence[Method], cost: Cost, reference: str) -> list[float]:
    """Return the costs without those that are so far from all others, in ratio, that these would have no room."""
    costs = [cost.of(method) for method in shown]
    if min(costs) <= 0 or max(costs) / min(costs) < SPAN_OF_LOGARITHM:
        return costs
    near = near_estimates([Interval(math.log(c), math.log(c), math.log(c)) for c in costs], _LEAST_COSTS)
    low, high = min(e.value for e in near), max(e.value for e in near)
    kept = [one for one in costs if low <= math.log(one) <= high]
    is_whole = any(method.name == reference and cost.of(method) not in kept for method in shown)
    return costs if is_whole else kept


def _leader(label: Label) -> Markup:
    """Draw the line from the edge of a dot to its name."""
    start = 7 / math.hypot(label.dx, label.dy)
    return Markup('<line class="leader" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(
        label.dx * start, label.dy * start, label.dx - math.copysign(2, label.dx), label.dy
    )
