"""Numbers, metric names and verdicts as people read them.

The command line, the report and the model card all say the same numbers; they say them
in the same words because they all say them through this module. It imports nothing from
tunesmith but ``types`` and nothing heavy.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tunesmith.types import Interval

MISSING = "–"
"""What stands where a number is absent or not finite."""

UNTUNED = "before fine-tuning"
"""Name of the model as it was before training, where a run is judged against that."""

IN_CONTEXT = "in-context examples"
"""Name of the same model where its prompts show the rows that a run was trained on."""

_MINUS = "\N{MINUS SIGN}"

_TITLES = {
    "accuracy": "Accuracy",
    "balanced_accuracy": "Balanced accuracy",
    "subset_accuracy": "Subset accuracy",
    "exact_match": "Exact match",
    "roc_auc": "ROC AUC",
    "auc": "ROC AUC",
    "pr_auc": "PR AUC",
    "average_precision": "Average precision",
    "mcc": "Matthews correlation",
    "matthews": "Matthews correlation",
    "matthews_correlation": "Matthews correlation",
    "ece": "Calibration error",
    "expected_calibration_error": "Calibration error",
    "calibration_error": "Calibration error",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "brier_score": "Brier score",
    "mae": "Mean absolute error",
    "mse": "Mean squared error",
    "rmse": "Root mean squared error",
    "r2": "R²",
    "pearson": "Pearson correlation",
    "spearman": "Spearman correlation",
    "kendall": "Kendall correlation",
    "pseudo_perplexity": "Pseudo-perplexity",
    "kl": "KL to the reference",
    **{f"reward_{kind}": f"Reward: {kind}" for kind in ("number", "text", "regex", "length", "function", "run")},
    "answer_length": "Answer length in tokens",
    "chosen_log_probability": "Log-probability of chosen answers",
    "rejected_log_probability": "Log-probability of rejected answers",
    "rouge_1": "ROUGE-1",
    "rouge_2": "ROUGE-2",
    "rouge_l": "ROUGE-L",
    "mrr": "Mean reciprocal rank",
    "ndcg_at_10": "nDCG@10",
    "recall_at_1": "Recall@1",
    "recall_at_10": "Recall@10",
    "chrf": "chrF",
    "bleu": "BLEU",
}
_LOWER_IS_BETTER = {"loss", "error", "mae", "mse", "rmse", "brier", "ece", "perplexity", "bits", "kl"}
_FRACTIONS = {"accuracy", "precision", "recall", "f1", "auc", "jaccard", "match", "hit", "coverage", "rouge"}
_PERCENTAGES = {"bleu", "chrf"}
"""Metrics from 0 to 100, as sacrebleu gives them."""


def _words(name: str) -> list[str]:
    return [word for word in re.split(r"[^0-9a-zA-Z]+", name.lower()) if word]


def metric_title(name: str) -> str:
    """Return a metric's name for people: ``f1_macro`` is ``Macro F1``, ``mae`` ``Mean absolute error``."""
    if name in _TITLES:
        return _TITLES[name]
    words = _words(name)
    for average in ("macro", "micro", "weighted", "samples"):
        if average in words and len(words) > 1:
            words.remove(average)
            words.insert(0, average)
    shown = " ".join({"f1": "F1", "auc": "AUC", "roc": "ROC", "pr": "PR"}.get(word, word) for word in words) or name
    return shown[:1].upper() + shown[1:]


def metric_phrase(name: str) -> str:
    """Return a metric's name for the middle of a sentence: ``macro F1``, ``mean absolute error``, ``ROC AUC``."""
    title = metric_title(name)
    first = title.split(" ")[0]
    is_name = first in {"KL", "R²", "Pearson", "Spearman", "Kendall", "Matthews", "Brier", "chrF", "nDCG@10"}
    return title if is_name or (first.isupper() and len(first) > 1) else title[:1].lower() + title[1:]


def is_higher_better(name: str, known: Mapping[str, bool] | None = None) -> bool:
    """Say whether more of a metric is better: as ``known`` tells, else judged by its name."""
    if known and name in known:
        return known[name]
    return not _LOWER_IS_BETTER.intersection(_words(name))


def is_fraction(name: str) -> bool:
    """Say whether a metric is a share of 1, so that its differences read best in percentage points."""
    words = set(_words(name))
    return name == "average_precision" or (bool(words & _FRACTIONS) and not words & _LOWER_IS_BETTER)


def is_percentage(name: str) -> bool:
    """Say whether a metric runs from 0 to 100, so that its differences are points as they are."""
    return bool(_PERCENTAGES.intersection(_words(name)))


def rival_phrase(name: str) -> str:
    """Return what a run was judged against as it stands in a sentence: ``better than the baseline``."""
    return name if name in (UNTUNED, IN_CONTEXT) else "the baseline"


def _signed(text: str) -> str:
    return text.replace("-", _MINUS)


def _decimals(largest: float) -> int:
    """Return the decimals that show about three to four significant digits of ``largest``."""
    for limit, decimals in ((1000.0, 0), (100.0, 1), (10.0, 2)):
        if largest >= limit:
            return decimals
    return 3


def number(value: float | None, *, decimals: int | None = None) -> str:
    """Return ``0.853``, ``12.50``, ``1,961``; very small numbers in the form ``4.2e−5``."""
    if value is None or not math.isfinite(value):
        return MISSING
    if decimals is None:
        if value != 0 and abs(value) < 0.0005:
            return _signed(re.sub(r"e([+-])0*(\d)", r"e\1\2", f"{value:.2g}" if abs(value) < 1e-4 else f"{value:.5f}"))
        decimals = _decimals(abs(value))
    text = f"{value:,.{decimals}f}"
    return _signed(text.lstrip("-") if not re.search(r"[1-9]", text) else text)


def interval(estimate: Interval | None) -> str:
    """Return ``0.853 [0.841, 0.864]``; only the value where there is no interval."""
    if estimate is None or not math.isfinite(estimate.value):
        return MISSING
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return number(estimate.value)
    return f"{number(estimate.value)} {bounds(estimate)}"


def bounds(estimate: Interval) -> str:
    """Return ``[0.841, 0.864]`` with as many decimals as the value has; nothing without an interval."""
    if not (math.isfinite(estimate.low) and math.isfinite(estimate.high)):
        return ""
    decimals = 4 if 0 < abs(estimate.value) < 0.0005 else _decimals(abs(estimate.value))
    return f"[{number(estimate.low, decimals=decimals)}, {number(estimate.high, decimals=decimals)}]"


def count(value: float | None) -> str:
    """Return a whole number with separators: ``1,280``."""
    return MISSING if value is None or not math.isfinite(value) else _signed(f"{round(value):,}")


def compact(value: float | None) -> str:
    """Return a large number in three significant digits: ``22.7M``, ``738k``, ``1.24B``."""
    if value is None or not math.isfinite(value):
        return MISSING
    for unit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit * 0.9995:
            return _signed(_three_digits(value / unit)) + suffix
    return _signed(f"{value:,.0f}")


def _three_digits(value: float) -> str:
    if abs(value) >= 99.95:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 9.995 else f"{value:.2f}"


def size(num_bytes: float | None) -> str:
    """Return bytes in decimal units: ``1.2 GB``, ``91 MB``, ``738 kB``."""
    if num_bytes is None or not math.isfinite(num_bytes):
        return MISSING
    for unit, suffix in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(num_bytes) >= unit * 0.9995:
            scaled = num_bytes / unit
            return f"{scaled:.1f} {suffix}" if scaled < 9.95 else f"{scaled:,.0f} {suffix}"
    return f"{num_bytes:,.0f} B"


def duration(seconds: float | None) -> str:
    """Return ``0.84 s``, ``12.3 s``, ``1 min 32 s``, ``2 h 05 min``, ``3 d 4 h``."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return MISSING
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def latency(seconds: float) -> str:
    """Return a short time: ``11.2 ms``, ``0.9 ms``, ``1.31 s``."""
    if not math.isfinite(seconds) or seconds < 0:
        return MISSING
    if seconds >= 1:
        return duration(seconds)
    return f"{seconds * 1000:.1f} ms" if seconds >= 1e-4 else f"{seconds * 1e6:.0f} µs"


def percent(share: float | None, *, decimals: int = 1) -> str:
    """Return a share as ``3.4%``; shares too small to show as ``<0.1%``."""
    if share is None or not math.isfinite(share):
        return MISSING
    smallest = 10.0**-decimals
    if 0 < share * 100 < smallest / 2:
        return f"<{smallest:.{decimals}f}%"
    text = f"{share * 100:.{decimals}f}"
    return f"{text.removesuffix('.' + '0' * decimals)}%"


Outcome = Literal["better", "worse", "unclear"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a paired difference lets one say, and no more than that."""

    outcome: Outcome
    """``unclear`` whenever the interval includes 0 or is not known."""
    gain: str
    """Signed gain with its interval, positive when better: ``+8.1 points [6.2, 10.0]``."""
    sentence: str
    """``Better than the baseline by 8.1 points [6.2, 10.0].``"""


def judge(
    name: str,
    difference: Interval,
    *,
    against: str = "the baseline",
    higher_is_better: bool | None = None,
    confidence: float = 0.95,
) -> Verdict:
    """Put a paired difference (model minus ``against``) of metric ``name`` into words.

    A win or a loss is claimed only when the whole interval lies on one side of 0.
    """
    higher = is_higher_better(name) if higher_is_better is None else higher_is_better
    scale = 100.0 if is_fraction(name) else 1.0
    unit = " points" if is_fraction(name) or is_percentage(name) else ""
    sign = scale if higher else -scale
    value = sign * difference.value
    low, high = sorted((sign * difference.low, sign * difference.high))
    if not all(map(math.isfinite, (value, low, high))):
        return Verdict("unclear", MISSING, f"The difference from {against} could not be measured.")
    texts = _same_decimals(value, low, high, least=1 if unit else 3)
    signed = ("+" if value > 0 else "") + texts[0]
    gain = f"{signed}{unit} [{texts[1]}, {texts[2]}]"
    what = "" if unit else f" in {metric_phrase(name)}"
    if low > 0:
        return Verdict("better", gain, f"Better than {against} by {texts[0]}{unit}{what} [{texts[1]}, {texts[2]}].")
    if high < 0:
        texts = _same_decimals(-value, -high, -low, least=1 if unit else 3)
        return Verdict("worse", gain, f"Worse than {against} by {texts[0]}{unit}{what} [{texts[1]}, {texts[2]}].")
    return Verdict(
        "unclear",
        gain,
        f"No clear difference from {against}: {signed}{unit}{what} [{texts[1]}, {texts[2]}]; "
        f"the {percent(confidence)} interval includes 0.",
    )


def _same_decimals(*values: float, least: int) -> list[str]:
    """Format values alike, with enough decimals that none but 0 itself reads as 0."""
    decimals = min(least, _decimals(max(map(abs, values))))
    while decimals < 6 and any(v != 0 and round(v, decimals) == 0 for v in values):
        decimals += 1
    return [number(value, decimals=decimals) for value in values]
