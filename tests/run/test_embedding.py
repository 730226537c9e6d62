"""Embeddings as a user meets them: trained by the command line, asked for vectors, loaded by other libraries."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from tunesmith.cli.application import run as command
from tunesmith.run import Run, RunConfig, train

WORDS = ("great", "boring", "film", "plot", "warm", "dull")
CHOSEN = [[WORDS[i // place % 6] for place in (1, 6, 36)] for i in range(60)]
QUESTIONS = [" ".join(words) for words in CHOSEN]
ANSWERS = ["a {} time, and a {} cast, {}".format(*words) for words in CHOSEN]
"""No two are the same to the tokenizer, so that none is exactly as near as another."""


def write_pairs(folder: Path) -> Path:
    path = folder / "pairs.jsonl"
    rows = [{"anchor": text, "positive": answer} for text, answer in zip(QUESTIONS, ANSWERS, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, bert_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    given = ["train", "--model", str(bert_folder), "--data", str(write_pairs(folder)), "--output", str(folder / "run")]
    settings = ["--train.max_steps", "3", "--train.batch_size", "16", "--train.precision", "fp32"]
    settings += ["--compute.micro_batch_tokens", "60", "--evaluation.num_resamples", "20"]
    settings += ["--task", "embedding", "--task.matryoshka", "8,4", "--task.query_prefix", "film: "]
    assert command([*given, *settings]) == 0
    return folder / "run"


def as_written(folder: Path, texts: list[str]) -> Any:
    """Return the vectors of plain transformers: the mean of the last states, brought to length 1."""
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    found = []
    for text in texts:
        with torch.no_grad():
            states = model(**tokenizer(text, return_tensors="pt")).last_hidden_state
        found.append(torch.nn.functional.normalize(states[0].mean(dim=0), dim=-1).numpy())
    return np.stack(found)


def test_run_is_judged_against_the_model_before_training(trained: Path) -> None:
    run = Run.open(trained)
    assert run.task.name == "embedding"
    evaluation = run.evaluation
    assert evaluation["main_metric"] == "ndcg_at_10"
    assert set(evaluation["metrics"]) == {"ndcg_at_10", "mrr", "recall_at_1", "recall_at_10"}
    assert evaluation["baseline"]["name"] == "before fine-tuning"
    assert all(one["low"] <= one["value"] <= one["high"] for one in evaluation["metrics"].values())
    again = run.evaluate()
    assert again["metrics"]["mrr"]["value"] == pytest.approx(evaluation["metrics"]["mrr"]["value"])
    assert again["loss"] == pytest.approx(evaluation["loss"], abs=1e-6)
    card = (trained / "README.md").read_text(encoding="utf-8")
    assert "sentence-similarity" in card
    assert "nDCG@10" in card


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["loss"] for line in lines if line["kind"] == "step"]


def test_a_step_learns_the_same_however_few_of_its_rows_are_in_memory_at_once(
    configured: Callable[..., RunConfig], tmp_path: Path
) -> None:
    data = str(write_pairs(tmp_path))
    folders = [
        train(
            configured(
                data=data,
                task={"name": "embedding", "hard_negatives": 1},
                train={"max_steps": 3},
                compute={"micro_batch_tokens": tokens},
                evaluation={"num_resamples": 0, "baseline": False},
                output=str(tmp_path / f"of-{tokens}"),
            )
        )
        for tokens in (50, 10_000)
    ]
    assert losses(folders[0]) == pytest.approx(losses(folders[1]), rel=1e-4)


@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".jsonl"])
def test_vectors_are_written_in_every_form(trained: Path, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"vectors{suffix}"
    data = str(write_pairs(tmp_path))
    assert command(["embed", str(trained), "--data", data, "--output", str(output)]) == 0
    if suffix == ".npy":
        found = np.load(output)
    elif suffix == ".parquet":
        found = np.array(pq.read_table(output)["embedding"].to_pylist())
    else:
        found = np.array([json.loads(line)["embedding"] for line in output.read_text().splitlines()])
    expected = as_written(trained, [f"film: {text}" for text in QUESTIONS[:8]])
    np.testing.assert_allclose(found[:8], expected, atol=1e-5)
    assert found.shape == (60, 16)
    assert command(["embed", str(trained), "--data", data, "--output", str(output)]) == 2  # it is there already


def test_passages_are_those_of_the_other_side(trained: Path, tmp_path: Path, capsys: Any) -> None:
    data = str(write_pairs(tmp_path))
    capsys.readouterr()
    assert command(["embed", str(trained), "--data", data, "--passages"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["row"] for line in lines] == list(range(1, 61))
    expected = as_written(trained, ANSWERS[:1])
    np.testing.assert_allclose(lines[0]["embedding"], expected[0], atol=1e-5)
    other = tmp_path / "passages.txt"
    other.write_text(f"{ANSWERS[0]}\nanother\n", encoding="utf-8")
    assert command(["embed", str(trained), "--data", str(other), "--passages"]) == 0
    again = [json.loads(line)["embedding"] for line in capsys.readouterr().out.splitlines()]
    np.testing.assert_allclose(again[0], expected[0], atol=1e-5)
    assert len(again) == 2


def test_what_cannot_be_embedded_is_said(
    trained: Path, tmp_path: Path, capsys: Any, configured: Callable[..., RunConfig]
) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"one": "film", "two": "plot"}\n', encoding="utf-8")
    assert command(["embed", str(trained), "--data", str(other)]) == 2
    assert "--columns anchor=COLUMN" in capsys.readouterr().err
    assert command(["embed", str(trained), "--data", str(other), "--columns", "anchor=two"]) == 0
    assert command(["embed", str(trained)]) == 2
    assert command(["embed", str(trained), "--text", "film", "--output", str(tmp_path / "v.csv")]) == 2
    labels = train(configured(train={"max_steps": 1}, evaluation={"num_resamples": 0, "baseline": False}))
    assert command(["embed", str(labels), "--text", "film"]) == 2
    assert "gives texts no vectors" in capsys.readouterr().err


def test_sentence_transformers_loads_the_folder(trained: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    model = library.SentenceTransformer(str(trained), device="cpu")
    run = Run.open(trained)
    np.testing.assert_allclose(model.encode_query(QUESTIONS[:4]), run.embed(QUESTIONS[:4]), atol=1e-5)
    np.testing.assert_allclose(model.encode_document(QUESTIONS[:4]), run.embed(QUESTIONS[:4], passages=True), atol=1e-5)


def test_an_adapter_is_a_model_for_other_runs_and_keeps_how_it_pools(
    configured: Callable[..., RunConfig], tmp_path: Path
) -> None:
    first = configured(
        data=str(write_pairs(tmp_path)),
        task={"name": "embedding", "pooling": "cls"},
        method={"name": "lora", "rank": 2},
        train={"max_steps": 2},
        evaluation={"num_resamples": 0, "baseline": False},
    )
    adapter = Run.open(train(first))
    assert json.loads((adapter.folder / "modules.json").read_text())[1]["path"] == "1_Pooling"
    second = configured(
        model=str(adapter.folder),
        data=str(tmp_path / "pairs.jsonl"),
        task="embedding",
        train={"max_steps": 1, "learning_rate": 1e-12},
        evaluation={"num_resamples": 0, "baseline": False},
        output=str(tmp_path / "second"),
    )
    run = Run.open(train(second))
    task: Any = run.task
    assert task.pooling == "cls"
    np.testing.assert_allclose(run.embed(QUESTIONS), adapter.embed(QUESTIONS), atol=1e-5)
