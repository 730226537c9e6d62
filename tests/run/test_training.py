"""Whole runs of tiny models: what a run directory holds, and that it is what it says."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import tiny_folder
from tunesmith.config.build import build
from tunesmith.config.load import load_yaml
from tunesmith.files.atomic import is_leftover
from tunesmith.run import Observer, Run, RunConfig, train
from tunesmith.types import InputError, Problem

Configure = Callable[..., RunConfig]

TEXTS = ["this movie is great", "a boring waste of time", "the cast and the plot"]


class Watcher(Observer):
    """Keeps everything it is told."""

    def __init__(self) -> None:
        self.infos: list[Any] = []
        self.problems: list[Problem] = []
        self.records: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}

    def stepped(self, info: Any, total_steps: int) -> None:
        self.infos.append(info)

    def evaluated(self, record: dict[str, Any]) -> None:
        self.records.append(record)

    def noted(self, problem: Problem) -> None:
        self.problems.append(problem)

    def finished(self, summary: dict[str, Any]) -> None:
        self.summary = summary


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record["loss"] for record in map(json.loads, lines) if record["kind"] == "step"]


def test_a_run_learns_and_its_directory_is_complete(configured: Configure) -> None:
    watcher = Watcher()
    folder = train(configured(train={"epochs": 10}), observers=[watcher])
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} >= {
        "README.md",
        "checkpoints",
        "config.json",
        "config.yaml",
        "environment.json",
        "evaluation.json",
        "manifest.json",
        "metrics.jsonl",
        "model.safetensors",
        "predictions.parquet",
        "tensorboard",
        "tokenizer.json",
        "training.json",
    }
    assert not [path for path in folder.rglob("*") if is_leftover(path.name) or path.suffix in (".bin", ".pt", ".pkl")]
    run = Run.open(folder)
    accuracy = run.evaluation["metrics"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"]
    assert accuracy["value"] > 0.8  # of 16 rows
    assert run.evaluation["baseline"]["metrics"]["accuracy"]["value"] > 0.9
    assert len(watcher.infos) == run.summary["steps"] == 10 * 8
    assert losses(folder) == [info.loss for info in watcher.infos]
    assert len(watcher.records) == 10
    assert watcher.summary["num_trained_parameters"] == run.summary["num_parameters"]
    assert run.evaluate()["metrics"] == run.evaluation["metrics"]
    assert [row["label"] for row in run.predict(TEXTS[:2])] == ["good", "bad"]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # peft calls it
@pytest.mark.parametrize(
    "method", ["full", "lora", {"name": "freeze", "layers": 1}, {"name": "freeze", "all_but_head": True}]
)
@pytest.mark.parametrize("arch", ["bert", "llama"])
def test_a_run_loads_in_plain_transformers_and_peft(
    configured: Configure, tmp_path: Path, method: Any, arch: str
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = tiny_folder(tmp_path, arch)
    folder = train(configured(model=str(model), method=method, train={"epochs": 1}))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    if method == "lora":
        labels = {"id2label": {0: "bad", 1: "good"}, "label2id": {"bad": 0, "good": 1}}
        base = AutoModelForSequenceClassification.from_pretrained(model, **labels, dtype=torch.float32)
        plain = PeftModel.from_pretrained(base, folder)
    else:
        plain = AutoModelForSequenceClassification.from_pretrained(folder)
    plain.eval()
    expected = []
    for text in TEXTS:
        with torch.no_grad():
            expected.append(plain(**tokenizer(text, return_tensors="pt")).logits[0].double().softmax(-1))
    for found, probabilities in zip(Run.open(folder).predict(TEXTS), expected, strict=True):
        assert list(found["probabilities"].values()) == pytest.approx(probabilities.tolist(), abs=1e-5)


def test_a_saved_config_gives_the_same_run(configured: Configure, tmp_path: Path) -> None:
    first = train(configured(method="lora", train={"epochs": 1}))
    again = build(RunConfig, load_yaml(first / "config.yaml")).model_copy(update={"output": str(tmp_path / "again")})
    second = train(again)
    assert losses(second) == losses(first)
    assert (first / "adapter_model.safetensors").read_bytes() == (second / "adapter_model.safetensors").read_bytes()
    assert (
        json.loads((first / "evaluation.json").read_text())["metrics"]
        == (json.loads((second / "evaluation.json").read_text())["metrics"])
    )


@pytest.mark.parametrize("name", ["lstm", "cnn"])
def test_models_trained_from_scratch(configured: Configure, name: str) -> None:
    folder = train(configured(model={"name": name, "dropout": 0.1}, train={"epochs": 12, "learning_rate": 5e-3}))
    run = Run.open(folder)
    assert run.evaluation["metrics"]["accuracy"]["value"] > 0.9
    assert run.evaluate()["metrics"] == run.evaluation["metrics"]
    assert run.summary["layout"] == "padded"


def test_regression_and_pairs(configured: Configure, tmp_path: Path) -> None:
    rows = [{"a": f"the plot {i % 7}", "b": f"a film {i % 5}", "score": (i % 7) / 2} for i in range(120)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    columns = {"text": "a", "text_pair": "b", "label": "score"}
    folder = train(configured(data={"path": str(tmp_path / "pairs.jsonl"), "columns": columns}, task="regression"))
    run = Run.open(folder)
    assert set(run.evaluation["metrics"]) == {"rmse", "mae", "r2", "pearson", "spearman"}
    found = run.predict(["the plot 1"], ["a film 2"])
    assert "value" in found[0]
    assert run.predict([("the plot 1", "a film 2")]) == found
    assert run.predict({"a": "the plot 1", "b": "a film 2"}) == found
    with pytest.raises(InputError, match="trained on pairs"):
        run.predict(["the plot 1"])


def test_multi_label(configured: Configure, tmp_path: Path) -> None:
    words = {"great": "good", "boring": "bad", "film": "film"}
    rows = []
    for index in range(160):
        chosen = [word for bit, word in enumerate(words) if index >> bit & 1]
        rows.append({"text": " ".join([*chosen, "the", f"{index % 10}"]), "labels": [words[word] for word in chosen]})
    rows = [row for row in rows if row["labels"]]
    (tmp_path / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    folder = train(configured(data=str(tmp_path / "many.jsonl"), train={"epochs": 60, "batch_size": 8}))
    run = Run.open(folder)
    assert run.task.multi_label  # type: ignore[attr-defined]
    assert run.evaluation["metrics"]["micro_f1"]["value"] > 0.8
    assert set(run.predict(["great film"])[0]["label"]) <= {"good", "bad", "film"}


def test_early_stopping_returns_to_the_best_step(configured: Configure) -> None:
    watcher = Watcher()
    stopping = {"patience": 2, "metric": "loss"}
    train_settings = {"epochs": 40, "learning_rate": 0.03, "early_stopping": stopping, "clip_norm": None}
    folder = train(configured(train=train_settings), observers=[watcher])
    summary = Run.open(folder).summary
    values = {record["step"]: record["loss"] for record in watcher.records}
    best = min(values, key=values.__getitem__)
    assert summary["status"] == "stopped early"
    assert summary["best_step"] == best < summary["steps"]
    assert len([step for step in values if step > best]) == 2
    validation = Run.open(folder).evaluate(split="validation")
    assert validation["loss"] == pytest.approx(values[best], abs=1e-6)


def test_of_equal_steps_the_one_with_the_lower_loss_is_best(configured: Configure) -> None:
    watcher = Watcher()
    train_settings = {"epochs": 12, "learning_rate": 0.01, "early_stopping": {"patience": 2, "metric": "accuracy"}}
    summary = Run.open(train(configured(train=train_settings), observers=[watcher])).summary
    found = [(record["metrics"]["accuracy"], -record["loss"], record["step"]) for record in watcher.records]
    equal = [step for value, _, step in found if value == max(found)[0]]
    assert len(equal) > 2
    assert summary["best_step"] == max(found)[2] > equal[0]


@pytest.mark.parametrize("validated", ["one label", "one label, the loss grows"])
def test_an_undefined_metric_is_no_lack_of_gain(configured: Configure, tmp_path: Path, validated: str) -> None:
    word = "great" if validated == "one label" else "boring"  # what the others learn is wrong about these rows
    rows = [[f"{word} film number {index}", "good"] for index in range(12)]
    with (tmp_path / "one.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["review", "sentiment"], *rows])
    watcher = Watcher()
    train_settings = {
        "epochs": 16,
        "evaluate_steps": 24,
        "learning_rate": 0.01,
        "early_stopping": {"patience": 2, "metric": "mcc"},
    }
    config = configured(train=train_settings)
    data = config.data.changed(validation=str(tmp_path / "one.csv"))
    summary = Run.open(train(config.changed(data=data), observers=[watcher])).summary
    losses = [record["loss"] for record in watcher.records]
    warnings = [problem["message"] for problem in summary["problems"] if "mcc, is undefined" in problem["message"]]
    (warning,) = warnings
    assert warning.endswith("until it has a value, the validation loss decides.")
    assert summary["best_metric"] == {"name": "loss", "value": min(losses)}
    grows = losses.index(min(losses)) < len(losses) - 2
    assert summary["status"] == ("stopped early" if grows else "finished")
    assert grows == (validated != "one label")


def test_gradual_unfreezing_trains_more_as_it_goes(configured: Configure) -> None:
    folder = train(configured(method={"name": "freeze", "gradual": True}, train={"epochs": 4}))
    assert Run.open(folder).summary["num_trained_parameters"] > 1000


def test_a_folder_in_use_is_not_overwritten_by_accident(configured: Configure, tmp_path: Path) -> None:
    config = configured(train={"epochs": 1})
    folder = train(config)
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match="already holds a finished run"):
        train(config)
    assert (folder / "model.safetensors").read_bytes() == before
    train(config, overwrite=True)
    private = tmp_path / "letters"
    private.mkdir()
    (private / "novel.txt").write_text("chapter one", encoding="utf-8")
    with pytest.raises(InputError, match="does not delete"):
        train(config.model_copy(update={"output": str(private)}), overwrite=True)
    assert (private / "novel.txt").exists()


def test_problems_of_the_configuration_are_found_before_training(configured: Configure) -> None:
    cases = [
        ({"train": {"early_stopping": {"metric": "acuracy"}}}, "no metric of the task"),
        ({"train": {"early_stopping": {"patience": 1}}, "data": None}, "needs validation rows"),
        ({"train": {"optimizer": "adamax2"}}, "no optimizer"),
        ({"compute": {"device": "cuda:7"}}, "not on this machine"),
        ({"model": "lstm", "method": "lora"}, "lora"),
        ({"model": "lstm", "compute": {"layout": "flat"}}, "flat was asked for"),
    ]
    for sections, message in cases:
        config = configured(**{key: value for key, value in sections.items() if value is not None})
        if sections.get("data", "") is None:
            data = config.data.changed(validation_fraction=0.0)
            config = config.model_copy(update={"data": data})
        with pytest.raises(InputError, match=message):
            train(config)
        assert not (Path(config.output or "") / "metrics.jsonl").exists()


def test_damage_to_a_finished_run_is_named(configured: Configure) -> None:
    folder = train(configured(train={"epochs": 1}))
    weights = folder / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-9] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors was changed or damaged"):
        Run.open(folder)


def test_another_tokenizer_than_the_runs_is_refused(configured: Configure, bert_folder: Path, tmp_path: Path) -> None:
    base = shutil.copytree(bert_folder, tmp_path / "base")
    folder = train(configured(model=str(base), method="lora", train={"epochs": 1}))
    tokenizer = json.loads((base / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    first, second = list(vocabulary)[20:22]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (base / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    with pytest.raises(InputError, match="hash differs"):
        Run.open(folder).predict(TEXTS)


def test_labels_unknown_to_the_run_are_refused(configured: Configure, tmp_path: Path) -> None:
    folder = train(configured(train={"epochs": 1}))
    other = tmp_path / "other.csv"
    other.write_text("review,sentiment\nthe film,good\nthe plot,mixed\n", encoding="utf-8")
    with pytest.raises(InputError, match="mixed"):
        Run.open(folder).evaluate(str(other))
    other.write_text("review\nthe film\nthe plot\n", encoding="utf-8")
    with pytest.raises(InputError, match="no column 'sentiment'"):
        Run.open(folder).evaluate(str(other))
    assert len(Run.open(folder).predict_file(str(other))) == 2


def test_predictions_cover_every_row_of_a_file_in_order(configured: Configure, tmp_path: Path) -> None:
    folder = train(configured(train={"epochs": 1}))
    texts = ["great film", "", "great film", "boring", "x" * 5000]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"review": text}) + "\n" for text in texts), encoding="utf-8")
    run = Run.open(folder)
    rows = run.predict_file(str(path))
    assert [row["label"] for row in rows] == [row["label"] for row in run.predict(texts)]
    np.testing.assert_allclose(rows[0]["score"], rows[2]["score"], atol=1e-6)
    assert run.predict([]) == []


def test_work_that_was_refused_leaves_nothing_behind(configured: Configure, tmp_path: Path) -> None:
    config = configured(data=str(tmp_path / "missing.csv"), output=str(tmp_path / "new" / "run"))
    with pytest.raises(InputError, match="does not exist"):
        train(config)
    assert not (tmp_path / "new" / "run").exists()
