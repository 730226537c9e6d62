"""The method that adapts: what it starts from, what it decides, and that a resumed run decides the same."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSequenceClassification
from safetensors.torch import load_file

from tiny import tiny_model
from tunesmith.config.build import build
from tunesmith.evaluate import compare_paired
from tunesmith.methods.auto import Auto
from tunesmith.methods.situation import Situation
from tunesmith.models.quiet import quiet
from tunesmith.run import Run, RunConfig, train
from tunesmith.run.directory import RunDirectory
from tunesmith.run.scores_file import read_scores

LONG = {"epochs": 5, "evaluate_steps": 4, "learning_rate": None}


@pytest.mark.parametrize(
    ("changes", "start", "rank"),
    [
        ({}, "full", 256),  # more labels than an adapter of so small a model holds, whatever its rank
        ({"num_answers": 100}, "lora", 8),
        ({"num_rows": 100}, "lora", 256),
        ({"noise": 0.3}, "lora", 256),
        ({"free_memory": 1000}, "lora", 256),
    ],
)
def test_it_starts_from_what_is_known_beforehand(changes: dict[str, Any], start: str, rank: int) -> None:
    usual = Situation(num_rows=10_000, num_answers=10**9, writes=False, noise=0.0, num_weights=10_000)
    model = tiny_model("bert", dtype=torch.float32)
    method = Auto().settled(model, replace(usual, **changes))
    assert (method.start, method.rank) == (start, rank)
    assert Auto(start="full").settled(model, replace(usual, num_rows=10)).start == "full", "what is given stays"


@pytest.mark.slow
@pytest.mark.parametrize("start", ["full", "lora"])
def test_a_resumed_run_decides_as_one_that_was_not_interrupted(
    configured: Callable[..., RunConfig], tmp_path: Path, start: str
) -> None:
    def run(name: str, *stops: int) -> Path:
        config = configured(method={"name": "auto", "start": start}, train=LONG, output=str(tmp_path / name))
        for until in stops:
            train(config, until=until, resume=until != stops[0])
        return train(config, resume=bool(stops))

    whole, resumed = run("whole"), run("resumed", 8, 20)
    records = [json.loads((folder / "training.json").read_text()) for folder in (whole, resumed)]
    assert records[0]["decisions"] == records[1]["decisions"]
    assert records[0]["steps"] == records[1]["steps"]
    name = "adapter_model.safetensors" if start == "lora" else "model.safetensors"
    first, second = (load_file(folder / name) for folder in (whole, resumed))
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_half_of_the_ranks_are_given_back_and_the_rest_is_a_plain_adapter(
    configured: Callable[..., RunConfig], tmp_path: Path
) -> None:
    method = {"name": "auto", "start": "lora", "rank": 2, "ends_early": False}
    folder = train(configured(method=method, train=LONG, output=str(tmp_path / "run")))
    record = json.loads((folder / "training.json").read_text())
    (moved,) = (one for one in record["decisions"] if "ranks" in one["what"])
    assert moved["step"] <= 21
    assert "Zhang" in moved["reason"]
    weights = load_file(folder / "adapter_model.safetensors")
    sides = [weight for name, weight in weights.items() if "lora_B" in name]
    kept = sum(int((weight != 0).any(dim=0).sum()) for weight in sides)
    assert {weight.shape[1] for weight in sides} == {4}
    assert kept == 2 * len(sides)
    with quiet():
        plain = AutoPeftModelForSequenceClassification.from_pretrained(folder, num_labels=2)
    assert plain.peft_config["default"].r == 4
    assert Run.open(folder).predict(["a great film"])[0]["label"] in ("good", "bad")


DATA = os.environ.get("TUNESMITH_TEST_DATA", "")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(not DATA, reason="TUNESMITH_TEST_DATA is not set")
@pytest.mark.parametrize(
    "data",
    ["sample:rotten-tomatoes", f"{DATA}/banking77/train.csv", f"{DATA}/stsb/sts-train.tsv.gz"],
    ids=["film reviews", "banking77", "stsb"],
)
def test_it_is_not_worse_than_what_it_starts_from(tmp_path: Path, data: str) -> None:
    """The interval of the difference on the same test rows does not lie below nothing."""
    rows = {"path": data, "limit": 1200, "test_fraction": 0.4, "validation_fraction": 0.1}
    sections: dict[str, Any] = {"model": "sample:minilm", "data": rows, "train": {"epochs": 6}}
    sections["evaluation"] = {"baseline": False, "keep_scores": True}
    auto = train(build(RunConfig, {**sections, "method": "auto", "output": str(tmp_path / "auto")}))
    settled = Run.open(auto).config.method
    assert isinstance(settled, Auto)
    start = {"name": "full"} if settled.start == "full" else {"name": "lora", "rank": settled.rank}
    plain = train(build(RunConfig, {**sections, "method": start, "output": str(tmp_path / "start")}))
    task = Run.open(auto).task
    first, second = (read_scores(RunDirectory(folder).scores) for folder in (auto, plain))
    difference = compare_paired(task, first.outputs, second.outputs, first.targets, seed=0)[task.main_metric()]
    worst = difference["high"] if task.higher_is_better[task.main_metric()] else -difference["low"]
    assert worst >= 0, difference
