"""From predictions to numbers with error bars, and to the baseline they have to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tunesmith.evaluate.baseline import Baseline, baseline, has_baseline
from tunesmith.evaluate.bootstrap import IntervalDict, Scores, difference, interval, intervals, resamples, score
from tunesmith.evaluate.candidates import may_be_best
from tunesmith.evaluate.comparisons import (
    CONTEST_RESAMPLES,
    DEFAULT_MARGIN,
    Comparison,
    Estimate,
    Terms,
    compare,
    estimates,
    pairs_with,
)
from tunesmith.evaluate.entrants import Entrant
from tunesmith.evaluate.evidence_needed import rows_needed
from tunesmith.evaluate.expected_maximum import expected_maximum
from tunesmith.evaluate.fold_interval import FoldInterval, fold_interval
from tunesmith.evaluate.tables import exchanges, mistakes, predictions_table
from tunesmith.evaluate.two_models import models_p_value
from tunesmith.tasks.base import Columns, Outputs, Targets, Task

DEFAULT_RESAMPLES = 1000
DEFAULT_CONFIDENCE = 0.95


def evaluate(
    task: Task,
    outputs: Outputs,
    targets: Targets,
    *,
    seed: int,
    num_resamples: int = DEFAULT_RESAMPLES,
    confidence: float = DEFAULT_CONFIDENCE,
    columns: Columns | None = None,
    against: Baseline | None = None,
    beside: Sequence[Baseline] = (),
) -> dict[str, Any]:
    """Return the content of ``evaluation.json``: metrics with bootstrap intervals, and the task's details.

    ``columns`` (the rows' texts) add the worst mistakes; ``against`` adds a baseline's
    metrics on the same rows and the paired difference, model minus baseline; ``beside`` does so
    for others (a teacher, the members of an ensemble). Numbers that do not exist (a correlation
    of constants) are None. Raises ``InputError`` without rows.
    """
    scores = score(task, outputs, targets, seed=seed, num_resamples=num_resamples)
    found: dict[str, Any] = {
        "task": task.name,
        "title": task.title,
        "num_rows": len(next(iter(outputs.values()))),
        "confidence": confidence,
        "num_resamples": num_resamples,
        "main_metric": task.headline(scores.values),
        "metrics": intervals(scores, confidence),
        **task.details(outputs, targets),
    }
    for k, entry in enumerate(found.get("per_label", [])):
        for name, values_K in scores.label_values.items():
            entry[name] = interval(float(values_K[k]), scores.label_resampled[name][:, k], confidence)
    if columns is not None:
        found |= task.footnotes(outputs, columns)
        found["mistakes"] = mistakes(task, outputs, targets, columns)
        if "answers" in outputs:
            found["answers"] = exchanges(task, outputs, columns, against)

    def judged(other: Baseline) -> dict[str, Any]:
        others = score(task, other.outputs, targets, seed=seed, num_resamples=num_resamples)
        return {
            "name": other.name,
            "num_parameters": other.num_parameters,
            "metrics": intervals(others, confidence),
            "difference": difference(scores, others, confidence),
        }

    if against is not None:
        rival = judged(against)
        found["difference"] = rival.pop("difference")
        found["baseline"] = {**rival, "seconds": against.seconds, "num_rows": against.num_rows}
    if beside:
        found["beside"] = [judged(one) for one in beside]
    return found


def compare_paired(
    task: Task,
    first: Outputs,
    second: Outputs,
    targets: Targets,
    *,
    seed: int,
    num_resamples: int = DEFAULT_RESAMPLES,
    confidence: float = DEFAULT_CONFIDENCE,
) -> dict[str, IntervalDict]:
    """Return first minus second for every metric, with the interval of the paired bootstrap.

    Both are outputs for the same rows in the same order. A difference whose interval holds
    0 is not shown by these rows.
    """
    sizes = [len(next(iter(outputs.values()))) for outputs in (first, second)]
    assert sizes[0] == sizes[1], f"outputs for the same rows are compared; received {sizes[0]} and {sizes[1]} rows"
    scores = [score(task, one, targets, seed=seed, num_resamples=num_resamples) for one in (first, second)]
    return difference(scores[0], scores[1], confidence)


__all__ = [
    "CONTEST_RESAMPLES",
    "DEFAULT_MARGIN",
    "Baseline",
    "Comparison",
    "Entrant",
    "Estimate",
    "FoldInterval",
    "IntervalDict",
    "Scores",
    "Terms",
    "baseline",
    "compare",
    "compare_paired",
    "difference",
    "estimates",
    "evaluate",
    "exchanges",
    "expected_maximum",
    "fold_interval",
    "has_baseline",
    "interval",
    "intervals",
    "may_be_best",
    "mistakes",
    "models_p_value",
    "pairs_with",
    "predictions_table",
    "resamples",
    "rows_needed",
    "score",
]
