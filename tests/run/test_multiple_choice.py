"""Multiple choice as a user meets it: trained, judged, reported and asked by the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForMultipleChoice, AutoTokenizer

from tunesmith.cli.application import run as command
from tunesmith.run import Run

WORDS = ("great", "dull", "warm", "slow", "funny")


def row(i: int, number: int | None = None) -> dict[str, Any]:
    """Return a question whose right choice has its own word, with ``number`` choices, or two to four."""
    number = number or 2 + i % 3
    choices = [f"the {WORDS[(i + k) % 5]} film" for k in range(number)]
    label = (i * 7) % number
    return {"question": f"which is {WORDS[(i + label) % 5]}", "choices": choices, "label": label}


def test_the_command_line_trains_judges_reports_and_chooses(bert_folder: Path, tmp_path: Path) -> None:
    data, run = tmp_path / "rows.csv", tmp_path / "run"
    rows = [row(i) for i in range(120)]
    lines = [",".join([one["question"], *(one["choices"] + [""] * 2)[:4], "ABCD"[one["label"]]]) for one in rows]
    data.write_text("question,A,B,C,D,answer\n" + "".join(line + "\n" for line in lines), encoding="utf-8")
    flags = ["--train.epochs", "2", "--train.learning_rate", "0.003", "--evaluation.num_resamples", "20"]
    assert command(["train", "--model", str(bert_folder), "--data", str(data), "--output", str(run), *flags]) == 0
    opened = Run.open(run)
    assert opened.config.data.columns["choices"] == "A,B,C,D"
    assert opened.evaluate()["metrics"] == opened.evaluation["metrics"]
    assert "accuracy" in opened.evaluation["metrics"]
    assert "Multiple choice" in (run / "report.html").read_text(encoding="utf-8")
    asked, found = tmp_path / "asked.csv", tmp_path / "found.jsonl"
    asked.write_text(
        "question,A,B,C,D\n" + "".join(line.rpartition(",")[0] + "\n" for line in lines[:5]), encoding="utf-8"
    )
    assert command(["predict", str(run), "--data", str(asked), "--output", str(found)]) == 0
    predictions = list(map(json.loads, found.read_text(encoding="utf-8").splitlines()))
    model, tokenizer = AutoModelForMultipleChoice.from_pretrained(run).eval(), AutoTokenizer.from_pretrained(run)
    for one, given in zip(predictions, rows, strict=False):
        assert one["choice"] == given["choices"][one["label"]]
        inputs = tokenizer(
            [given["question"]] * len(given["choices"]), given["choices"], return_tensors="pt", padding=True
        )
        with torch.no_grad():
            logits = model(**{name: values[None] for name, values in inputs.items()}).logits[0]
        assert one["scores"] == pytest.approx(logits.softmax(-1).tolist(), abs=1e-5)
