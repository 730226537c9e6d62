"""The numbers of a study as people read them, all of one metric with the same decimals."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from tunesmith import readable
from tunesmith.readable import MISSING
from tunesmith.report.charts import shorten
from tunesmith.report.studies.records import Contest, CrossValidation, Search, Study
from tunesmith.types import Interval

VERDICTS = {
    "better": ("▲", "better"),
    "worse": ("▼", "worse"),
    "equivalent": ("＝", "equivalent"),
    "undecided": ("◆", "undecided"),
}
STATES = {
    "done": ("●", "done"),
    "running": ("◐", "running"),
    "waiting": ("○", "waiting"),
    "failed": ("✕", "failed"),
    "cut": ("–", "cut"),
    "pruned": ("◌", "pruned"),
}


@dataclass(frozen=True, slots=True)
class MetricWords:
    """How values and differences of one metric are written."""

    name: str
    is_higher_better: bool
    scale: float = 1.0
    """What values are multiplied by: 100 for shares, which are shown as points of 100."""
    decimals: int = 3

    @property
    def title(self) -> str:
        return readable.metric_title(self.name) if self.name else "Value"

    @property
    def axis(self) -> str:
        """The metric with its unit, and its direction where that is not upwards."""
        return self.title + self._details

    @property
    def _details(self) -> str:
        details = ["points of 100"] if self.scale == 100 else []
        details += [] if self.is_higher_better else ["lower is better"]
        return f" ({', '.join(details)})" if details else ""

    def on(self, what: str) -> str:
        """Return the metric as an axis names it, of something: ``Validation accuracy (points of 100)``."""
        return f"{what} {readable.metric_phrase(self.name) if self.name else 'value'}{self._details}"

    @property
    def unit(self) -> str:
        """What differences are measured in: points, or nothing."""
        return "points" if self.scale == 100 or readable.is_percentage(self.name) else ""

    def value(self, value: float) -> str:
        return readable.number(self.scale * value, decimals=self.decimals)

    def bounds(self, estimate: Interval) -> str:
        """Return ``[84.1, 86.4]``, nothing where there is no interval."""
        if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
            return ""
        return f"[{self.value(estimate.low)}, {self.value(estimate.high)}]"

    def interval(self, estimate: Interval) -> str:
        return f"{self.value(estimate.value)} {self.bounds(estimate)}".strip()

    def gain(self, difference: Interval) -> Interval:
        """Return a difference so that more is better, in the unit that is shown."""
        sign = self.scale if self.is_higher_better else -self.scale
        low, high = sign * difference.low, sign * difference.high
        return Interval(sign * difference.value, min(low, high), max(low, high))

    def signed(self, gain: float) -> str:
        """Return a gain, in the unit that is shown, with its sign."""
        text = readable.number(gain, decimals=self.decimals)
        return f"+{text}" if gain > 0 and any(digit in text for digit in "123456789") else text

    def signed_bounds(self, gain: Interval) -> str:
        if not (math.isfinite(gain.low) and math.isfinite(gain.high)):
            return ""
        return f"[{self.signed(gain.low)}, {self.signed(gain.high)}]"

    def width(self, value: float) -> str:
        """Return a width (a standard error) in the unit that is shown, with a digit more."""
        return readable.number(self.scale * value, decimals=self.decimals + 1)

    def margin(self, margin: float) -> str:
        """Return a margin with its unit: ``1 point``, ``0.5 points``, ``0.05 in perplexity``."""
        text = self.width(margin)
        text = text.rstrip("0").rstrip(".") if "." in text else text
        if not self.unit:
            return f"{text} in {readable.metric_phrase(self.name)}"
        return f"{text} point" if text == "1" else f"{text} points"


def words_of(study: Study) -> MetricWords:
    """Return how the main metric of a study is written."""
    higher = study.higher_is_better
    higher = readable.is_higher_better(study.metric) if higher is None else higher
    return metric_words(study.metric, _values(study), is_share=study.is_share, higher_is_better=higher)


def tuned_words_of(contest: Contest) -> MetricWords:
    """Return how the validation metric is written that rates are chosen by."""
    if contest.tuned_by in ("", contest.metric):
        return words_of(contest)
    values = [trial.value for trial in contest.tuning]
    values += [value for curve in contest.curves for _, _, value in curve.points]
    return metric_words(contest.tuned_by, values)


def metric_words(
    name: str, values: Iterable[float], *, is_share: bool | None = None, higher_is_better: bool | None = None
) -> MetricWords:
    """Return how a metric is written, with decimals for the largest of its ``values``."""
    share = readable.is_fraction(name) if is_share is None else is_share
    higher = readable.is_higher_better(name) if higher_is_better is None else higher_is_better
    if share:
        return MetricWords(name, higher, 100.0, 1)
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    return MetricWords(name, higher, 1.0, 0 if largest >= 1000 else 1 if largest >= 100 else 2 if largest >= 10 else 3)


def _values(study: Study) -> list[float]:
    if isinstance(study, Contest):
        return [method.mean for method in study.methods] + [trial.value for trial in study.tuning]
    if isinstance(study, CrossValidation):
        return [fold.metrics.get(study.metric, math.nan) for fold in study.folds]
    return [trial.value for trial in study.trials] if isinstance(study, Search) else []


def rate(value: float) -> str:
    """Return a learning rate as it is typed: ``5e-4``, ``0.1``."""
    if not math.isfinite(value):
        return MISSING
    if value == 0 or abs(value) >= 0.1:
        return f"{value:.3g}"
    mantissa, exponent = f"{value:.1e}".split("e")
    return f"{mantissa.removesuffix('.0')}e{int(exponent)}"


def probability(p: float) -> str:
    """Return a p-value: ``0.032``, ``<0.001``."""
    return MISSING if not math.isfinite(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def short_duration(seconds: float) -> str:
    """Return a round time for an axis: ``5 s``, ``10 min``, ``2 h``, ``20 ms``."""
    if seconds < 0.9995:
        return "0" if seconds == 0 else f"{seconds * 1000:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} µs"
    for unit, name in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit * 0.9995:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"


def short_compact(value: float) -> str:
    """Return a round large number for an axis: ``10k``, ``2M``."""
    for unit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit * 0.9995:
            return f"{value / unit:.3g}{suffix}"
    return f"{value:.3g}"


def plural(number: float, one: str, many: str = "") -> str:
    """Return ``1 seed``, ``3 seeds``."""
    return f"{readable.count(number)} {one if number == 1 else many or one + 's'}"


def when(iso: str) -> str:
    """Return a time as it stands in a file, without parts of seconds: ``2026-11-05 10:24:13``."""
    return shorten(iso.replace("T", " ").split(".")[0].split("+")[0], 40)


def state_mark(state: str) -> tuple[str, str]:
    """Return sign and word of a state, also of one that is not known."""
    return STATES.get(state, ("?", state))
