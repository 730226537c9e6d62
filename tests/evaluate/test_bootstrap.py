from __future__ import annotations

import json

import numpy as np
import pytest

from tunesmith.evaluate import baseline, bootstrap, compare_paired, evaluate, interval, resamples
from tunesmith.tasks import Classification, Regression
from tunesmith.types import InputError

LABELS = ("a", "b", "c")


def some_outputs(num_rows: int = 120, skill: float = 1.5, seed: int = 0) -> tuple[dict, dict]:
    random = np.random.default_rng(seed)
    label = np.arange(num_rows) % 3
    scores = random.normal(size=(num_rows, 3)) + skill * np.eye(3)[label]
    return {"scores": scores.astype(np.float32)}, {"label": label}


TASK = Classification(labels=LABELS, multi_label=False)


def test_resamples_are_draws_with_replacement(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = np.concatenate(list(resamples(50, 200, seed=3)))
    assert whole.shape == (200, 50)
    assert (whole.sum(axis=1) == 50).all()
    assert whole.mean(axis=0) == pytest.approx(np.ones(50), abs=0.35)
    assert whole.var() == pytest.approx(1 - 1 / 50, abs=0.05)  # multinomial
    monkeypatch.setattr(bootstrap, "MAX_WEIGHTS", 333)
    blocks = list(resamples(50, 200, seed=3))
    assert len(blocks) > 10
    np.testing.assert_array_equal(np.concatenate(blocks), whole)
    assert not np.array_equal(np.concatenate(list(resamples(50, 200, seed=4))), whole)


def test_interval_is_the_percentiles_of_what_is_defined() -> None:
    values = np.append(np.arange(101.0), [np.nan, np.nan])
    assert interval(50.0, values, 0.9) == pytest.approx({"value": 50.0, "low": 5.0, "high": 95.0})
    assert interval(float("nan"), values, 0.9) == {"value": None, "low": None, "high": None}
    assert interval(1.0, np.array([np.nan]), 0.9) == {"value": 1.0, "low": None, "high": None}


def test_interval_of_a_mean_agrees_with_theory() -> None:
    outputs, targets = some_outputs(400)
    found = evaluate(TASK, outputs, targets, seed=0, num_resamples=2000)["metrics"]["accuracy"]
    spread = 1.96 * np.sqrt(found["value"] * (1 - found["value"]) / 400)
    assert found["low"] == pytest.approx(found["value"] - spread, abs=0.01)
    assert found["high"] == pytest.approx(found["value"] + spread, abs=0.01)


def test_evaluation_is_whole_and_json() -> None:
    outputs, targets = some_outputs()
    columns = {"text": [f"text {i}" for i in range(120)], "row": [f"t.csv:{i + 2}" for i in range(120)]}
    found = evaluate(TASK, outputs, targets, seed=1, num_resamples=100, columns=columns)
    assert found == json.loads(json.dumps(found, allow_nan=False))
    assert found["num_rows"] == 120
    assert set(found["metrics"]) == set(TASK.higher_is_better) - {"hamming_loss"}
    for name, one in found["metrics"].items():
        assert one["low"] <= one["high"], name
    assert [row["label"] for row in found["per_label"]] == list(LABELS)
    for row in found["per_label"]:
        assert row["recall"]["low"] <= row["recall"]["value"] <= row["recall"]["high"]
    recalls = [row["recall"]["value"] for row in found["per_label"]]
    assert np.mean(recalls) == pytest.approx(found["metrics"]["macro_recall"]["value"])
    assert found == evaluate(TASK, outputs, targets, seed=1, num_resamples=100, columns=columns)


def test_regression_evaluation_is_json_even_when_undefined() -> None:
    targets = {"label": np.arange(30, dtype=np.float32)}
    constant = {"value": np.full(30, 3.0, dtype=np.float32)}
    found = evaluate(Regression(), constant, targets, seed=0, num_resamples=50, columns={"text": ["x"] * 30})
    json.dumps(found, allow_nan=False)
    assert found["metrics"]["pearson"] == {"value": None, "low": None, "high": None}
    assert found["metrics"]["mae"]["value"] > 0


def test_paired_difference_is_narrower_than_unpaired() -> None:
    first, targets = some_outputs(300)
    scores = first["scores"].copy()
    scores[:12] = -scores[:12]  # worse on a few rows, the same on the others
    second = {"scores": scores}
    found = compare_paired(TASK, first, second, targets, seed=0)
    alone = [evaluate(TASK, outputs, targets, seed=0)["metrics"]["accuracy"] for outputs in (first, second)]
    accuracy = found["accuracy"]
    assert accuracy["value"] == pytest.approx(alone[0]["value"] - alone[1]["value"])
    assert 0 <= accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert accuracy["high"] - accuracy["low"] < 0.5 * (alone[0]["high"] - alone[0]["low"])


def test_a_model_does_not_differ_from_itself() -> None:
    outputs, targets = some_outputs()
    for one in compare_paired(TASK, outputs, outputs, targets, seed=0, num_resamples=50).values():
        assert one == {"value": 0.0, "low": 0.0, "high": 0.0}


def test_evaluation_against_a_baseline() -> None:
    train = {"text": ["good film", "bad film", "good fun", "bad joke"] * 5, "label": ["p", "n", "p", "n"] * 5}
    test = {"text": ["good joke", "bad fun", "a film"], "label": ["p", "n", "p"]}
    task = Classification().bind(train)
    other = baseline(task, train, test, seed=0)
    assert other is not None
    outputs = task.outputs_from(np.array([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6]]))
    found = evaluate(task, outputs, task.targets(test), seed=0, num_resamples=50, against=other)
    assert found["baseline"]["metrics"].keys() == found["metrics"].keys() == found["difference"].keys()
    for name, one in found["difference"].items():
        expected = found["metrics"][name]["value"] - found["baseline"]["metrics"][name]["value"]
        assert one["value"] == pytest.approx(expected)


def test_no_rows_are_refused() -> None:
    with pytest.raises(InputError, match="no rows"):
        evaluate(TASK, {"scores": np.empty((0, 3))}, {"label": np.empty(0)}, seed=0)


@pytest.mark.slow
def test_many_rows_stay_within_memory() -> None:
    """100,000 rows: the weights of all replicates at once would take 800 MB per thousand."""
    import tracemalloc

    outputs, targets = some_outputs(100_000)
    outputs, targets = {"scores": outputs["scores"][:, :2]}, {"label": targets["label"] % 2}
    task = Classification(labels=("a", "b"), multi_label=False)
    tracemalloc.start()
    evaluate(task, outputs, targets, seed=0, num_resamples=200)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500e6
