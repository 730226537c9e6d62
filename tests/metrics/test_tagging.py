"""Entities as seqeval counts them."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunesmith import metrics

TAGS = ("O", "B-a", "I-a", "B-b", "I-b", "B-c", "I-c")
KINDS = ("a", "b", "c")

sentences = st.lists(
    st.lists(st.tuples(st.sampled_from(TAGS), st.sampled_from(TAGS)), min_size=1, max_size=9), min_size=1, max_size=6
)


def found(rows: Sequence[Sequence[str]]) -> metrics.Entities:
    flat = [tag for row in rows for tag in row]
    kinds = np.array([-1 if tag == "O" else KINDS.index(tag[2:]) for tag in flat], dtype=np.int64)
    opens = np.array([tag[0] == "B" for tag in flat], dtype=bool)
    return metrics.find_entities(kinds, opens, np.cumsum([0, *map(len, rows)]).astype(np.int64))


def measured(truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], weights: object = None) -> dict:
    right = np.array([sum(a == b for a, b in zip(*rows, strict=True)) for rows in zip(truth, predicted, strict=True)])
    tokens = np.array([len(row) for row in truth])
    weights = np.ones((1, len(truth))) if weights is None else weights
    return metrics.entity_metrics(
        found(truth), found(predicted), 3, weights, right_N=right.astype(float), tokens_N=tokens.astype(float)
    )


def spans(row: Sequence[str]) -> set[tuple[str, int, int]]:
    """The entities of one row, token by token: the rule of conlleval, written out."""
    result, start, kind = set(), 0, ""
    for i, tag in enumerate([*row, "O"]):
        if kind and (tag == "O" or tag[0] == "B" or tag[2:] != kind):
            result.add((kind, start, i))
            kind = ""
        if not kind and tag != "O":
            start, kind = i, tag[2:]
    return result


@given(sentences)
def test_entities_and_counts_are_those_of_the_rule(pairs: list[list[tuple[str, str]]]) -> None:
    truth, predicted = ([[pair[side] for pair in row] for row in pairs] for side in (0, 1))
    borders = np.cumsum([0, *map(len, truth)])
    one = found(truth)
    as_sets = {(KINDS[k], s - borders[r], e - borders[r], r) for k, s, e, r in
               zip(one.kinds, one.starts, one.ends, one.rows, strict=True)}  # fmt: skip
    assert as_sets == {(*span, row) for row, tags in enumerate(truth) for span in spans(tags)}
    right = sum(len(spans(a) & spans(b)) for a, b in zip(truth, predicted, strict=True))
    num_true, num_predicted = (sum(len(spans(row)) for row in rows) for rows in (truth, predicted))
    values = measured(truth, predicted)
    if not num_true and not num_predicted:  # nothing to judge is no score of 0
        assert all(np.isnan(value).all() for name, value in values.items() if name != "accuracy")
        return
    assert values["micro_precision"][0] == pytest.approx(right / num_predicted if num_predicted else 0)
    assert values["micro_recall"][0] == pytest.approx(right / num_true if num_true else 0)
    assert values["micro_f1"][0] == pytest.approx(2 * right / (num_true + num_predicted) if right else 0)


@given(sentences)
def test_scores_are_those_of_seqeval(pairs: list[list[tuple[str, str]]]) -> None:
    seqeval = pytest.importorskip("seqeval.metrics", reason="seqeval is not installed")
    truth, predicted = ([[pair[side] for pair in row] for row in pairs] for side in (0, 1))
    values = measured(truth, predicted)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for average in ("micro", "macro"):
            expected = {
                "precision": seqeval.precision_score, "recall": seqeval.recall_score, "f1": seqeval.f1_score
            }  # fmt: skip
            for name, score in expected.items():
                if not any(spans(row) for row in [*truth, *predicted]):
                    continue  # seqeval has no types to take a mean of
                reference = score(truth, predicted, average=average, zero_division=0)
                assert values[f"{average}_{name}"][0] == pytest.approx(reference, abs=1e-12)
        assert values["accuracy"][0] == pytest.approx(seqeval.accuracy_score(truth, predicted), abs=1e-12)


@given(sentences, st.integers(0, 100))
def test_weights_stand_for_repeated_rows(pairs: list[list[tuple[str, str]]], seed: int) -> None:
    truth, predicted = ([[pair[side] for pair in row] for row in pairs] for side in (0, 1))
    counts = np.random.default_rng(seed).integers(0, 3, len(pairs))
    counts[0] += 1
    repeated = [row for row, count in enumerate(counts) for _ in range(count)]
    weighted = measured(truth, predicted, counts[None].astype(float))
    written_out = measured([truth[row] for row in repeated], [predicted[row] for row in repeated])
    for name, values in written_out.items():
        assert weighted[name][0] == pytest.approx(values[0], abs=1e-12, nan_ok=True)
