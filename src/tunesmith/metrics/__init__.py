"""Metrics as pure functions of arrays, computed for many weightings of the rows at once."""

from tunesmith.metrics.answers import answer_metrics, answer_statistics, require_answer_metrics, signatures
from tunesmith.metrics.classification import (
    calibration_bins,
    confusion_matrix,
    multi_label_metrics,
    multi_label_per_class,
    single_label_metrics,
    single_label_per_class,
)
from tunesmith.metrics.curves import calibration_curve, ranking_curves
from tunesmith.metrics.language import language_metrics
from tunesmith.metrics.preference import JudgedAnswers, RowMargins, by_side, preference_metrics, weighted_mean
from tunesmith.metrics.ranges import RANGES, within_range
from tunesmith.metrics.ranking import areas, macro_areas
from tunesmith.metrics.regression import average_ranks, regression_metrics
from tunesmith.metrics.reranking import RankedQuery, reranking_metrics
from tunesmith.metrics.retrieval import retrieval_metrics
from tunesmith.metrics.spans import compare_answer, span_metrics
from tunesmith.metrics.tagging import Entities, entity_metrics, entity_metrics_per_kind, find_entities, match_entities

__all__ = [
    "RANGES",
    "Entities",
    "JudgedAnswers",
    "RankedQuery",
    "RowMargins",
    "answer_metrics",
    "answer_statistics",
    "areas",
    "average_ranks",
    "by_side",
    "calibration_bins",
    "calibration_curve",
    "compare_answer",
    "confusion_matrix",
    "entity_metrics",
    "entity_metrics_per_kind",
    "find_entities",
    "language_metrics",
    "macro_areas",
    "match_entities",
    "multi_label_metrics",
    "multi_label_per_class",
    "preference_metrics",
    "ranking_curves",
    "regression_metrics",
    "require_answer_metrics",
    "reranking_metrics",
    "retrieval_metrics",
    "signatures",
    "single_label_metrics",
    "single_label_per_class",
    "span_metrics",
    "weighted_mean",
    "within_range",
]
