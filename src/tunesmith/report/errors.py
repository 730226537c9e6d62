"""What the page says about a run's errors by label: confusion, and the scores of each."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from tunesmith import readable
from tunesmith.report.figures import confusion_map
from tunesmith.report.records import Evaluation
from tunesmith.report.strips import Whisker, whisker_axis, whisker_domain, whiskers

MOST_LABELS_IN_TABLE = 20
"""Labels up to which the confusion matrix is a table with numbers."""
MOST_PAIRS = 20


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
    counted: str = "rows"
    unmatched: str = ""
    """The label that stands for what only the truth or only the prediction has, where there is one."""
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
    counted, unmatched = evaluation.counted, evaluation.unmatched or ""
    if len(rows) > MOST_LABELS_IN_TABLE:
        chart = confusion_map(rows, labels, counted)
        return Confusion(labels, counted, unmatched, map=chart, pairs=_pairs(rows, labels))
    return Confusion(labels, counted, unmatched, rows=_table(rows, labels, unmatched))


def _table(
    matrix: Sequence[Sequence[float]], labels: Sequence[str], unmatched: str
) -> list[tuple[str, Sequence[Cell], str]]:
    """Return label, cells and sum of every row; what neither truth nor prediction has is not counted."""
    found: list[tuple[str, Sequence[Cell], str]] = []
    for i, row in enumerate(matrix):
        cells = [_cell(amount, sum(row), hit=i == j) for j, amount in enumerate(row)]
        if labels[i] == unmatched:
            cells[i] = Cell("", "", "0", "nothing")
        found.append((labels[i], cells, readable.count(sum(row))))
    return found


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
