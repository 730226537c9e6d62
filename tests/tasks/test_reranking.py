"""Reranking: losses and metrics beside their references, the rival, and rows in every form."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import ndcg_score

from tiny import tiny_tokenizer
from tunesmith import metrics
from tunesmith.data import prepare
from tunesmith.data.config import DataConfig
from tunesmith.data.encoded import Ragged, Units
from tunesmith.metrics.reranking import RankedQuery
from tunesmith.run.rows import find_rows
from tunesmith.tasks import Reranking
from tunesmith.tasks.word_overlap import WordOverlap
from tunesmith.types import InputError

GRADES = [[1.0, 0.0, 0.0], [0.0, 2.0], [1.0, 0.0, 2.0, 0.0], [1.0, 1.0]]
COLUMNS: dict[str, Any] = {
    "query": ["a", "b", "c", "d"],
    "candidates": [[f"{row} {place}" for place in range(len(own))] for row, own in enumerate(GRADES)],
    "grades": GRADES,
}


def losses(loss: str, scores: torch.Tensor) -> tuple[float, float]:
    task = Reranking(loss=loss).bind(COLUMNS)
    rows = np.concatenate([[0], np.cumsum([len(own) for own in GRADES])])
    units = Units(np.arange(rows[-1] + 1), rows)
    targets = {"grade": torch.tensor([grade for own in GRADES for grade in own])}
    return float(task.loss_sum(scores[:, None], targets, units)), task.count_units(targets, units)


def test_losses_are_those_of_their_papers() -> None:
    scores = torch.randn(11, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    split = torch.split(scores, [len(own) for own in GRADES])
    wanted = [torch.tensor(own, dtype=torch.float64) for own in GRADES]
    listwise = [-(own / own.sum() * part.log_softmax(0)).sum() for own, part in zip(wanted, split, strict=True)]
    assert losses("listwise", scores) == (pytest.approx(float(sum(listwise[:3]))), 3.0)
    pairwise = []
    for own, part in zip(wanted, split, strict=True):
        pairs = [(i, j) for i in range(len(own)) for j in range(len(own)) if own[i] > own[j]]
        pairwise += [sum(-torch.nn.functional.logsigmoid(part[i] - part[j]) for i, j in pairs) / max(len(pairs), 1)]
    assert losses("pairwise", scores) == (pytest.approx(float(sum(pairwise))), 3.0)
    binary = torch.nn.functional.binary_cross_entropy_with_logits(scores, torch.cat(wanted) / 2, reduction="sum")
    assert losses("binary", scores) == (pytest.approx(float(binary)), 11.0)


def test_metrics_are_those_of_scikit_learn_and_of_the_definitions() -> None:
    random = np.random.default_rng(0)
    queries = [RankedQuery(row, random.normal(size=14).round(1), random.integers(0, 4, 14) * 1.0) for row in range(20)]
    found = metrics.reranking_metrics(queries, 0.0, np.ones((1, 20)))
    expected = np.mean([ndcg_score(one.grades[None], one.scores[None], k=10) for one in queries])
    assert found["ndcg_at_10"][0] == pytest.approx(expected)
    query = RankedQuery(0, np.array([3.0, 2.0, 1.0]), np.array([0.0, 1.0, 2.0]))
    one = {name: float(value[0]) for name, value in metrics.reranking_metrics([query], 0.0, np.ones((1, 1))).items()}
    assert one["mrr"] == 0.5
    assert one["recall_at_1"] == 0.0
    assert one["accuracy"] == 0.0
    level = RankedQuery(0, np.zeros(2), np.array([0.0, 1.0]))
    half = metrics.reranking_metrics([level], 0.0, np.ones((1, 1)))
    assert half["mrr"][0] == pytest.approx(1 / 1.5)
    assert half["recall_at_1"][0] == half["accuracy"][0] == 0.5


def test_a_querys_rows_are_judged_together_and_weigh_as_its_first_row() -> None:
    columns = {
        "query": ["a", "b", "a"],
        "candidates": [["x", "y"], ["u", "v"], ["z", "x"]],
        "grades": [[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]],
    }
    task = Reranking().bind(columns)
    outputs = {"scores": Ragged(np.array([2.0, 1.0, 1.0, 0.0, 3.0, 2.0], np.float32), np.array([0, 2, 4, 6]))}
    targets = task.targets(columns)
    assert task.details(outputs, targets) == {"num_queries": 2, "num_compared": 5}
    found = task.measure(outputs, targets, np.array([[1.0, 1.0, 1.0], [2.0, 0.0, 0.0], [0.0, 1.0, 5.0]]))
    assert found["mrr"].tolist() == [0.5, 0.5, 0.5]  # z comes before x; v after u
    assert found["accuracy"].tolist() == [0.25, 0.5, 0.0]
    assert task.decode(outputs, columns)[2]["candidates"] == ["z", "x"]
    assert task.errors(outputs, targets).tolist() == [0.0, 1.0, 1.0]


def test_the_rival_finds_rare_words() -> None:
    overlap = WordOverlap(["the sun shines", "the rain falls", "the sun and the rain"])
    assert int(np.argmax(overlap.scores("the falls", ["the sun", "falls of it"]))) == 1
    assert overlap.scores("nothing here", ["the sun"]) == [0.0]
    assert int(np.argmax(overlap.scores("下雨", ["天晴", "下雨了"]))) == 1


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


LISTS = [
    {"query": f"what is number {i}", "candidates": [f"number {i}", f"letter {i}", ""], "grades": [2, 0, 1]}
    for i in range(12)
]
SIDES = [
    {"question": f"what is number {i}", "positive": f"number {i}", "negative": [f"letter {i}", f"number {i}"],
     "negative_2": f"word {i}"}
    for i in range(12)
]  # fmt: skip
PAIRS = [
    {"query": f"what is number {i // 2}", "passage": f"{'letter' if i % 2 else 'number'} {i // 2}", "label": 1 - i % 2}
    for i in range(24)
]


@pytest.mark.parametrize("rows", [LISTS, SIDES, PAIRS], ids=["lists", "sides", "pairs"])
def test_rows_are_read_in_every_form(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    data = DataConfig(path=str(jsonl(tmp_path / "rows.jsonl", rows)))
    task = None if rows is LISTS else Reranking()
    found = find_rows(data, task)
    assert found.task.name == "reranking"
    prepared = prepare(found.raw, found.data, found.choices, found.form)
    read = [row for split in prepared.splits.values() for row in split]
    assert len(read) == len(rows)
    by_query: dict[str, list[tuple[str, float]]] = {}
    for row in read:
        by_query.setdefault(row["query"], []).extend(zip(row["candidates"], row["grades"], strict=True))
    assert len(by_query) == 12
    expected = {
        id(LISTS): [("number 3", 2.0), ("letter 3", 0.0), ("", 1.0)],
        id(SIDES): [("number 3", 1.0), ("letter 3", 0.0), ("word 3", 0.0)],
        id(PAIRS): [("number 3", 1.0), ("letter 3", 0.0)],
    }[id(rows)]
    assert sorted(by_query["what is number 3"]) == sorted(expected)


def test_grades_that_do_not_fit_are_bad_rows(tmp_path: Path) -> None:
    rows = [dict(row) for row in LISTS]
    rows[3] = {**rows[3], "grades": [1, 0]}
    rows[5] = {**rows[5], "candidates": [], "grades": []}
    found = find_rows(DataConfig(path=str(jsonl(tmp_path / "rows.jsonl", rows)), bad_rows="quarantine"), Reranking())
    prepared = prepare(found.raw, found.data, found.choices, found.form)
    said = " ".join(problem.message for problem in prepared.problems)
    assert "not as many as candidates" in said
    assert "no candidate" in said
    assert sum(len(split) for split in prepared.splits.values()) == 10


def test_candidates_of_one_grade_alone_are_refused() -> None:
    with pytest.raises(InputError, match="the same grade"):
        Reranking().bind({"query": ["a"], "candidates": [["x", "y"]], "grades": [[0.0, 0.0]]})
    pairs = {"query": ["a", "a"], "candidates": [["x"], ["y"]], "grades": [[0.0], [1.0]]}
    assert Reranking().bind(pairs).loss == "binary"
    assert Reranking().bind(COLUMNS).grade_range == (0.0, 2.0)
    encoded = Reranking().bind(COLUMNS).encode(COLUMNS, tiny_tokenizer(), 32)
    assert list(encoded.remarks.values()) == [1]
