from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith.report import charts, strips
from tunesmith.types import Interval


@given(low=st.floats(-1e6, 1e6), span=st.floats(1e-6, 1e6), most=st.integers(2, 10))
def test_ticks_are_round_few_and_inside(low: float, span: float, most: int) -> None:
    high = low + span
    ticks = charts.nice_ticks(low, high, most)
    assert len(ticks) <= most + 1
    rounding = span * 1e-6 + abs(low) * 1e-12
    assert all(low - rounding <= tick <= high + rounding for tick in ticks)
    steps = np.diff(ticks)
    if len(steps):
        mantissa = steps[0] / 10.0 ** math.floor(math.log10(steps[0]) + 1e-6)
        assert min(abs(mantissa - round_) for round_ in (1, 2, 5, 10)) < 1e-3
        assert np.allclose(steps, steps[0], rtol=1e-3)


def test_domain_holds_values_and_survives_nothing() -> None:
    assert charts.nice_domain([0.21, 0.83]) == pytest.approx((0.2, 0.9))
    assert charts.nice_domain([]) == (0.0, 1.0)
    assert charts.nice_domain([math.nan]) == (0.0, 1.0)
    low, high = charts.nice_domain([3.0, 3.0])
    assert low < 3 < high


def test_tick_labels_differ_from_each_other() -> None:
    for low, high in ((0, 1), (0.84, 0.86), (0, 4e-4), (0, 2.5e7), (-3, 3), (1e-5, 2e-5)):
        ticks = charts.nice_ticks(low, high)
        labels = list(map(charts.tick_format(ticks), ticks))
        assert len(set(labels)) == len(labels) > 1
    assert charts.tick_format([0, 2e-4, 4e-4])(2e-4) == "2·10⁻⁴"


def test_smooth_keeps_constants_and_bridges_gaps() -> None:
    assert charts.smooth([2.0] * 9, 5) == pytest.approx([2.0] * 9)
    assert charts.smooth([1.0, math.nan, 1.0], 3) == pytest.approx([1.0, 1.0, 1.0])
    assert all(map(math.isnan, charts.smooth([math.nan] * 3, 3)))


def test_thin_keeps_ends_extremes_and_order() -> None:
    values = np.random.default_rng(0).normal(size=5000)
    values[1234], values[4321] = 99.0, -99.0
    points = charts.thin(list(enumerate(values.tolist())), 200)
    assert len(points) <= 201
    assert points[0][0] == 0
    assert points[-1][0] == 4999
    assert {99.0, -99.0} <= {y for _, y in points}
    assert points == sorted(points)


def test_line_chart_places_points_and_escapes() -> None:
    chart = charts.line_chart(
        [charts.Series("<b>", [(0, 0), (10, 1), (5, math.nan)]), charts.Series("other", [], 1)],
        title="<i>",
        description="d",
        x_axis=charts.Axis("step"),
        y_axis=charts.Axis("loss", (0.0, 1.0)),
    )
    assert 'points="0,10000 10000,0"' in chart
    assert "<b>" not in chart
    assert "<i>" not in chart
    assert 'role="img"' in chart
    assert "<title>" in chart
    assert "<desc>" in chart


def test_whiskers_stand_at_their_place() -> None:
    strip = strips.whiskers([strips.Whisker("m", Interval(0.5, 0.25, 0.75))], (0.0, 1.0))
    assert 'x1="25%" x2="75%"' in strip
    assert 'cx="50%"' in strip
    assert "0.500 [0.250, 0.750]" in strip
    assert "nan" not in strips.whiskers([strips.Whisker("m", Interval(0.5, math.nan, math.nan))], (0.0, 1.0))
    low, high = strips.whisker_domain([Interval(0.99, 0.97, 1.0)], floor=0.0)
    assert low < 0.97
    assert high == 1.0


ANY = st.floats(allow_nan=True, allow_infinity=True)
ALIKE = st.sampled_from([0.0, 5e-324, 0.1, 1.0, 1.0000000000000002, 0.9999999999999999, -1.0, 7e15, 1.7e308])


@given(values=st.lists(ANY | ALIKE, max_size=6), fixed=st.none() | st.tuples(ALIKE, ALIKE).map(sorted))
def test_every_chart_of_any_values_can_be_drawn(values: list[float], fixed: list[float] | None) -> None:
    domain = None if fixed is None else (fixed[0], fixed[1])
    axes = {"x_axis": charts.Axis("x"), "y_axis": charts.Axis("y", domain)}
    words = {"title": "t", "description": "d", **axes}
    points = [(value, other) for value in values for other in values[:2]]
    band = [(value, value, other) for value, other in points]
    drawn = [
        charts.line_chart([charts.Series("a", points, band=band)], diagonal=True, **words),
        charts.scatter_chart(points, diagonal=True, **words),
    ]
    finite = sorted(value for value in values if math.isfinite(value))
    drawn.append(charts.histogram(finite, [abs(value) for value in finite[1:]], **words))
    estimates = [Interval(value, *sorted((value, other))) for value, other in points]
    for floor in (None, 0.0):
        ends = strips.whisker_domain(estimates, floor=floor)
        drawn.append(strips.whiskers([strips.Whisker("m", estimate) for estimate in estimates], ends))
        drawn.append(strips.whisker_axis(ends))
    for chart in drawn:
        coordinates = re.findall(r'(?:points|d|x|x1|x2|cx|y|y1|width|height)="([^"]*)"', chart)
        assert not [text for text in coordinates if "nan" in text or "inf" in text]
        percents = [float(text) for text in re.findall(r'="(-?[\d.]+)%"', chart)]
        assert all(0 <= percent <= 100 for percent in percents)


def test_a_perfect_score_rounded_beyond_its_range_has_a_strip() -> None:
    perfect = Interval(1.0, 1.0, 1.0000000000000002)
    ends = strips.whisker_domain([perfect], floor=0.0)
    assert 0 <= ends[0] < ends[1]
    assert 'cx="100%"' in strips.whiskers([strips.Whisker("m", perfect)], (0.0, 1.0))


def test_histogram_and_scatter_stay_inside() -> None:
    bars = charts.histogram(
        [0, 1, 2], [3, 5], title="t", description="d", x_axis=charts.Axis("x"), y_axis=charts.Axis("y")
    )
    assert bars.count('class="bar"') == 2
    cloud = charts.scatter_chart(
        [(0, 0), (1, math.inf), (1, 2)],
        title="t",
        description="d",
        x_axis=charts.Axis("x"),
        y_axis=charts.Axis("y"),
        diagonal=True,
    )
    numbers = [int(n) for n in re.findall(r"M(\d+) (\d+)h0", cloud)[0]]
    assert cloud.count("h0") == 2
    assert all(0 <= n <= 10_000 for n in numbers)
