"""A run that tags tokens, from spans of characters to entities in plain files."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tunesmith.run import Run, RunConfig, train
from tunesmith.types import InputError

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


def write_pairs(path: Path, num_rows: int = 160) -> Path:
    """Write CoNLL in which a word opens an entity or continues one: only the tag before it tells."""
    generator = random.Random(0)
    lines = []
    for _ in range(num_rows):
        tag = "O"
        for _ in range(generator.randint(3, 12)):
            word = generator.choice(("mark", "mark", "the", "film"))
            tag = "O" if word != "mark" else "I-NAME" if tag == "B-NAME" else "B-NAME"
            lines.append(f"{word}\t{tag}\n")
        lines.append("\n")
    path.write_text("".join(lines), encoding="utf-8")
    return path


def test_a_chain_of_tags_is_learned_from_scratch(configured: Callable[..., RunConfig], tmp_path: Path) -> None:
    model = {"name": "lstm", "embedding_size": 16, "hidden_size": 16, "dropout": 0.0}
    config = configured(
        data=str(write_pairs(tmp_path / "pairs.conll")),
        task={"name": "token_classification", "crf": True},
        model=model,
        train={"epochs": 12, "learning_rate": 2e-2},
    )
    run = Run.open(train(config))
    assert run.evaluation["metrics"]["micro_f1"]["value"] > 0.95
    again = run.evaluate()
    assert again["metrics"]["micro_f1"]["value"] == run.evaluation["metrics"]["micro_f1"]["value"]
    answer = run.predict(["the mark mark mark film"])[0]
    assert answer["tags"] == ["O", "B-NAME", "I-NAME", "B-NAME", "O"]
    assert 0 < answer["score"] <= 1
    saved = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    assert saved["id2label"]["8"] == "B-NAME>I-NAME"


def test_files_of_tokens_are_tagged_without_the_tags_column(
    configured: Callable[..., RunConfig], tmp_path: Path
) -> None:
    run = Run.open(train(configured(data=str(write_pairs(tmp_path / "pairs.conll")), train={"epochs": 1})))
    with_tags = tmp_path / "more.conll"
    with_tags.write_text("the\tO\nmark\tO\n\nfilm\tO\n", encoding="utf-8")
    other_columns = tmp_path / "other.conll"
    other_columns.write_text("the\tDT\nmark\tNN\n\nfilm\tNN\n", encoding="utf-8")
    lists = tmp_path / "lists.jsonl"
    lists.write_text('{"tokens": ["the", "mark"]}\n{"tokens": ["film"]}\n', encoding="utf-8")
    expected = run.predict_file(str(lists))
    assert [row["tokens"] for row in expected] == [["the", "mark"], ["film"]]
    assert run.predict_file(str(with_tags)) == expected
    assert run.predict_file(str(other_columns)) == expected
    alone = tmp_path / "alone.conll"
    alone.write_text("the\nmark\n\nfilm\n", encoding="utf-8")
    assert run.predict_file(str(alone)) == expected
    with pytest.raises(InputError, match="role 'tags'"):
        train(configured(data=str(alone), task="token_classification", output=str(tmp_path / "other")))
