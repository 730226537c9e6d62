"""Every method against the reference: the forest plot, and where its uncertainty comes from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith import readable
from tunesmith.report.studies.records import Comparison, Contest
from tunesmith.report.studies.table import Cell, StripAxis, bar, draw_strip, strip_axis
from tunesmith.report.studies.words import VERDICTS, MetricWords, probability
from tunesmith.types import Interval

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True, slots=True)
class DifferenceRow:
    """One comparison."""

    method: str
    kind: str
    sign: str
    verdict: str
    strip: Markup
    gain: Cell
    bounds: str
    p: Cell
    degrees_of_freedom: str


@dataclass(frozen=True, slots=True)
class Forest:
    """All comparisons on one axis."""

    reference: str
    unit: str
    axis: Markup
    rows: Sequence[DifferenceRow]
    margin: str
    """The margin in words; empty where none is known."""
    interval_name: str
    is_cut: bool


@dataclass(frozen=True, slots=True)
class UncertaintyRow:
    """Where the uncertainty of one comparison comes from."""

    method: str
    total: Cell
    rows: Cell
    seeds: Cell
    strip: Markup
    advice: str


def forest_of(contest: Contest, words: MetricWords) -> Forest | None:
    """Return the comparisons, the best first; ``None`` where there are none."""
    return _forest(contest, contest.comparisons, contest.shown(contest.reference), words)


def augmentation_of(contest: Contest, words: MetricWords) -> Forest | None:
    """Return the same of methods with made rows beside the same without."""
    return _forest(contest, contest.augmentation, "the same method without made rows", words)


def _forest(contest: Contest, comparisons: Sequence[Comparison], reference: str, words: MetricWords) -> Forest | None:
    if not comparisons:
        return None
    gains = [words.gain(_interval(comparison)) for comparison in comparisons]
    margin = words.scale * contest.margin if math.isfinite(contest.margin) else 0.0
    axis = strip_axis(gains, around_zero=True, least=margin)
    return Forest(
        reference=reference,
        unit=words.unit,
        axis=axis.labels(),
        rows=[_row(contest, one, axis, margin, words) for one in _ordered(comparisons, words)],
        margin=words.margin(contest.margin) if margin else "",
        interval_name=f"{readable.percent(contest.confidence)} interval",
        is_cut=axis.is_cut,
    )


def _interval(comparison: Comparison) -> Interval:
    return Interval(comparison.difference, comparison.low, comparison.high)


def _ordered(comparisons: Sequence[Comparison], words: MetricWords) -> list[Comparison]:
    """Return comparisons, the greatest gain first and those without one last."""
    gains = {id(one): words.gain(_interval(one)).value for one in comparisons}
    return sorted(comparisons, key=lambda one: -gains[id(one)] if math.isfinite(gains[id(one)]) else math.inf)


def _row(contest: Contest, comparison: Comparison, axis: StripAxis, margin: float, words: MetricWords) -> DifferenceRow:
    name, gain = contest.shown(comparison.method), words.gain(_interval(comparison))
    sign, verdict = VERDICTS.get(comparison.verdict, ("◆", comparison.verdict))
    kind = comparison.verdict if comparison.verdict in VERDICTS else "undecided"
    freedom = comparison.degrees_of_freedom
    bounds = words.signed_bounds(gain)
    return DifferenceRow(
        method=name,
        kind=kind,
        sign=sign,
        verdict=verdict,
        strip=draw_strip(
            axis,
            gain,
            says=f"{name}: {words.signed(gain.value)} {bounds}, {verdict}",
            kind=kind,
            band=(-margin, margin) if margin else None,
            has_zero=True,
        ),
        gain=Cell(words.signed(gain.value), gain.value),
        bounds=bounds,
        p=Cell(probability(comparison.p), comparison.p),
        degrees_of_freedom=readable.number(freedom, decimals=1),
    )


def uncertainty_of(contest: Contest, words: MetricWords) -> list[UncertaintyRow]:
    """Return the variance of every comparison by where it comes from, as far as it is known."""
    known = [one for one in contest.comparisons if one.variance_rows >= 0 or one.variance_seeds >= 0]
    return [_uncertainty(contest, comparison, words) for comparison in _ordered(known, words)]


def _uncertainty(contest: Contest, comparison: Comparison, words: MetricWords) -> UncertaintyRow:
    rows, seeds = comparison.variance_rows, comparison.variance_seeds
    known = [(kind, part) for kind, part in (("of-rows", rows), ("of-seeds", seeds)) if part >= 0]
    total = sum(part for _, part in known)
    shares = [(kind, part / total) for kind, part in known] if total > 0 else []
    name = contest.shown(comparison.method)
    says = " and ".join(f"{readable.percent(share, decimals=0)} {kind.replace('-', ' ')}" for kind, share in shares)
    advice = comparison.advice
    if not advice:
        advice = "one seed: how much seeds add is not known" if not seeds >= 0 else ""
    if math.isfinite(comparison.rows_to_resolve):
        needed = readable.count(comparison.rows_to_resolve)
        advice += f"{'; ' if advice else ''}about {needed} test rows would tell a difference of the margin"
    return UncertaintyRow(
        method=name,
        total=Cell(words.width(math.sqrt(total)), math.sqrt(total)),
        rows=_part(rows, total, words),
        seeds=_part(seeds, total, words),
        strip=bar(shares, f"{name}: {says or 'no variance'}"),
        advice=advice,
    )


def _part(variance: float, total: float, words: MetricWords) -> Cell:
    """Return the standard error that a part of the variance alone would make, and its share."""
    if not variance >= 0:
        return Cell("not measured")
    share = readable.percent(variance / total, decimals=0) if total > 0 else ""
    return Cell(words.width(math.sqrt(variance)), math.sqrt(variance), share)
