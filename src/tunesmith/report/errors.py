"""What the page says about a run's errors: confusion, scores by label, single mistakes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tunesmith import readable
from tunesmith.report.figures import confusion_map
from tunesmith.report.records import Evaluation, Mistake
from tunesmith.report.strips import Whisker, whisker_axis, whisker_domain, whiskers

MOST_LABELS_IN_TABLE = 20
"""Labels up to which the confusion matrix is a table with numbers."""


MOST_PAIRS = 20


LONGEST_TEXT = 1_200
"""Characters of a wrongly predicted text that are shown."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of the confusion table."""

    count: str
    share: str
    alpha: str
    kind: str


@dataclass(frozen=True, slots=True)
class Confusion:
    """The confusion matrix: as a table, or for many labels as a map with the worst pairs, or per label."""

    labels: Sequence[str] = ()
    rows: Sequence[tuple[str, Sequence[Cell], str]] = ()
    map: Markup | None = None
    pairs: Sequence[tuple[str, str, str, str]] = ()
    per_label: Sequence[tuple[str, Sequence[str]]] = ()


@dataclass(frozen=True, slots=True)
class Score:
    """One number of the per-class table."""

    value: str
    bounds: str
    sort: float


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One row of the per-class table."""

    label: str
    support: str
    sort: float
    scores: Sequence[Score]
    strip: Markup


@dataclass(frozen=True, slots=True)
class WrongRow:
    """One mistake."""

    row: str
    text: str
    text_pair: str | None
    label: str
    prediction: str
    score: str


def confusion(evaluation: Evaluation) -> Confusion | None:
    """Lay out the confusion matrix; ``None`` where there is none (or none that is square)."""
    matrix = evaluation.confusion_matrix
    if not matrix:
        return None
    labels = evaluation.labels if len(evaluation.labels) == len(matrix) else tuple(map(str, range(len(matrix))))
    if isinstance(matrix[0][0], tuple):
        return Confusion(
            per_label=[
                (label, [readable.count(v) for v in _hits(table)]) for label, table in zip(labels, matrix, strict=True)
            ]
        )
    rows = [[float(v) for v in row if isinstance(v, int | float)] for row in matrix]
    if any(len(row) != len(rows) for row in rows):
        return None
    if len(rows) > MOST_LABELS_IN_TABLE:
        return Confusion(labels, map=confusion_map(rows, labels), pairs=_pairs(rows, labels))
    return Confusion(
        labels,
        rows=[
            (labels[i], [_cell(amount, sum(row), hit=i == j) for j, amount in enumerate(row)], readable.count(sum(row)))
            for i, row in enumerate(rows)
        ],
    )


def _hits(table: Any) -> tuple[float, float, float, float]:
    """Return true positives, false negatives, false positives, true negatives of a 2 by 2 matrix."""
    (true_negatives, false_positives), (false_negatives, true_positives) = table
    return true_positives, false_negatives, false_positives, true_negatives


def _cell(amount: float, total: float, *, hit: bool) -> Cell:
    share = amount / total if total else 0.0
    kind = (
        ("hit" if hit else "miss")
        + (" strong" if share > 0.78 else " middle" if share > 0.5 else "")
        + (" zero" if not amount else "")
    )
    return Cell(readable.count(amount), readable.percent(share, decimals=0), f"{0.06 + 0.94 * share:.3f}", kind)


def _pairs(rows: Sequence[Sequence[float]], labels: Sequence[str]) -> list[tuple[str, str, str, str]]:
    found = [(amount, i, j) for i, row in enumerate(rows) for j, amount in enumerate(row) if i != j and amount > 0]
    found.sort(key=lambda pair: (-pair[0], pair[1], pair[2]))
    return [
        (labels[i], labels[j], readable.count(amount), readable.percent(amount / sum(rows[i]), decimals=0))
        for amount, i, j in found[:MOST_PAIRS]
    ]


def label_rows(evaluation: Evaluation) -> tuple[Sequence[LabelRow], Markup]:
    """Return the per-class table and its axis; of many labels the weakest first."""
    scores = list(evaluation.per_label)
    if not scores:
        return (), Markup("")
    if len(scores) > MOST_LABELS_IN_TABLE:
        scores.sort(key=lambda row: row.f1.value if math.isfinite(row.f1.value) else -1.0)
    domain = whisker_domain([row.f1.interval for row in scores], floor=0.0)
    rows = [
        LabelRow(
            label=row.label,
            support=readable.count(row.support),
            sort=row.support,
            scores=[
                Score(readable.number(e.value, decimals=3), readable.bounds(e.interval), e.value)
                for e in (row.f1, row.precision, row.recall)
            ],
            strip=whiskers([Whisker(f"F1 of {row.label}", row.f1.interval)], domain),
        )
        for row in scores
    ]
    return rows, whisker_axis(domain)


def _clip(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    return f"{text[:LONGEST_TEXT].rstrip()} … ({readable.count(len(text))} characters)"


def wrong_row(mistake: Mistake, is_regression: bool) -> WrongRow:
    """Put one mistake into words; long texts are cut."""
    if is_regression:
        score = f"error {readable.number(abs(mistake.error))}" if math.isfinite(mistake.error) else ""
    else:
        score = f"{readable.percent(mistake.score)} sure" if math.isfinite(mistake.score) else ""
    return WrongRow(
        row=mistake.row,
        text=_clip(mistake.text),
        text_pair=_clip(mistake.text_pair) if mistake.text_pair else None,
        label=mistake.label or "(none)",
        prediction=mistake.prediction or "(none)",
        score=score,
    )
