"""Metrics of tagged tokens: entities as conlleval (Tjong Kim Sang 2002) and seqeval count them, over replicates.

An entity is right when its type, its first and its last token are. Tags that break their
scheme are read leniently: an ``I-X`` after anything but X opens an entity.

Shapes: N rows, T tokens of all rows, E entities, C types, R replicates.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tunesmith.metrics.weighting import FloatArray, IntArray, Metrics, group_sums, mean_where, over_replicates, ratio


@dataclass(frozen=True, slots=True)
class Entities:
    """The entities of all rows, in the order of their first tokens."""

    kinds: IntArray
    """[E]: type of each."""
    starts: IntArray
    """[E]: first token, counted over all rows."""
    ends: IntArray
    """[E]: the token after the last."""
    rows: IntArray
    """[E]: row of each."""

    def __len__(self) -> int:
        return len(self.kinds)


def find_entities(kinds_T: IntArray, opens_T: npt.NDArray[np.bool_], offsets: IntArray) -> Entities:
    """Return the entities of tokens with a type (-1: outside), of which some open an entity whatever stands before.

    ``offsets`` [N + 1] say where each row starts: no entity goes beyond its row.
    """
    num_tokens = len(kinds_T)
    row_T = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    changes_T = np.ones(num_tokens, dtype=np.bool_)
    if num_tokens:
        changes_T[1:] = (kinds_T[1:] != kinds_T[:-1]) | opens_T[1:] | (row_T[1:] != row_T[:-1])
    starts = np.flatnonzero(changes_T)
    ends = np.append(starts[1:], num_tokens)[: len(starts)]
    inside = kinds_T[starts] >= 0
    starts, ends = starts[inside], ends[inside]
    return Entities(kinds_T[starts], starts, ends, row_T[starts])


def match_entities(truth: Entities, predicted: Entities) -> tuple[IntArray, IntArray]:
    """Return which true and which predicted entities cover the same tokens, whatever their types: indices, pairwise."""
    length = int(max(truth.ends.max(initial=0), predicted.ends.max(initial=0))) + 1
    true_keys, predicted_keys = truth.starts * length + truth.ends, predicted.starts * length + predicted.ends
    _, first, second = np.intersect1d(true_keys, predicted_keys, assume_unique=True, return_indices=True)
    return first.astype(np.int64), second.astype(np.int64)


def entity_metrics(
    truth: Entities,
    predicted: Entities,
    num_kinds: int,
    weights_RN: npt.ArrayLike,
    *,
    right_N: FloatArray,
    tokens_N: FloatArray,
) -> Metrics:
    """Return precision, recall and F1 of entities, and the share of tokens with the right tag, [R] each.

    ``right_N`` of ``tokens_N`` tokens of each row have the right tag. Micro counts all types
    together; macro is the mean over the types that occur in truth or prediction. A replicate with entities in the
    truth or the predictions alone has 0; one without any in either has none to judge, and nan.
    """

    def compute(weights_NR: FloatArray) -> Metrics:
        counts = _counts(truth, predicted, num_kinds, weights_NR)
        present_CR = (counts[0] > 0) | (counts[1] > 0)
        micro = _scores(*(count_CR.sum(axis=0, keepdims=True) for count_CR in counts))
        macro = {name: mean_where(value_CR, present_CR) for name, value_CR in _scores(*counts).items()}
        any_R = present_CR.any(axis=0)
        return (
            {f"micro_{name}": np.where(any_R, value_1R[0], np.nan) for name, value_1R in micro.items()}
            | {f"macro_{name}": value_R for name, value_R in macro.items()}
            | {"accuracy": ratio(right_N @ weights_NR, tokens_N @ weights_NR, np.nan)}
        )

    return over_replicates(compute, weights_RN, len(tokens_N))


def entity_metrics_per_kind(
    truth: Entities, predicted: Entities, num_kinds: int, num_rows: int, weights_RN: npt.ArrayLike
) -> Metrics:
    """Return ``precision``, ``recall`` and ``f1`` of every type, [R, C] each.

    nan is the recall of a type that the truth lacks, and all of one that the predictions lack, too.
    """

    def compute(weights_NR: FloatArray) -> Metrics:
        true_CR, predicted_CR, right_CR = _counts(truth, predicted, num_kinds, weights_NR)
        occurs_CR = (true_CR > 0) | (predicted_CR > 0)
        needs = {"f1": occurs_CR, "precision": occurs_CR, "recall": true_CR > 0}
        scores = _scores(true_CR, predicted_CR, right_CR)
        return {name: np.where(needs[name], value_CR, np.nan).T for name, value_CR in scores.items()}

    return over_replicates(compute, weights_RN, num_rows)


def _counts(
    truth: Entities, predicted: Entities, num_kinds: int, weights_NR: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the weight of each type's entities in the truth, in the predictions and in both, [C, R] each."""
    first, second = match_entities(truth, predicted)
    first = first[truth.kinds[first] == predicted.kinds[second]]
    return (
        _by_kind(truth.kinds, truth.rows, num_kinds, weights_NR),
        _by_kind(predicted.kinds, predicted.rows, num_kinds, weights_NR),
        _by_kind(truth.kinds[first], truth.rows[first], num_kinds, weights_NR),
    )


def _by_kind(kinds_E: IntArray, rows_E: IntArray, num_kinds: int, weights_NR: FloatArray) -> FloatArray:
    return group_sums(kinds_E, num_kinds, weights_NR[rows_E])


def _scores(true_CR: FloatArray, predicted_CR: FloatArray, right_CR: FloatArray) -> Metrics:
    return {
        "f1": ratio(2.0 * right_CR, true_CR + predicted_CR),
        "precision": ratio(right_CR, predicted_CR),
        "recall": ratio(right_CR, true_CR),
    }
