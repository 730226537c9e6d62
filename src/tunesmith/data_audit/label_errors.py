"""Rows whose label is probably wrong: confident learning on what a quick model says of rows it has not seen.

Northcutt, Jiang and Chuang 2021, by ``cleanlab``. The quick model is the project's classical baseline (TF-IDF of words
or characters with logistic regression), fitted on four fifths of the rows and asked about the last fifth, five times.

How many of the rows found do have a wrong label is estimated without any truth. What the model says of a row does not
depend on that row's own label, so that every row can be given a wrong label in thought, and it is known at once whether
it would be found and how strongly. Be H(d) the share of such rows that would stand among the d most suspicious rows
found, and p the share of wrong labels in the data. Then p N H(d) of the d rows are there for that reason. p is not
known, but it cannot be larger than d / (N H(d)) for any d: the smallest of these bounds is taken (the proportion of a
mixture under irreducibility, Blanchard, Lee and Scott 2010). The estimate is an upper one: texts that the model takes
for another class without any error bring it up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tunesmith.data.split import drawn, folds, make_units
from tunesmith.data_audit.audited_rows import AuditedRows
from tunesmith.data_audit.findings import AuditOptions, Finding
from tunesmith.data_audit.survey import UNLABELLED, Survey
from tunesmith.evaluate.tfidf import fit_and_predict
from tunesmith.types import MissingExtraError

NUM_FOLDS = 5
MAX_ROWS = 50_000
"""Rows that are looked at, drawn from larger sets."""
LEAST_ROWS, LEAST_OF_CLASS = 100, 5
_LEAST_FOUND = 20
"""Rows found from which on shares among them are more than chance."""
_SINGLE_LABEL = "single_label_classification"

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Suspects:
    """Rows that probably have a wrong label, the most suspicious first."""

    rows: IntArray
    """[R]: places among the rows looked at."""
    precision: float
    """Estimated share of them that have a wrong label."""
    recall: float
    """Estimated share of wrong labels that are found."""
    error_share: float
    """Estimated share of all rows that have a wrong label, at most."""


def label_errors(
    rows: AuditedRows, survey: Survey, options: AuditOptions, working: Callable[[str], None]
) -> tuple[list[Finding], str]:
    """Return the finding, if there is one, and why nothing was looked for, if nothing was."""
    task = rows.found.task
    if not survey.names or not _are_names(rows):
        return [], f"Wrong labels are looked for where a row has one class; the task is {task.name}."
    if find_spec("cleanlab") is None:
        raise MissingExtraError("Looking for wrong labels", "cleanlab", "audit")
    chosen = _labelled_rows(survey, rows.num_train, options.seed)
    if len(chosen) < LEAST_ROWS or len(np.unique(survey.labels[chosen])) < 2:
        return [], f"Wrong labels are looked for among {LEAST_ROWS} rows or more, of two or more classes."
    working("Asking a quick model about rows that it has not seen")
    columns = rows.take(chosen)
    task = task.bind(columns)
    if task.head().config.get("problem_type") != _SINGLE_LABEL:
        return [], f"Wrong labels are looked for where a row has one class; the task is {task.name}."
    labels_N = np.asarray(task.targets(columns)[task.truths[0]], dtype=np.int64)
    probabilities_NK = _out_of_fold(task, columns, labels_N, survey.texts[chosen], options.seed)
    suspects = find_suspects(labels_N, probabilities_NK, options.precision, options.seed)
    if not len(suspects.rows):
        return [], ""
    return [_finding(suspects, chosen, labels_N, probabilities_NK, list(task.label_names))], ""


def _are_names(rows: AuditedRows) -> bool:
    """Say whether labels are names or whole numbers, one a row."""
    kind = rows.form.schema.field(str(rows.form.label)).type
    return bool(pa.types.is_string(kind) or pa.types.is_integer(kind))


def _labelled_rows(survey: Survey, num_train: int, seed: int) -> IntArray:
    """Return the training rows that have a text, and a label that some others have, too."""
    labels = survey.labels[:num_train]
    counts = np.bincount(labels[labels != UNLABELLED], minlength=1)
    is_usable = (labels != UNLABELLED) & (survey.lengths[:num_train] > 0)
    is_usable[is_usable] = counts[labels[is_usable]] >= LEAST_OF_CLASS
    usable = np.flatnonzero(is_usable)
    if len(usable) > MAX_ROWS:
        usable = np.sort(np.random.default_rng(seed).choice(usable, MAX_ROWS, replace=False))
    return usable.astype(np.int64)


def _out_of_fold(
    task: Any, columns: dict[str, list[Any]], labels_N: IntArray, keys_N: npt.NDArray[np.uint64], seed: int
) -> FloatArray:
    """[N, K]: what a model says of each row that was fitted without it, and without rows of the same text."""
    units = make_units(keys_N, None)
    fold_N = folds(units, labels_N, NUM_FOLDS, lambda keys: drawn(keys, seed))
    probabilities = np.zeros((len(labels_N), int(labels_N.max()) + 1))
    for fold in range(NUM_FOLDS):
        held_out = np.flatnonzero(fold_N == fold)
        kept = np.flatnonzero(fold_N != fold)
        fitted = fit_and_predict(task, _part(columns, kept), _part(columns, held_out), seed)
        probabilities[held_out] = fitted.predictions
    return probabilities


def _part(columns: dict[str, list[Any]], rows: IntArray) -> dict[str, list[Any]]:
    return {name: [cells[row] for row in rows] for name, cells in columns.items()}


def find_suspects(labels_N: IntArray, probabilities_NK: FloatArray, precision: float, seed: int = 0) -> Suspects:
    """Return the rows that probably have a wrong label, as many as the estimated precision allows.

    Args:
        labels_N: The labels given.
        probabilities_NK: What a model says that has not seen the row.
        precision: The least estimated share of wrong labels among the rows returned.
        seed: Draws the wrong labels that rows are given in thought.
    """
    from cleanlab.count import get_confident_thresholds
    from cleanlab.filter import find_label_issues

    found = np.asarray(
        find_label_issues(
            labels_N,
            probabilities_NK,
            filter_by="confident_learning",
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        ),
        dtype=np.int64,
    )
    if not len(found):
        return Suspects(found, 0.0, 0.0, 0.0)
    thresholds_K = np.asarray(get_confident_thresholds(labels_N, probabilities_NK))
    scores = np.sort(_scores_of_errors(labels_N, probabilities_NK, thresholds_K, seed))
    num_rows = len(labels_N)
    # Each of the rows found, and H: the share of wrong labels that would be found no later than it.
    own = probabilities_NK[found, labels_N[found]]
    num_found = np.arange(1, len(found) + 1)
    share_of_errors = np.searchsorted(scores[np.isfinite(scores)], own, side="right") / max(len(scores), 1)
    with np.errstate(divide="ignore"):
        bounds = np.where(share_of_errors > 0, num_found / (num_rows * np.maximum(share_of_errors, 1e-12)), np.inf)
    least = min(_LEAST_FOUND, len(found)) - 1
    error_share = float(min(bounds[least:].min(), 0.5))
    precisions = np.minimum(error_share * num_rows * share_of_errors / num_found, 1.0)
    good = np.flatnonzero(precisions[least:] >= precision) + least
    if not len(good) or not np.isfinite(error_share):
        return Suspects(found[:0], 0.0, 0.0, 0.0)
    last = int(good[-1])
    return Suspects(found[: last + 1], float(precisions[last]), float(share_of_errors[last]), error_share)


def _scores_of_errors(
    labels_N: IntArray, probabilities_NK: FloatArray, thresholds_K: FloatArray, seed: int
) -> FloatArray:
    """Return how suspicious rows would be, had they a wrong label; infinite for those that would not be found.

    Wrong labels are drawn from the others, ten for each row of a small set. A row is found when the likeliest of the
    classes that the model is confident about is another one than its label, and than the likeliest of all.
    """
    random = np.random.default_rng(seed)
    num_rows, num_classes = probabilities_NK.shape
    confident = np.where(probabilities_NK >= thresholds_K - 1e-6, probabilities_NK, -1.0)
    guess_N = confident.argmax(axis=1)
    is_confident = confident.max(axis=1) >= 0
    scores = []
    for _ in range(max(1, min(10, 50_000 // max(num_rows, 1)))):
        wrong_N = (labels_N + random.integers(1, num_classes, num_rows)) % num_classes
        own_N = probabilities_NK[np.arange(num_rows), wrong_N]
        is_found = is_confident & (guess_N != wrong_N) & (own_N < probabilities_NK.max(axis=1) - 1e-9)
        scores.append(np.where(is_found, own_N, np.inf))
    return np.concatenate(scores)


def _finding(
    suspects: Suspects, chosen: IntArray, labels_N: IntArray, probabilities_NK: FloatArray, names: list[str]
) -> Finding:
    found = suspects.rows
    suggested = probabilities_NK[found].argmax(axis=1)
    own = probabilities_NK[found, labels_N[found]]
    return Finding(
        "label_error",
        f"{len(found):,} of {len(chosen):,} rows probably have a wrong label; of these, at most about "
        f"{suspects.precision:.0%} do, and about {suspects.recall:.0%} of all wrong labels are among them.",
        chosen[found],
        suspects.precision,
        "estimated share of wrong labels among these rows",
        "Look at these rows, the first ones first, and mend their labels; --label-errors drop leaves them out of what "
        "--fix writes.",
        {
            "precision": suspects.precision,
            "recall": suspects.recall,
            "share_of_wrong_labels": suspects.error_share,
            "estimated_by": "wrong labels drawn for every row, found by the same rule; an upper estimate",
            "given": [names[label] for label in labels_N[found]],
            "suggested": [names[label] for label in suggested],
            "probability_of_given": [round(float(value), 4) for value in own],
        },
    )
