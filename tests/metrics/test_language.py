from __future__ import annotations

import math

import numpy as np
import pytest

from tunesmith.metrics import language_metrics


def test_each_replicate_is_that_of_its_rows() -> None:
    random = np.random.default_rng(0)
    tokens = random.integers(1, 9, 12).astype(np.float64)
    loss, right, num_bytes = tokens * random.uniform(0.1, 4, 12), np.floor(tokens / 2), tokens * 3
    weights = random.integers(0, 3, (6, 12)).astype(np.float64)
    found = language_metrics(loss, tokens, right, num_bytes, weights)
    for replicate, counts in enumerate(weights):
        rows = np.repeat(np.arange(12), counts.astype(int))
        assert found["perplexity"][replicate] == pytest.approx(math.exp(loss[rows].sum() / tokens[rows].sum()))
        assert found["token_accuracy"][replicate] == pytest.approx(right[rows].sum() / tokens[rows].sum())
        assert found["bits_per_byte"][replicate] == pytest.approx(
            loss[rows].sum() / math.log(2) / num_bytes[rows].sum()
        )


def test_what_does_not_exist_is_nan_and_what_is_too_much_infinite() -> None:
    found = language_metrics(np.array([1e6, 0.0]), np.array([1.0, 0.0]), np.zeros(2), np.zeros(2), [[1, 0], [0, 1]])
    assert found["perplexity"][0] == math.inf
    assert math.isnan(found["perplexity"][1])
    assert np.isnan(found["bits_per_byte"]).all()
