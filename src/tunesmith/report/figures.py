"""The charts of one run: from records to drawings, each with its caption."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tunesmith.readable import count, is_higher_better, metric_title, number, percent
from tunesmith.report.charts import (
    Axis,
    Series,
    histogram,
    line_chart,
    scatter_chart,
    shorten,
    smooth,
)
from tunesmith.report.load import RunRecord
from tunesmith.report.records import CheckRecord, Curve, Curves, Evaluation, Residuals
from tunesmith.report.strips import heat_map

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_CURVES = 6
"""Curves drawn in colour; with more labels the others are drawn in grey."""
LONGEST_NAME = 28
AVERAGE = "micro-average"
"""Name of the curve of all labels' decisions together."""


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart with what stands above and below it."""

    title: str
    chart: Markup
    note: str = ""
    wide: bool = False


def training_figures(record: RunRecord) -> list[Figure]:
    """Return loss with learning rate, and the validation metrics; whatever the run has recorded."""
    figures: list[Figure] = []
    last = record.steps[-1].step if record.steps else record.checks[-1].step if record.checks else 0
    axis = Axis("step", (0.0, float(max(last, 1))))
    if record.steps:
        figures.append(_loss(record, axis))
    figures.extend(_validation(record.checks, axis))
    figures.extend(_fit(record.checks, axis))
    if record.steps:
        figures.append(_rate(record, axis))
        figures.extend(_gradient(record, axis))
    return figures


def _loss(record: RunRecord, axis: Axis) -> Figure:
    steps = record.steps
    raw = [(float(step.step), step.loss) for step in steps]
    window = max(3, len(steps) // 12)
    is_long = len(steps) >= 12
    series = [Series("each step", raw, 0, "faint" if is_long else "line and dots", readout=not is_long)]
    if is_long:
        averaged = smooth([loss for _, loss in raw], window)
        series.append(Series("smoothed", [(x, y) for (x, _), y in zip(raw, averaged, strict=True)], 0))
    checks = [(float(check.step), check.loss) for check in record.checks if math.isfinite(check.loss)]
    if checks:
        series.append(Series("validation", checks, 1, "line and dots"))
    fits = [(float(one.step), one.fit.loss) for one in record.checks if one.fit and math.isfinite(one.fit.loss)]
    if fits:
        series.append(Series("training rows, scored alike", fits, 2, "line and dots"))
    skipped = [step for step in steps if step.skipped]
    notes = [f"Smoothed over {window} steps."] if is_long else []
    if skipped:
        reasons = sorted({step.skipped for step in skipped})
        notes.append(f"{count(len(skipped))} of {count(len(steps))} steps were skipped: {', '.join(reasons)}.")
    finite = [loss for _, loss in raw if math.isfinite(loss)]
    description = (
        f"Training loss over {count(len(steps))} steps, from {number(finite[0])} to {number(finite[-1])}."
        if finite
        else "No step had a finite loss."
    )
    chart = line_chart(
        series, title="Loss by step", description=description, x_axis=axis, y_axis=Axis("loss"), shape="tall"
    )
    return Figure("Loss", chart, " ".join(notes), wide=True)


def _rate(record: RunRecord, axis: Axis) -> Figure:
    points = [(float(step.step), step.learning_rate) for step in record.steps]
    peak = max((rate for _, rate in points if math.isfinite(rate)), default=math.nan)
    chart = line_chart(
        [Series("learning rate", points, 3)],
        title="Learning rate by step",
        description=f"Its peak is {number(peak)}.",
        x_axis=axis,
        y_axis=Axis("", ticks=3),
    )
    return Figure("Learning rate", chart)


def _gradient(record: RunRecord, axis: Axis) -> list[Figure]:
    points = [(float(step.step), step.gradient_norm) for step in record.steps]
    if not any(math.isfinite(norm) for _, norm in points):
        return []
    is_long = len(points) >= 12
    series = [Series("each step", points, 2, "faint" if is_long else "line", in_legend=False, readout=not is_long)]
    if is_long:
        averaged = smooth([norm for _, norm in points], len(points) // 12)
        series.append(Series("smoothed", [(x, y) for (x, _), y in zip(points, averaged, strict=True)], 2))
    chart = line_chart(
        series,
        title="Gradient norm by step",
        description="L2 norm of the whole gradient before clipping.",
        x_axis=axis,
        y_axis=Axis("L2 norm before clipping", ticks=3),
    )
    return [Figure("Gradient norm", chart)]


def _validation(checks: Sequence[CheckRecord], axis: Axis) -> list[Figure]:
    """Draw validation metrics: those of alike size and direction share a chart."""
    names = list(dict.fromkeys(name for check in checks for name in check.metrics))
    curves = {
        name: [(float(c.step), c.metrics[name]) for c in checks if math.isfinite(c.metrics.get(name, math.nan))]
        for name in names
    }
    shares = [name for name in names if curves[name] and all(-1 <= y <= 1 for _, y in curves[name])]
    higher = [name for name in shares if is_higher_better(name)]
    lower = [name for name in shares if name not in higher]
    alone = [[name] for name in names if name not in shares and curves[name]]
    return [_metric_chart(group, curves, axis) for group in [higher, lower, *alone[:4]] if group]


def _fit(checks: Sequence[CheckRecord], axis: Axis) -> list[Figure]:
    """Draw what training rows are better by than validation rows, with the ends of its interval."""
    known = [(float(one.step), one.fit) for one in checks if one.fit and math.isfinite(one.fit.gap.interval.low)]
    if len(known) < 2:
        return []
    gaps = [(step, fit.gap.interval) for step, fit in known]
    title, gap = metric_title(known[-1][1].metric), gaps[-1][1]
    band = [(step, one.low, one.high) for step, one in gaps]
    chart = line_chart(
        [Series("gap", [(step, one.value) for step, one in gaps], 0, "line and dots", band=band)],
        title=f"Gap between training and validation rows: {title}",
        description=f"It ends at {number(gap.value)} [{number(gap.low)}, {number(gap.high)}].",
        x_axis=axis,
        y_axis=Axis(f"better on training rows by, {title.lower()}", ticks=3),
    )
    return [Figure("Gap to training rows", chart)]


def _metric_chart(names: Sequence[str], curves: dict[str, list[tuple[float, float]]], axis: Axis) -> Figure:
    series = [
        Series(metric_title(name), curves[name], index, "line and dots")
        for index, name in enumerate(names[:MOST_CURVES])
    ]
    last = "; ".join(f"{line.name} ends at {number(line.points[-1][1])}" for line in series)
    title = f"Validation: {series[0].name}"
    if len(series) > 1:
        title = "Validation metrics" if is_higher_better(names[0]) else "Validation losses (lower is better)"
    note = f"The first {MOST_CURVES} of {len(names)} metrics." if len(names) > MOST_CURVES else ""
    chart = line_chart(series, title=f"{title} by step", description=f"{last}.", x_axis=axis, y_axis=Axis(""))
    return Figure(title, chart, note)


def curve_figures(curves: Curves | None, *, multi_label: bool = False) -> list[Figure]:
    """Return ROC, precision-recall and reliability charts, as far as they were recorded."""
    figures: list[Figure] = []
    if curves is None:
        return figures
    if any(curve.points for curve in curves.roc):
        figures.append(_curves(curves.roc, "ROC curve", "false positive rate", "true positive rate", diagonal=True))
    if any(curve.points for curve in curves.precision_recall):
        figures.append(_curves(curves.precision_recall, "Precision and recall", "recall", "precision"))
    if any(bin_.count > 0 for bin_ in curves.calibration):
        figures.append(_reliability(curves, multi_label=multi_label))
    return figures


def _curves(curves: Sequence[Curve], title: str, x_name: str, y_name: str, *, diagonal: bool = False) -> Figure:
    drawn = [curve for curve in curves if curve.points]
    average = [curve for curve in drawn if curve.label == AVERAGE and len(drawn) > 1]
    labels = [curve for curve in drawn if curve not in average]
    by_area = sorted(labels, key=lambda curve: curve.area if math.isfinite(curve.area) else 2.0)
    is_crowded = len(labels) > MOST_CURVES
    shown = by_area[:MOST_CURVES] if is_crowded else labels
    series = [Series(_curve_name(curve, alone=len(drawn) == 1), curve.points, i) for i, curve in enumerate(shown)]
    series += [Series(_curve_name(curve, alone=False), curve.points, -1, "dashed") for curve in average]
    if is_crowded:
        others = [curve for curve in labels if curve not in shown]
        context = [
            Series(
                f"{len(others)} other label{'s' if len(others) > 1 else ''}",
                _coarse(curve),
                -1,
                "faint",
                in_legend=not index,
                readout=False,
            )
            for index, curve in enumerate(others)
        ]
        series = [*context, *series]
    areas = [curve.area for curve in drawn if math.isfinite(curve.area)]
    description = f"Areas under the curves from {number(min(areas))} to {number(max(areas))}." if areas else ""
    note = f"In colour: the {MOST_CURVES} labels with the smallest area." if is_crowded else ""
    if len(drawn) == 1 and areas:
        note = f"Area under the curve {number(areas[0])}" + (f" for “{drawn[0].label}”." if drawn[0].label else ".")
    chart = line_chart(
        series,
        title=title,
        description=description,
        x_axis=Axis(x_name, (0.0, 1.0)),
        y_axis=Axis(y_name, (0.0, 1.0)),
        diagonal=diagonal,
        shape="square",
    )
    return Figure(title, chart, note)


def _coarse(curve: Curve) -> list[tuple[float, float]]:
    """Keep about 40 points of a curve that is only context."""
    stride = max(1, len(curve.points) // 40)
    return [*curve.points[::stride], curve.points[-1]]


def _curve_name(curve: Curve, *, alone: bool) -> str:
    name = shorten(curve.label or "curve", LONGEST_NAME)
    return name if alone or not math.isfinite(curve.area) else f"{name} ({number(curve.area)})"


def _reliability(curves: Curves, *, multi_label: bool) -> Figure:
    """Draw accuracy against confidence, and below it how many rows each point stands for."""
    bins = [bin_ for bin_ in curves.calibration if bin_.count > 0]
    points = [(bin_.confidence, bin_.accuracy) for bin_ in bins]
    total = sum(bin_.count for bin_ in bins)
    gap = (
        sum(
            bin_.count * abs(bin_.confidence - bin_.accuracy)
            for bin_ in bins
            if math.isfinite(bin_.confidence - bin_.accuracy)
        )
        / total
    )
    x_axis = Axis("probability" if multi_label else "confidence", (0.0, 1.0))
    share, unit = ("share that has the label", "decisions") if multi_label else ("share correct", "rows")
    top = line_chart(
        [Series(share, points, 0, "line and dots")],
        title="Reliability",
        description=f"The {share} by {x_axis.label}; mean distance from the diagonal {number(gap)}.",
        x_axis=x_axis,
        y_axis=Axis(share, (0.0, 1.0)),
        diagonal=True,
    )
    edges = [bins[0].low]
    counts: list[float] = []
    for bin_ in bins:  # empty bins in between are gaps
        if bin_.low > edges[-1]:
            edges.append(bin_.low)
            counts.append(0.0)
        edges.append(bin_.high)
        counts.append(bin_.count)
    below = histogram(
        edges,
        counts,
        title=f"{unit.capitalize()} by {x_axis.label}",
        x_axis=x_axis,
        y_axis=Axis(unit, ticks=2),
        description=f"{count(total)} {unit} in {len(bins)} bins.",
        shape="low",
    )
    meaning = "a probability of 0.8 comes true" if multi_label else "a confidence of 80% is right"
    note = f"On the diagonal {meaning} 80% of the time. Mean distance from it: {number(gap)}."
    return Figure("Calibration", top + below, note)


def regression_figures(evaluation: Evaluation) -> list[Figure]:
    """Return predicted against true values and the histogram of residuals."""
    figures: list[Figure] = []
    if evaluation.scatter:
        chart = scatter_chart(
            evaluation.scatter,
            title="Predicted and true values",
            x_axis=Axis("true"),
            y_axis=Axis("predicted"),
            description=f"{count(len(evaluation.scatter))} rows; on the diagonal the prediction is right.",
            diagonal=True,
        )
        is_part = math.isfinite(evaluation.num_rows) and evaluation.num_rows > len(evaluation.scatter)
        note = f"{count(len(evaluation.scatter))} of {count(evaluation.num_rows)} rows." if is_part else ""
        figures.append(Figure("Predicted and true", chart, note))
    if evaluation.residuals and evaluation.residuals.counts:
        figures.append(_residuals(evaluation.residuals))
    return figures


def _residuals(residuals: Residuals) -> Figure:
    total = sum(residuals.counts)
    middle = sum(
        (low + high) / 2 * amount
        for low, high, amount in zip(residuals.edges, residuals.edges[1:], residuals.counts, strict=False)
    ) / max(total, 1)
    chart = histogram(
        residuals.edges,
        residuals.counts,
        title="Residuals",
        description=f"{count(total)} residuals around {number(middle)}.",
        x_axis=Axis("predicted minus true"),
        y_axis=Axis("rows"),
        shape="square",
    )
    return Figure(
        "Residuals",
        chart,
        f"Mean {number(middle)}: predictions are {'too high' if middle > 0 else 'too low'} on average."
        if round(middle, 3)
        else "",
    )


def confusion_map(matrix: Sequence[Sequence[float]], labels: Sequence[str], counted: str = "rows") -> Markup:
    """Return the compact heat map for many labels."""
    right = sum(row[i] for i, row in enumerate(matrix))
    total = sum(map(sum, matrix)) or 1.0
    return heat_map(
        matrix,
        labels,
        title="Confusion matrix",
        description=f"{len(matrix)} labels; {percent(right / total)} of the {counted} are on the diagonal.",
    )


__all__ = ["Figure", "confusion_map", "curve_figures", "regression_figures", "training_figures"]
