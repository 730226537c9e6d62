"""Metrics as pure functions of arrays, computed for many weightings of the rows at once."""

from tunesmith.metrics.classification import (
    calibration_bins,
    confusion_matrix,
    multi_label_metrics,
    multi_label_per_class,
    single_label_metrics,
    single_label_per_class,
)
from tunesmith.metrics.curves import calibration_curve, ranking_curves
from tunesmith.metrics.ranking import areas, macro_areas
from tunesmith.metrics.regression import average_ranks, regression_metrics

__all__ = [
    "areas",
    "average_ranks",
    "calibration_bins",
    "calibration_curve",
    "confusion_matrix",
    "macro_areas",
    "multi_label_metrics",
    "multi_label_per_class",
    "ranking_curves",
    "regression_metrics",
    "single_label_metrics",
    "single_label_per_class",
]
