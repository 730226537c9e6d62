"""A run that tags tokens, from spans of characters to entities in plain files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from tunesmith.run import Run, RunConfig, train

WORDS = ("great", "film", "cast", "plot")


def write_spans(path: Path) -> Path:
    rows = []
    for i in range(80):
        text = f"{'the ' * (i % 5)}{WORDS[i % 4]} number{i}, and the {WORDS[i % 3]} again {'and ' * (i % 7)}"
        start = text.index(WORDS[i % 4])
        rows.append({"text": text, "entities": [{"start": start, "end": start + len(WORDS[i % 4]), "label": "THING"}]})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_spans_are_learned_and_predicted_as_spans(configured: Callable[..., RunConfig], tmp_path: Path) -> None:
    data = write_spans(tmp_path / "spans.jsonl")
    config = configured(data=str(data), model={"name": configured().model.name, "max_length": 16}, train={"epochs": 4})
    run = Run.open(train(config))
    assert run.task.name == "token_classification"
    assert run.config.data.columns == {"text": "text", "entities": "entities"}
    assert run.evaluation["main_metric"] == "micro_f1"
    assert run.evaluation["num_rows"] == run.summary["rows"]["test"], "metrics count sentences, not windows"
    table = pq.read_table(run.folder / "predictions.parquet").to_pylist()
    assert {"row", "text", "tokens", "label", "prediction", "score", "entities"} <= set(table[0])
    for row in table:
        assert len(row["tokens"]) == len(row["label"]) == len(row["prediction"])
        assert all(row["text"][one["start"] : one["end"]] == one["text"] for one in row["entities"])
    plain = tmp_path / "plain.jsonl"
    texts = ["the great number7, and so on", "", "film"]
    plain.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    predicted = run.predict_file(str(plain))
    assert predicted == run.predict(texts)
    assert [len(row["tags"]) for row in predicted] == [7, 0, 1]
    again = run.evaluate()
    assert again["metrics"]["micro_f1"]["value"] == run.evaluation["metrics"]["micro_f1"]["value"]
    assert "token-classification" in (run.folder / "README.md").read_text(encoding="utf-8")
