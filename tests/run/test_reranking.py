"""Reranking as a user meets it: trained, judged, asked by the command line, loaded by sentence-transformers."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from tunesmith.cli.application import run as command
from tunesmith.run import Run

WORDS = ("great", "dull", "warm", "slow", "funny")


def row(i: int) -> dict[str, Any]:
    """Return a query whose right candidate has its own word."""
    word = WORDS[i % 5]
    wrong = [f"the {other} film {i % 7}" for other in WORDS if other != word]
    return {
        "query": f"which is {word} {i % 31}",
        "positive": f"the {word} film {i % 7}",
        "negative": wrong[: 2 + i % 2],
    }


def test_the_command_line_trains_judges_and_puts_in_order(bert_folder: Path, tmp_path: Path) -> None:
    data, run = tmp_path / "rows.jsonl", tmp_path / "run"
    data.write_text("".join(json.dumps(row(i)) + "\n" for i in range(120)), encoding="utf-8")
    flags = ["--train.epochs", "2", "--train.learning_rate", "0.003", "--evaluation.num_resamples", "20"]
    flags += ["--task", "reranking", "--output", str(run)]
    assert command(["train", "--model", str(bert_folder), "--data", str(data), *flags]) == 0
    opened = Run.open(run)
    assert opened.evaluate()["metrics"] == opened.evaluation["metrics"]
    assert opened.evaluation["baseline"]["name"] == "word overlap (BM25)"
    asked, found = tmp_path / "asked.jsonl", tmp_path / "found.jsonl"
    rows = [{"query": row(i)["query"], "candidates": [*row(i)["negative"], row(i)["positive"]]} for i in range(6)]
    asked.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")
    assert command(["predict", str(run), "--data", str(asked), "--output", str(found)]) == 0
    predictions = list(map(json.loads, found.read_text(encoding="utf-8").splitlines()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import CrossEncoder

        encoder = CrossEncoder(str(run), device="cpu")
        for one, given in zip(predictions, rows, strict=True):
            assert one["scores"] == sorted(one["scores"], reverse=True)
            assert one["candidates"] == [given["candidates"][place] for place in one["order"]]
            theirs = encoder.predict([(given["query"], text) for text in one["candidates"]])
            assert one["scores"] == pytest.approx(theirs.tolist(), abs=1e-6)
    assert opened.predict([(rows[0]["query"], rows[0]["candidates"])])[0]["order"] == predictions[0]["order"]
