"""Methods beside a reference: against formulas of scipy, and against what each verdict promises."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tunesmith.evaluate import (
    Comparison,
    Entrant,
    Terms,
    compare,
    estimates,
    expected_maximum,
    fold_interval,
    pairs_with,
    resamples,
    rows_needed,
    score,
)
from tunesmith.evaluate.comparisons import holm
from tunesmith.evaluate.variance import SeedSpreads, parts_of_difference
from tunesmith.tasks import Classification

ROWS = 400


def entrant(name: str, values: list[float], *, seeds: tuple[int, ...] | None = None, rows: float = 0.0) -> Entrant:
    """A method whose runs spread as given; each test resample moves all of its runs by about ``rows``."""
    random = np.random.default_rng(sum(map(ord, name)))
    own = tuple(range(len(values))) if seeds is None else seeds
    moved = rows * random.standard_normal((1, 500))
    return Entrant(name, own, np.array(values), np.array(values)[:, None] + moved)


def against(values: list[float], reference: list[float], **options) -> Comparison:
    rows = options.pop("rows", 0.0)
    pair = [entrant("a", values, rows=rows), entrant("b", reference, rows=rows)]
    (found,) = compared(pair, "b", **options)
    return found


def compared(entrants: list[Entrant], reference: str, **options) -> list[Comparison]:
    p_of_models = options.pop("p_of_models", None)
    return compare(entrants, pairs_with(reference, entrants), Terms(**{"num_rows": ROWS, **options}), p_of_models)


class TestSeeds:
    """With rows that change nothing, what is left are the textbook's tests of the runs' values."""

    FIRST, SECOND = [0.81, 0.84, 0.80, 0.86], [0.79, 0.80, 0.77, 0.83]

    def test_two_methods_are_students_t_test(self):
        found = against(self.FIRST, self.SECOND)
        expected = stats.ttest_ind(self.FIRST, self.SECOND)
        assert found.p == pytest.approx(expected.pvalue)
        interval = expected.confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
        assert found.degrees_of_freedom == pytest.approx(expected.df)

    def test_paired_runs_are_the_paired_t_test(self):
        found = against(self.FIRST, self.SECOND, paired=True)
        expected = stats.ttest_rel(self.FIRST, self.SECOND)
        assert found.p == pytest.approx(expected.pvalue)
        interval = expected.confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((interval.low, interval.high))

    def test_many_methods_pool_as_the_analysis_of_variance_does(self):
        random = np.random.default_rng(1)
        table = random.normal(size=(5, 3))
        entrants = [entrant(f"m{m}", list(row)) for m, row in enumerate(table)]
        spreads = SeedSpreads(entrants, paired=False)
        parts = parts_of_difference(entrants[0], entrants[1], spreads, ROWS)
        within = sum(row.var(ddof=1) for row in table) / 5
        assert parts.seeds == pytest.approx(2 * within / 3)
        assert parts.freedom == pytest.approx(10)

    def test_many_paired_methods_leave_the_residual_of_two_ways(self):
        random = np.random.default_rng(7)
        table = random.normal(size=(5, 3)) + 10 * random.normal(size=(1, 3))
        entrants = [entrant(f"m{m}", list(row)) for m, row in enumerate(table)]
        parts = parts_of_difference(entrants[0], entrants[1], SeedSpreads(entrants, paired=True), ROWS)
        # The F test of Friedman's layout has the residual as its denominator; here from the sums of squares.
        residual = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
        assert parts.seeds == pytest.approx(2 * (residual**2).sum() / 8 / 3)
        assert parts.freedom == pytest.approx(8)

    def test_a_louder_method_keeps_its_own_spread(self):
        quiet = [[0.80, 0.801, 0.802], [0.80, 0.802, 0.801], [0.803, 0.80, 0.801], [0.802, 0.80, 0.80]]
        entrants = [entrant(f"m{m}", values) for m, values in enumerate(quiet)]
        loud = entrant("loud", [0.7, 0.8, 0.9])
        found = {one.method: one for one in compared([*entrants, loud], "m0")}
        own = stats.ttest_ind(loud.values, entrants[0].values)
        assert found["loud"].p_alone == pytest.approx(own.pvalue)
        assert found["m1"].variance_seeds < found["loud"].variance_seeds

    def test_a_mean_has_the_t_interval_of_its_runs(self):
        (found,) = estimates([entrant("a", self.FIRST)], Terms(ROWS))
        low, high = stats.t.interval(0.95, 3, np.mean(self.FIRST), stats.sem(self.FIRST))
        assert (found.low, found.high) == pytest.approx((low, high))

    def test_means_stay_where_the_metric_can_lie(self):
        (found,) = estimates([entrant("a", [0.9, 1.0, 1.0])], Terms(ROWS, metric="accuracy"))
        assert found.high == 1.0

    def test_a_rival_without_seeds_adds_nothing(self):
        rival = Entrant("tfidf", (), np.array([0.7]), np.full((1, 500), 0.7))
        (found,) = compared([entrant("a", self.FIRST), rival], "tfidf")
        expected = stats.ttest_1samp(self.FIRST, 0.7)
        assert found.p == pytest.approx(expected.pvalue)

    def test_a_missing_run_is_borne(self):
        entrants = [entrant("a", self.FIRST), entrant("b", self.SECOND), entrant("c", [0.8, 0.83], seeds=(0, 3))]
        for paired in (True, False):
            for one in compared(entrants, "a", paired=paired):
                assert math.isfinite(one.low)
                assert one.scope == "methods"


class TestRows:
    def test_one_deterministic_pair_is_the_paired_test_over_rows(self):
        random = np.random.default_rng(3)
        scores = random.random((2, 300)) < np.array([[0.8], [0.7]])
        weights = np.concatenate(list(resamples(300, 4000, 0))) / 300
        rivals = [
            Entrant(name, (), row.mean(keepdims=True), (row @ weights.T)[None])
            for name, row in zip("ab", scores, strict=True)
        ]
        (found,) = compared(rivals, "b", num_rows=300)
        expected = stats.ttest_rel(scores[0].astype(float), scores[1].astype(float))
        assert found.variance_rows == pytest.approx(expected.statistic**-2 * found.difference**2, rel=0.08)
        assert found.p == pytest.approx(expected.pvalue, rel=0.5)

    def test_what_seeds_and_rows_do_together_counts_once(self):
        """Runs that are wrong on other rows with every seed: the spread of their values holds all there is."""
        random = np.random.default_rng(4)
        weights = np.concatenate(list(resamples(2000, 500, 0))) / 2000
        scores = random.normal(size=(2, 3, 2000))
        entrants = [Entrant(n, (0, 1, 2), s.mean(1), s @ weights.T) for n, s in zip("ab", scores, strict=True)]
        parts = parts_of_difference(*entrants, SeedSpreads(entrants, paired=False), 2000)
        assert parts.rows < 0.3 * 2 / 2000 / 3  # that of the mean of three runs would be all of it
        assert parts.joint == pytest.approx(parts.seeds, rel=0.8)

    def test_groups_are_drawn_whole(self):
        groups = np.repeat(["x", "y", "z", "w"], [1, 2, 3, 4])
        (counts,) = list(resamples(10, 500, 0, groups))
        for _, rows in itertools.groupby(range(10), lambda row: groups[row]):
            block = counts[:, list(rows)]
            assert (block == block[:, :1]).all()
        assert set(counts[:, [0, 1, 3, 6]].sum(axis=1)) == {4}  # as many draws as there are groups

    def test_groups_widen_the_interval(self):
        random = np.random.default_rng(5)
        label = random.integers(0, 2, 40).repeat(10)
        right = (random.random(40) < 0.7).repeat(10)  # a group is right or wrong as a whole
        scores = np.eye(2)[np.where(right, label, 1 - label)].astype(np.float32)
        task = Classification(labels=("n", "p"), multi_label=False)
        options = {"seed": 0, "num_resamples": 500, "per_label": False}
        spread = [
            score(task, {"scores": scores}, {"label": label}, groups_N=groups, **options).resampled["accuracy"].std()
            for groups in (None, np.arange(40).repeat(10))
        ]
        assert spread[1] == pytest.approx(spread[0] * math.sqrt(10), rel=0.15)


class TestVerdicts:
    @pytest.mark.parametrize(
        ("values", "options", "verdict"),
        [
            ([0.90, 0.901, 0.899], {}, "better"),
            ([0.70, 0.701, 0.699], {}, "worse"),
            ([0.90, 0.901, 0.899], {"higher_is_better": False}, "worse"),
            ([0.801, 0.80, 0.799], {}, "equivalent"),
            ([0.801, 0.80, 0.799], {"margin": None}, "undecided"),
            ([0.805, 0.8051, 0.8049], {"margin": 0.01}, "equivalent"),  # differs, by less than counts
            ([0.80, 0.83, 0.77], {}, "undecided"),
        ],
    )
    def test_each(self, values, options, verdict):
        assert against(values, [0.80, 0.8003, 0.7997], **options).verdict == verdict

    @given(
        st.lists(st.floats(0, 0.05), min_size=2, max_size=6),
        st.floats(0.0005, 0.03),
        st.floats(0.001, 0.03),
        st.booleans(),
    )
    def test_they_never_contradict_interval_or_p(self, shifts, spread, margin, paired):
        random = np.random.default_rng(int(1e6 * (sum(shifts) + spread)))
        table = [[0.8 + shift + spread * random.standard_normal() for _ in range(3)] for shift in (0.0, *shifts)]
        entrants = [entrant(f"m{m}", row, rows=spread / 2) for m, row in enumerate(table)]
        for one in compared(entrants, "m0", margin=margin, paired=paired):
            assert one.p >= one.p_alone
            excludes = one.low > 0 or one.high < 0
            if one.verdict in ("better", "worse"):
                assert excludes
                assert one.p < 0.05
                assert (one.difference > 0) == (one.verdict == "better")
            if one.verdict == "equivalent":
                assert -margin <= one.low <= one.high <= margin
            if one.verdict == "undecided":
                assert one.advice
                assert one.p >= 0.05 or not excludes
                assert ("by chance" in one.advice) == (excludes and len(shifts) > 1)

    def test_one_seed_speaks_of_models(self):
        found = against([0.9], [0.8], rows=0.01)
        assert found.scope == "models"
        assert math.isfinite(found.low)
        exact = against([0.9], [0.8], rows=0.01, p_of_models={"a": 0.3})
        assert exact.p == 0.3
        assert exact.verdict == "undecided"
        assert "at least 3" in exact.advice

    def test_undefined_metrics_are_undecided(self):
        found = against([math.nan, 0.8], [0.8, 0.81])
        assert found.verdict == "undecided"
        assert math.isnan(found.low)
        assert "undefined" in found.advice
        some = entrant("a", [0.9, 0.91, 0.92], rows=0.01)
        some.resampled[:, ::2] = math.nan
        (found,) = compared([some, entrant("b", [0.8, 0.81, 0.82], rows=0.01)], "b")
        assert math.isfinite(found.low)

    def test_runs_that_are_all_the_same_are_equivalent(self):
        found = against([0.8, 0.8, 0.8], [0.8, 0.8, 0.8])
        assert (found.low, found.high, found.p, found.verdict) == (0.0, 0.0, 1.0, "equivalent")


class TestHolm:
    def test_known_values(self):
        # Wright (1992), Biometrics 48, table 1: seven comparisons.
        assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
        assert holm([0.6, 0.6]) == [1.0, 1.0]
        assert holm([]) == []

    def test_undefined_ones_count_as_comparisons(self):
        found = holm([0.02, math.nan])
        assert found[0] == pytest.approx(0.04)
        assert math.isnan(found[1])

    @given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
    def test_rejects_as_the_step_down_procedure_does(self, values):
        order = sorted(range(len(values)), key=values.__getitem__)
        rejected = set()
        for rank, index in enumerate(order):
            if values[index] * (len(values) - rank) >= 0.05:
                break
            rejected.add(index)
        assert {index for index, p in enumerate(holm(values)) if p < 0.05} == rejected


class TestAdvice:
    def test_more_seeds_do_decide(self):
        """What is advised is tried: with as many seeds of the same spread the verdict falls."""
        first, second = [0.815, 0.845, 0.83], [0.80, 0.83, 0.815]
        found = against(first, second)
        assert found.verdict == "undecided"
        more = int(found.advice.split("about ")[1].split(" more seed")[0])

        def stretched(values, number):
            ends = np.resize([-1.0, 1.0], number)
            return list(np.mean(values) + np.std(values, ddof=1) * ends / ends.std(ddof=1))

        decided = against(stretched(first, 3 + more), stretched(second, 3 + more))
        assert decided.verdict == "better"
        assert against(stretched(first, 2 + more), stretched(second, 2 + more)).verdict == "undecided"

    def test_rows_where_seeds_cannot(self):
        found = against([0.812, 0.813, 0.811], [0.80, 0.801, 0.799], rows=0.02)
        assert "more test rows would decide; more seeds would not" in found.advice
        assert found.rows_to_resolve is not None
        assert found.rows_to_resolve > ROWS

    def test_rows_needed_before_training(self):
        rows = rows_needed(0.01, disagreement=0.1)
        assert 1.96 * math.sqrt(0.1 / rows) <= 0.01
        assert rows == 3900


def test_expected_maximum_is_the_mean_over_all_subsets():
    values = [0.3, 0.9, 0.5, 0.7, 0.5]
    for drawn, found in enumerate(expected_maximum(values), 1):
        every = [max(chosen) for chosen in itertools.combinations(values, drawn)]
        assert found == pytest.approx(np.mean(every))
    for drawn, found in enumerate(expected_maximum(values, higher_is_better=False), 1):
        assert found == pytest.approx(np.mean([min(chosen) for chosen in itertools.combinations(values, drawn)]))
    assert expected_maximum([0.3, math.nan, 0.5])[-1] == 0.5
    assert expected_maximum([0.3, math.nan, 0.5])[0] == pytest.approx((0.3 + 0.3 + 0.5) / 3)
    assert expected_maximum([math.nan]) == []


def test_fold_interval():
    values = [0.8, 0.82, 0.79, 0.85, 0.81, 0.8, 0.83, 0.84, 0.78, 0.81]
    found = fold_interval(values, num_train=80, num_test=20)
    spread = np.std(values, ddof=1) * math.sqrt(1 / 10 + 20 / 80)
    low, high = stats.t.interval(0.95, 9, np.mean(values), spread)
    assert (found.low, found.high, found.degrees_of_freedom) == pytest.approx((low, high, 9))
    plain = stats.t.interval(0.95, 9, np.mean(values), stats.sem(values))
    assert found.high - found.low > 1.8 * (plain[1] - plain[0])
    assert math.isnan(fold_interval([0.8], num_train=8, num_test=2).low)
