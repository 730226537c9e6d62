from __future__ import annotations

import json

import numpy as np
import pytest

from tunesmith.evaluate import mistakes, predictions_table
from tunesmith.tasks import Classification, MaskedLM, Regression

COLUMNS = {
    "text": ["first", "second", "third", "x" * 5000],
    "label": ["a", "b", "a", "b"],
    "row": [f"d.csv:{i}" for i in range(2, 6)],
}
TASK = Classification().bind(COLUMNS)
OUTPUTS = TASK.outputs_from(np.array([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.99, 0.01]]))


def test_surest_mistakes_come_first() -> None:
    found = mistakes(TASK, OUTPUTS, TASK.targets(COLUMNS), COLUMNS)
    assert [(one["row"], one["label"], one["prediction"]) for one in found] == [
        ("d.csv:5", "b", "a"),
        ("d.csv:3", "b", "a"),
    ]
    assert found[0]["score"] == pytest.approx(0.99, abs=1e-6)
    assert found[0]["text_pair"] is None
    assert len(found[0]["text"]) == 2000
    json.dumps(found)
    assert len(mistakes(TASK, OUTPUTS, TASK.targets(COLUMNS), COLUMNS, limit=1)) == 1


def test_no_mistakes() -> None:
    columns = {"text": ["t"], "label": ["a"]}
    assert mistakes(TASK, {"scores": OUTPUTS["scores"][:1]}, TASK.targets(columns), columns) == []


def test_largest_errors_of_a_regression() -> None:
    columns = {"text": ["p", "q"], "text_pair": ["r", None], "label": [1.0, 2.0]}
    task = Regression()
    found = mistakes(task, {"value": np.array([1.5, -1.0], dtype=np.float32)}, task.targets(columns), columns)
    assert [(one["row"], one["error"]) for one in found] == [("1", -3.0), ("0", 0.5)]
    assert "score" not in found[0]
    assert found[1]["text_pair"] == "r"


def test_table_of_predictions() -> None:
    table = predictions_table(TASK, OUTPUTS, TASK.targets(COLUMNS), COLUMNS)
    assert list(table) == ["row", "text", "label", "prediction", "score", "p:a", "p:b"]
    assert {len(values) for values in table.values()} == {4}
    assert table["prediction"] == ["a"] * 4
    np.testing.assert_allclose(np.add(table["p:a"], table["p:b"]), 1.0)


def test_table_without_labels() -> None:
    table = predictions_table(TASK, OUTPUTS, {}, {"text": COLUMNS["text"]})
    assert list(table) == ["row", "text", "prediction", "score", "p:a", "p:b"]
    assert table["row"] == ["0", "1", "2", "3"]


def test_table_becomes_parquet() -> None:
    import pyarrow

    several = Classification(labels=("a", "b"), multi_label=True)
    table = predictions_table(several, OUTPUTS, several.targets({"label": [["a"], [], ["a", "b"], ["b"]]}), COLUMNS)
    assert pyarrow.table(table).num_rows == 4
    assert table["label"][2] == ["a", "b"]
    number = predictions_table(Regression(), {"value": np.ones(4, dtype=np.float32)}, {}, {"text": COLUMNS["text"]})
    assert list(number) == ["row", "text", "prediction"]


def test_texts_that_are_modelled_have_no_mistakes_but_perplexities(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is right or wrong of such rows, whatever ``decode`` says of them."""
    answers = [{"value": 8.0, "score": 0.1}, {"perplexity": 9.0, "reference": "r", "answer": "a"}, {"perplexity": 7.0}]
    monkeypatch.setattr(MaskedLM, "errors", lambda *_: np.array([8.0, 9.0, 0.0]))
    monkeypatch.setattr(MaskedLM, "truth", lambda *_: [None, None])
    monkeypatch.setattr(MaskedLM, "decode", lambda *_: [answers[1], answers[0]])
    found = mistakes(MaskedLM(), {}, {}, {"text": ["p", "q", "r"]})
    shared = {"text_pair": None}
    assert found == [
        {"row": "1", "text": "q", **shared, "label": "r", "prediction": "a", "perplexity": 9.0},
        {"row": "0", "text": "p", **shared, "label": None, "prediction": None, "perplexity": 8.0},
    ]
