"""The figures of studies by themselves: names that never overlap, fronts, axes, strips, curves."""

from __future__ import annotations

import html
import itertools
import math
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith import readable
from tunesmith.report import write_study_report
from tunesmith.report.studies import labels, learning, pareto, plane, table, tuning, words
from tunesmith.report.studies.records import Contest, LearningCurve, Search, TuningTrial
from tunesmith.report.studies.search import running_best, show_value
from tunesmith.types import Interval

studies = SimpleNamespace(**runpy.run_path(str(Path(__file__).with_name("studies.py"))))
WIDTHS = {"broad": (840, 1040), "wide": (520, 640, 839), "narrow": (216, 260, 519)}
"""Widths of the drawing at which each layout of names is seen."""
NAME = re.compile(
    r'<svg x="([\d.]+)%" y="([\d.]+)" class="at[^"]*">(?:<line[^>]*>)?<text x="([-\d.]+)" y="([-\d.]+)" dy=".33em" '
    r'text-anchor="(start|end)">([^<]*)</text>'
)


def boxes_of(drawing: str, layout: str, width: float) -> list[tuple[str, float, float, float, float]]:
    """Return name, left, right, top and bottom of every name in a drawing of that width."""
    found = []
    for x, y, dx, dy, anchor, escaped in NAME.findall(
        drawing.partition(f'<g class="names {layout}">')[2].partition("</g>")[0]
    ):
        name = html.unescape(escaped)
        at, long = float(x) / 100 * width + float(dx), labels.text_width(name)
        left = at if anchor == "start" else at - long
        middle = float(y) + float(dy)
        found.append((name, left, left + long, middle - 6, middle + 6))
    return found


@pytest.mark.parametrize("kind", ["crowded", "chat", "three", "hostile", "failed"])
def test_names_never_overlap(tmp_path: Path, kind: str) -> None:
    page = write_study_report(studies.write_study(tmp_path, studies.KINDS[kind]())).read_text(encoding="utf-8")
    drawings = page.partition('<section id="pareto">')[2].partition("</section>")[0].split('<div class="choice">')[1:]
    assert len(drawings) == 5
    for drawing, (layout, widths) in itertools.product(drawings, WIDTHS.items()):
        number = drawing.count('<g class="method')
        for width in widths:
            boxes = boxes_of(drawing, layout, width)
            assert len(boxes) == number if layout != "narrow" else len(boxes) >= number / 2
            for one, other in itertools.combinations(boxes, 2):
                beside = one[2] <= other[1] or other[2] <= one[1]
                assert beside or one[4] <= other[3] or other[4] <= one[3], (layout, width, one, other)
            for name, left, right, top, bottom in boxes:
                assert left >= -1, name
                assert right <= width + 16, name
                assert top >= -3, name
                assert bottom <= pareto.HIGH, name


DOTS = st.lists(
    st.builds(
        lambda x, y, name: labels.Dot(x, y, y - 20, y + 20, name, must=len(name) % 2 == 0),
        st.floats(0, 1),
        st.floats(0, 400),
        st.text("abc 方", min_size=1, max_size=20),
    ),
    max_size=12,
)


@given(dots=DOTS, wider=st.floats(1, 5))
def test_what_is_free_stays_free_on_wider_drawings(dots: list[labels.Dot], wider: float) -> None:
    placed = labels.place_labels(dots, 300, 400)
    boxes = [label.box for label in placed]
    around = [labels.Box(dot.x, -5, 5, dot.y - 5, dot.y + 5) for dot in dots]
    for one, other in [*itertools.combinations(boxes, 2), *itertools.product(boxes, around)]:
        across = (one.x * 300 * wider + one.left, one.x * 300 * wider + one.right)
        others = (other.x * 300 * wider + other.left, other.x * 300 * wider + other.right)
        beside = across[1] <= others[0] + 1e-6 or others[1] <= across[0] + 1e-6
        assert beside or one.bottom <= other.top or other.bottom <= one.top


def test_front() -> None:
    pairs = [(1.0, 0.7), (2.0, 0.8), (2.0, 0.8), (3.0, 0.75), (4.0, 0.9)]
    assert [pareto.is_dominated(*pair, pairs) for pair in pairs] == [False, False, False, True, False]
    assert plane.steps_of([(1, 7), (2, 8), (4, 9)]) == [(1, 7), (2, 7), (2, 8), (4, 8), (4, 9)]


def test_the_front_of_a_metric_that_is_to_be_low(tmp_path: Path) -> None:
    study = studies.contest(["full", "lora", "ia3"], 2, metric="perplexity", language=True)
    for method, (mean, seconds) in zip(study["methods"], ((3.0, 100), (3.2, 50), (3.4, 60)), strict=True):
        method |= {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "seconds": seconds}
    page = write_study_report(studies.write_study(tmp_path, study)).read_text(encoding="utf-8")
    assert "On the front, the cheapest first: LoRA, Full fine-tuning." in page


def test_axes_are_logarithmic_where_values_span_decades() -> None:
    times = plane.cost_axis("time", [1.2, 40, 131], words.short_duration, plane.FINE_DURATIONS)
    assert times.is_log
    assert [text for _, text in times.ticks] == ["1 s", "10 s", "1 min"]
    near = plane.cost_axis("time", [40, 131], words.short_duration, plane.FINE_DURATIONS)
    assert not near.is_log
    assert 20 < near.low < 40 < 131 < near.high
    assert [text for _, text in near.ticks] == ["30 s", "1 min", "1.5 min", "2 min"]
    assert not plane.cost_axis("parameters", [0, 10, 1e6], str).is_log
    assert not plane.cost_axis("nothing", [math.nan], str).is_log


@given(low=st.floats(1e-9, 1e9), span=st.floats(1, 1e12))
def test_logarithmic_axes_hold_their_values(low: float, span: float) -> None:
    axis = plane.log_axis("x", [low, low * span], words.rate)
    assert axis.low < low <= low * span < axis.high
    assert len(axis.ticks) <= 6
    assert all(axis.low <= tick <= axis.high for tick, _ in axis.ticks)
    texts = plane.fitting_ticks(axis, 200)
    places = [(axis.scale().share(axis.at(tick)) * 200, len(text) * 7 / 2) for tick, text in texts]
    assert all(b - y >= a + x for (a, x), (b, y) in itertools.pairwise(places))


def test_strips_make_room_for_what_is_near() -> None:
    close = [Interval(0.85 + i / 500, 0.84 + i / 500, 0.86 + i / 500) for i in range(5)]
    axis = table.strip_axis([*close, Interval(0.5, 0.49, 0.51)])
    assert axis.is_cut
    assert axis.low > 0.8
    assert "beyond" in table.draw_strip(axis, Interval(0.5, 0.49, 0.51), says="far")
    assert not table.strip_axis([*close[:2], Interval(0.5, 0.49, 0.51)]).is_cut, "too few to leave one out"
    assert not table.strip_axis([*close, Interval(0.5, 0.49, 0.51)], is_whole=True).is_cut
    differences = table.strip_axis([Interval(0.1, -1, 1), Interval(-50, -51, -49)] * 3, around_zero=True, least=1)
    assert differences.low <= -1.2
    assert differences.high >= 1.2
    assert table.strip_axis([], around_zero=True, least=1).low == -1


def test_rates_are_written_as_they_are_typed() -> None:
    rates = (5e-4, 1.7e-3, 2e-5, 0.1, 1e-10, 0, math.nan)
    assert [words.rate(rate) for rate in rates] == ["5e-4", "1.7e-3", "2e-5", "0.1", "1e-10", "0", "–"]
    assert [show_value(value) for value in (1e-4, 2.5e-5, 0.25, 3, True, None, "a" * 99)] == [
        *("1e-4", "2.5e-5", "0.25", "3", "True", "none"),
        "a" * 39 + "…",
    ]
    shown = [readable.latency(seconds) for seconds in (0.0112, 5e-5, 1.5, math.nan)]
    assert shown == ["11.2 ms", "50 µs", "1.50 s", "–"]


def test_margins_and_gains_are_in_the_unit_of_the_metric() -> None:
    share = words.metric_words("accuracy", [0.8])
    assert (share.margin(0.01), share.margin(0.005)) == ("1 point", "0.5 points")
    assert share.signed_bounds(share.gain(Interval(0.01, -0.02, 0.04))) == "[−2.0, +4.0]"
    loss = words.metric_words("log_loss", [0.3])
    gain = loss.gain(Interval(-0.1, -0.3, 0.1))
    assert (gain.value, gain.low, gain.high) == (0.1, -0.1, 0.3)
    assert words.metric_words("bleu", [31.2]).unit == "points"
    assert words.metric_words("my_score", [1234.0]).value(1234.0) == "1,234"
    assert (
        words.metric_words("my_score", [0.5], is_share=True, higher_is_better=False).gain(Interval(0.1, 0, 0)).value < 0
    )


def test_the_mean_of_curves_goes_as_far_as_all_do() -> None:
    curves = [
        LearningCurve(method="a", seed=0, points=((1, 2.0, 0.5), (2, 4.0, 0.7), (3, 6.0, 0.9))),
        LearningCurve(method="a", seed=1, points=((1, 4.0, 0.7), (2, 8.0, 0.9), (3, 12.0, math.nan))),
    ]
    assert learning.mean_curve(curves, by_time=False) == [(1, pytest.approx(0.6)), (2, pytest.approx(0.8))]
    assert [place for place, _ in learning.mean_curve(curves, by_time=True)] == [3.0, 6.0]


@pytest.mark.parametrize(("higher", "best"), [(True, [1.0, 1.0, 3.0]), (False, [1.0, 0.5, 0.5])])
def test_running_best_passes_over_what_has_no_end(higher: bool, best: list[float]) -> None:
    values = [("done", 1.0), ("failed", None), ("pruned", 9.0), ("done", 0.5), ("running", -9.0), ("done", 3.0)]
    trials = [{"number": i, "state": state, "value": value} for i, (state, value) in enumerate(values)]
    search = Search.model_validate({"kind": "search", "trials": trials})
    assert running_best(search, is_higher_better=higher) == list(zip([0, 3, 5], best, strict=True))


def test_a_rate_is_marked_chosen_once() -> None:
    study = studies.contest(["full", "lora"], 2)
    contest = Contest.model_validate(study)
    view = tuning.tuning_of(contest, words.words_of(contest), lambda _: "")
    assert view is not None
    chosen = [(row.method, row.stage) for row in view.trials if row.is_chosen]
    assert chosen == [("Full fine-tuning", "whole"), ("LoRA", "whole")]
    halved = TuningTrial(method="full", learning_rate=2e-5, stage="third", value=0.5)
    alone = contest.model_copy(update={"tuning": (halved,)})
    view = tuning.tuning_of(alone, words.words_of(alone), lambda _: "")
    assert view is not None
    assert view.trials[0].is_chosen
