"""Whole runs beside a quantised base, and runs that go on from others."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tiny import tiny_folder
from tunesmith.config.build import build
from tunesmith.run import Run, RunConfig, train
from tunesmith.run.observers import Observer
from tunesmith.types import InputError, Problem, StepInfo

WORDS = ("great", "boring", "film", "plot")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNESMITH_CACHE", str(tmp_path / "cache"))


class Crash(BaseException):
    """Ends a run in process as a kill would."""


class CrashAt(Observer):
    def __init__(self, step: int) -> None:
        self.step = step

    def stepped(self, info: StepInfo, total_steps: int) -> None:
        if info.step == self.step:
            raise Crash


def config(folder: Path, model: Path, output: str, **sections: Any) -> RunConfig:
    data = folder / "rows.jsonl"
    if not data.exists():
        rows = [{"text": f"this {WORDS[i % 4]} {WORDS[i // 4 % 4]} {i}", "label": i % 2} for i in range(96)]
        data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = {"epochs": 2, "batch_size": 16, "learning_rate": 1e-2, "precision": "fp32"}
    values = {
        "model": str(model),
        "data": str(data),
        "output": str(folder / output),
        "evaluation": {"num_resamples": 0, "baseline": False},
        "train": {**settings, **sections.pop("train", {})},
        "compute": {"checkpoint_steps": 2},
        **sections,
    }
    return build(RunConfig, values)


def figures(folder: Path) -> tuple[bytes, dict[str, Any]]:
    evaluation = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))
    return (folder / "adapter_model.safetensors").read_bytes(), {"loss": evaluation["loss"], **evaluation["metrics"]}


@pytest.mark.parametrize("scheme", ["nf4", "int8"])
def test_a_quantised_run_is_resumed_and_reopened_as_it_was(scheme: str, tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = tiny_folder(tmp_path, "bert", hidden_size=64, intermediate_size=128)
    method = {"name": "lora", "rank": 2, "quantize": scheme}
    whole = train(config(tmp_path, model, "whole", method=method))
    broken = config(tmp_path, model, "broken", method=method)
    with pytest.raises(Crash):
        train(broken, observers=[CrashAt(5)])
    resumed = train(broken, resume=True)
    assert figures(resumed) == figures(whole)
    run = Run.open(whole)
    assert run.evaluate()["loss"] == pytest.approx(run.evaluation["loss"], rel=1e-6)
    recorded = json.loads((whole / "environment.json").read_text(encoding="utf-8"))["model"]
    assert recorded["architecture"] == "BertForSequenceClassification"
    assert recorded["num_layers"] == 2
    assert recorded["new_parameters"] == ["classifier.bias", "classifier.weight"]
    assert recorded["source"] == f"folder {model}"


def test_a_bf16_run_beside_4_bits(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    model = tiny_folder(tmp_path, "bert", hidden_size=64, intermediate_size=128)
    method = {"name": "lora", "rank": 2, "quantize": "nf4"}
    folder = train(config(tmp_path, model, "run", method=method, train={"precision": "bf16"}))
    run = Run.open(folder)
    assert run.evaluate()["loss"] == pytest.approx(run.evaluation["loss"], rel=1e-3)


def test_a_run_goes_on_from_an_adapter_run(tmp_path: Path) -> None:
    base = tiny_folder(tmp_path)
    first = train(config(tmp_path, base, "first", method={"name": "lora", "rank": 2}))
    for name, method in (("second", "full"), ("third", "lora")):
        second = train(config(tmp_path, first, name, method=method, train={"learning_rate": 1e-8, "max_steps": 1}))
        # Nearly nothing was learned on top, so that the first run's figures must come out again.
        before, after = Run.open(first).evaluation, Run.open(second).evaluation
        assert after["loss"] == pytest.approx(before["loss"], rel=1e-4)
        recorded = json.loads((second / "environment.json").read_text(encoding="utf-8"))["model"]
        assert recorded["source"] == f"adapter {first}, merged into folder {base}"
        assert recorded["hub_id"] is None
        assert recorded["new_parameters"] == []
    texts = ["this great film", "this boring plot"]
    expected = Run.open(tmp_path / "third").predict(texts)
    shutil.rmtree(tmp_path / "cache")
    assert Run.open(tmp_path / "third").predict(texts) == expected
    shutil.rmtree(base)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(InputError, match="base model is not to be found"):
        Run.open(tmp_path / "third").predict(texts)


@pytest.mark.parametrize(("name", "is_kept"), [("cnn", False), ("lstm", True)])
def test_heads_of_networks_from_scratch_are_trained_alone(name: str, is_kept: bool, tmp_path: Path) -> None:
    """What an LSTM's layers make of the rows is kept, in both directions; convolutions side by side are no layers."""
    noted: list[str] = []

    class Listener(Observer):
        def noted(self, problem: Problem) -> None:
            noted.append(problem.message)

    settings = config(tmp_path, tmp_path, "run", method={"name": "freeze", "all_but_head": True})
    values = {**settings.model_dump(mode="json", exclude={"model"}), "model": {"name": name, "embedding_size": 16}}
    folder = train(build(RunConfig, values), observers=[Listener()])
    assert json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["metrics"]
    assert any("layers are frozen" in message for message in noted) == is_kept
