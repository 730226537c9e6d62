"""Methods beside a reference: differences with intervals over rows and seeds, corrected p-values, verdicts.

**Interval** and p-value follow from one Student t: difference +- t x sqrt(V_rows + V_seeds), with Satterthwaite's
degrees of freedom (``variance``). The interval is that of the single comparison: it covers what its confidence says,
each for itself. **p** is corrected over all comparisons with the reference (Holm 1979), so that methods which are all
alike are called different in at most 1 - confidence of contests.

**Verdicts**, of which one holds:

- *equivalent*: the interval lies within the margin, whether or not it holds 0: the difference, if there is one, is
  smaller than what counts (two one-sided tests, Schuirmann 1987, each at half of 1 - confidence).
- *better*, *worse*: the corrected p is below 1 - confidence, and the interval leaves 0 out.
- *undecided*: neither. Where the interval leaves 0 out and the corrected p is too large, the advice says so: among as
  many comparisons one like this is to be expected by chance.

With one seed a method, nothing is known of seeds: interval and p speak of these two models, not of the methods.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tunesmith.evaluate.entrants import Entrant
from tunesmith.evaluate.evidence_needed import Evidence, advice, rows_to_resolve
from tunesmith.evaluate.student import half_width, p_value
from tunesmith.evaluate.variance import SeedSpreads, parts_of_difference, parts_of_mean
from tunesmith.metrics.ranges import RANGES

Verdict = Literal["better", "worse", "equivalent", "undecided"]

DEFAULT_MARGIN = 0.01
"""One point of a metric that is a share: a smaller difference does not count."""
DEFAULT_CONFIDENCE = 0.95
CONTEST_RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A method's mean over its seeds, with its interval over rows and seeds; nan where there is none."""

    method: str
    mean: float
    low: float
    high: float
    seeds: int
    variance_rows: float
    variance_seeds: float
    degrees_of_freedom: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """A method minus the reference, in the metric's own direction; nan where something is undefined."""

    method: str
    reference: str
    difference: float
    low: float
    high: float
    """Ends of the interval of this one comparison."""
    p: float
    """Holm-corrected over the comparisons with the reference, or over the pairs."""
    p_alone: float
    """The same, uncorrected."""
    verdict: Verdict
    scope: Literal["methods", "models"]
    """What the verdict speaks of: methods, or, where each has one seed, these two models."""
    variance_rows: float
    variance_seeds: float
    degrees_of_freedom: float
    advice: str
    """For undecided ones: what would decide, and about how much of it."""
    rows_to_resolve: int | None
    """About how many test rows it takes to tell a difference of the margin, however many seeds; None where the rows
    there are suffice, or nobody can say."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What all methods of a contest are judged by."""

    num_rows: int
    """Test rows."""
    num_units: int | None = None
    """Groups of test rows that were drawn together, where they were."""
    metric: str | None = None
    """Its name: where its range is known, no interval reaches beyond what there can be."""
    higher_is_better: bool = True
    margin: float | None = DEFAULT_MARGIN
    """The largest difference that does not count; None where nobody has said one."""
    confidence: float = DEFAULT_CONFIDENCE
    """Of the intervals; 1 minus it is the error that all comparisons together are allowed."""
    paired: bool = False
    """Whether a seed means the same cut into training and validation rows for all methods."""

    @property
    def error(self) -> float:
        """The share of contests of equal methods in which some may be called different."""
        return 1 - self.confidence

    @property
    def range(self) -> tuple[float, float]:
        """The ends between which the metric lies."""
        return RANGES.get(self.metric or "", (-math.inf, math.inf))


def estimates(entrants: Sequence[Entrant], terms: Terms) -> list[Estimate]:
    """Return every method's mean with its interval, in the order given.

    Ends that lie where the metric cannot are put back to the end of its range.
    """
    spreads = SeedSpreads(entrants, paired=terms.paired)
    lowest, highest = terms.range
    found = []
    for one in entrants:
        parts = parts_of_mean(one, spreads, terms.num_units or terms.num_rows)
        half = half_width(parts.total, parts.freedom, terms.confidence)
        low, high = max(one.mean - half, lowest), min(one.mean + half, highest)
        if not math.isfinite(half):
            low = high = math.nan
        found.append(Estimate(one.name, one.mean, low, high, len(one.seeds), parts.rows, parts.seeds, parts.freedom))
    return found


def pairs_with(reference: str, entrants: Sequence[Entrant]) -> list[tuple[str, str]]:
    """Return the name of every other entrant, with the one that it is compared with."""
    return [(one.name, reference) for one in entrants if one.name != reference]


def compare(
    entrants: Sequence[Entrant],
    pairs: Sequence[tuple[str, str]],
    terms: Terms,
    p_of_models: Mapping[str, float] | None = None,
) -> list[Comparison]:
    """Return the comparison of the first of each pair with its second, in the order given.

    Args:
        entrants: All methods of the contest: they pool what seeds do.
        pairs: Names of a method, each once, and of what it is compared with.
        terms: What they are judged by.
        p_of_models: By method, for contests of one seed: the exact p-value of its model against the reference's
            (``two_models``), in the place of Student's.
    """
    by_name = {one.name: one for one in entrants}
    compared = [(by_name[name], by_name[reference]) for name, reference in pairs]
    spreads = SeedSpreads(entrants, paired=terms.paired)
    num_units = terms.num_units or terms.num_rows
    parts = [parts_of_difference(one, first, spreads, num_units) for one, first in compared]
    exact = p_of_models or {}
    alone = [
        exact[one.name]
        if one.name in exact and not part.seed_freedom
        else p_value(one.mean - first.mean, part.total, part.freedom)
        for (one, first), part in zip(compared, parts, strict=True)
    ]
    corrected = holm(alone)
    # The step at which Holm's procedure stops: what is not rejected is held against it.
    num_left = max(1, sum(not p < terms.error for p in corrected))
    widest = terms.range[1] - terms.range[0]
    found = []
    for (one, first), part, p_alone, p in zip(compared, parts, alone, corrected, strict=True):
        difference, half = one.mean - first.mean, half_width(part.total, part.freedom, terms.confidence)
        verdict = _verdict(difference, half, p, terms)
        num_seeds = min((len(other.seeds) for other in (one, first) if other.varies), default=0)
        confidence_to_differ = 1 - terms.error / num_left
        evidence = Evidence(
            difference, part, num_seeds, terms.num_rows, terms.margin, terms.confidence, confidence_to_differ
        )
        found.append(
            Comparison(
                method=one.name,
                reference=first.name,
                difference=difference,
                low=max(difference - half, -widest),
                high=min(difference + half, widest),
                p=p,
                p_alone=p_alone,
                verdict=verdict,
                scope="methods" if part.seed_freedom else "models",
                variance_rows=part.rows,
                variance_seeds=part.seeds,
                degrees_of_freedom=part.freedom,
                advice=_advice(evidence, half, len(compared)) if verdict == "undecided" else "",
                rows_to_resolve=rows_to_resolve(evidence),
            )
        )
    return found


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for being as many (Holm 1979); undefined ones stay so, and count."""
    values = np.array(p_values, dtype=np.float64)
    corrected = np.full(len(values), math.nan)
    highest = 0.0
    for rank, index in enumerate(np.argsort(values, kind="stable")):  # nan comes last
        if np.isfinite(values[index]):
            highest = max(highest, min(1.0, (len(values) - rank) * values[index]))
            corrected[index] = highest
    return corrected.tolist()


def _verdict(difference: float, half: float, p: float, terms: Terms) -> Verdict:
    if terms.margin is not None and abs(difference) + half <= terms.margin:
        return "equivalent"
    if p < terms.error and abs(difference) > half:
        return "better" if (difference > 0) == terms.higher_is_better else "worse"
    return "undecided"


def _advice(evidence: Evidence, half: float, num_comparisons: int) -> str:
    said = advice(evidence)
    if abs(evidence.difference) > half and num_comparisons > 1:
        chance = f"among {num_comparisons} comparisons one like this is to be expected by chance"
        return f"{chance}; {said}" if said else chance
    return said
