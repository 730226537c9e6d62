"""Question answering as a user meets it: trained, judged, reported and asked by the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from tunesmith.cli.application import run as command
from tunesmith.data.encoded import as_ragged
from tunesmith.run import Run, RunConfig
from tunesmith.run.guards import check_same_config
from tunesmith.types import InputError

FILLER = ("the", "film", "plot", "cast", "this", "movie", "time")
GOOD = ("great", "warm", "funny")


def row(i: int) -> dict[str, Any]:
    """Return a question whose answer, if there is one, stands behind "great", in contexts of one or several windows."""
    words = [FILLER[(i * 3 + place) % 7] for place in range(12 + i % 4 * 20)]
    if i % 3:
        words[(i * 7) % len(words) : (i * 7) % len(words) + 2] = ["great", GOOD[1 + i % 2]]
    context = " ".join(words)
    found = [] if i % 3 == 0 else [{"text": GOOD[1 + i % 2], "answer_start": context.index("great") + 6}]
    return {"id": f"q{i}", "question": f"what is {GOOD[0]}", "answers": found, "context": context}


def squad(first: int, number: int) -> str:
    rows = [row(i) for i in range(first, first + number)]
    paragraphs = [{"context": one.pop("context"), "qas": [one]} for one in rows]
    return json.dumps({"version": "v2.0", "data": [{"title": "films", "paragraphs": paragraphs}]}, indent=1)


def with_threshold(run: Run, threshold: float | None) -> RunConfig:
    assert run.config.task is not None
    return run.config.changed(task=run.config.task.changed(no_answer_threshold=threshold))


def test_the_command_line_trains_judges_reports_and_answers(
    bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = tmp_path / "train.json", tmp_path / "run"
    data.write_text(squad(0, 120), encoding="utf-8")
    flags = ["--train.epochs", "5", "--train.learning_rate", "0.01", "--train.batch_size", "8", "--task.stride", "8"]
    flags = [*flags, "--task", "question_answering"]
    assert command(["train", "--model", str(bert_folder), "--data", str(data), "--output", str(run), *flags]) == 0
    opened = Run.open(run)
    evaluation = opened.evaluation
    assert evaluation["main_metric"] == "f1"
    assert evaluation["metrics"]["exact_match"]["value"] > 0.8
    assert evaluation["difference"]["f1"]["low"] > 0
    assert opened.evaluate()["metrics"] == evaluation["metrics"]
    assert opened.config.task is not None
    assert opened.config.task.no_answer_threshold is not None  # type: ignore[attr-defined]
    assert "no_answer_threshold" in " ".join(problem["message"] for problem in opened.summary["problems"])
    # Stopped just before its end, a run has its threshold already, and is the same run; with another one it is not.
    check_same_config(opened.directory, with_threshold(opened, None))
    with pytest.raises(InputError, match="no_answer_threshold"):
        check_same_config(opened.directory, with_threshold(opened, 3.5))
    report = (run / "report.html").read_text(encoding="utf-8")
    assert "Question answering" in report
    assert "no answer" in report
    assert re.search(r"pipeline_tag: question-answering", (run / "README.md").read_text(encoding="utf-8"))

    rows = [row(i) for i in range(200, 216)]
    asked, found = tmp_path / "asked.jsonl", tmp_path / "found.jsonl"
    bare = [
        {"question": one["question"], "context": f"  {one['context']}"} for one in rows
    ]  # places are the user's own
    asked.write_text("".join(json.dumps(one) + "\n" for one in bare), encoding="utf-8")
    assert command(["predict", str(run), "--data", str(asked), "--output", str(found)]) == 0
    predictions = list(map(json.loads, found.read_text(encoding="utf-8").splitlines()))
    truths = [one["answers"][0]["text"] if one["answers"] else "" for one in rows]
    assert sum(one["answer"] == truth for one, truth in zip(predictions, truths, strict=True)) >= 13
    for one, given in zip(predictions, bare, strict=True):
        assert one["answer"] == ("" if one["start"] is None else given["context"][one["start"] : one["end"]])
        assert {"answer", "start", "end", "score"} == set(one["n_best"][0])
    labelled = tmp_path / "test.json"
    labelled.write_text(squad(300, 20), encoding="utf-8")
    assert command(["evaluate", str(run), "--data", str(labelled)]) == 0
    capsys.readouterr()

    network = opened.network
    encoded = network.encode(opened.task, {name: [one[name] for one in bare] for name in ("question", "context")})
    model, tokenizer = AutoModelForQuestionAnswering.from_pretrained(run).eval(), AutoTokenizer.from_pretrained(run)
    inputs = tokenizer(bare[0]["question"], bare[0]["context"], return_tensors="pt")
    with torch.no_grad():
        plain = model(**inputs)
    scores = as_ragged(opened.predictor.tokens(opened.task, encoded).outputs["scores"])[0]
    for side, logits in enumerate((plain.start_logits, plain.end_logits)):
        torch.testing.assert_close(torch.tensor(scores[:, side]), logits[0], rtol=0, atol=1e-5)


def test_answers_that_are_nowhere_stop_a_training_with_file_and_key(
    bert_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**row(i), "answers": "words of nobody"} if i % 3 else row(i) for i in range(40)]
    data = tmp_path / "free.jsonl"
    data.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    given = ["--model", str(bert_folder), "--data", str(data), "--task", "question_answering"]
    assert command(["train", *given, "--output", str(tmp_path / "run")]) == 2
    shown = " ".join(capsys.readouterr().err.split())
    assert "26 of 40 rows" in shown
    assert "free.jsonl:2" in shown
    assert "data.bad_rows quarantine" in shown
    assert "--task causal_lm" in shown
