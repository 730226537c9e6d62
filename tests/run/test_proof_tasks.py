"""The tests' own tasks as a user meets them: trained, stopped, resumed, reported and asked by the command line."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from proof_tasks import registered
from tunesmith.cli.application import run as command
from tunesmith.run import Run, RunConfig, Stopped, train
from tunesmith.run.observers import Observer

GOOD, BAD = ("great", "warm", "funny"), ("boring", "dull", "slow")
FILLER = ("the", "film", "plot", "cast", "this", "movie", "time")


@pytest.fixture(autouse=True, scope="module")
def _known() -> Iterator[None]:
    with registered():
        yield


def pair(i: int) -> dict[str, Any]:
    """Return two films, of which the better one may stand first or second; they differ in length."""
    better, worse = f"{FILLER[i % 7]} film {GOOD[i % 3]}", f"{BAD[i % 3]} plot" + " of this cast" * (i % 4)
    return (
        {"first": better, "second": worse, "better": "first"}
        if i % 2
        else {"first": worse, "second": better, "better": "second"}
    )


ROWS = {"pair_ranking": pair}
tasks = pytest.mark.parametrize("task", ROWS)


def write_rows(folder: Path, task: str, number: int = 120) -> Path:
    path = folder / f"{task}.jsonl"
    path.write_text("".join(json.dumps(ROWS[task](i)) + "\n" for i in range(number)), encoding="utf-8")
    return path


def config_of(configured: Any, folder: Path, task: str, output: str, layout: str = "flat") -> RunConfig:
    return configured(
        data=str(write_rows(folder, task)),
        model={"name": configured().model.name, "dropout": 0.0},
        task=task,
        method={"name": "lora", "rank": 4},
        train={"epochs": 1.5, "batch_size": 8},
        compute={"layout": layout, "micro_batch_tokens": 200},
        evaluation={"num_resamples": 20},
        output=str(folder / output),
    )


def losses(folder: Path) -> list[float]:
    lines = map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
    return [line["loss"] for line in lines if line["kind"] == "step"]


class StopAfter(Observer):
    def stepped(self, info: Any, total_steps: int) -> None:
        if info.step == 3:
            os.kill(os.getpid(), signal.SIGTERM)


@tasks
def test_resumed_equals_uninterrupted_and_flat_equals_padded(configured: Any, tmp_path: Path, task: str) -> None:
    whole = train(config_of(configured, tmp_path, task, "whole"))
    assert Run.open(whole).summary["layout"] == "flat"
    with pytest.raises(Stopped):
        train(config_of(configured, tmp_path, task, "resumed"), observers=[StopAfter()])
    resumed = train(config_of(configured, tmp_path, task, "resumed"), resume=True)
    first, second = ((folder / "adapter_model.safetensors").read_bytes() for folder in (whole, resumed))
    assert first == second
    assert losses(resumed) == losses(whole)
    padded = config_of(configured, tmp_path, task, "padded", "padded")
    assert losses(train(padded)) == pytest.approx(losses(whole), rel=1e-3, abs=1e-5)


@tasks
def test_the_command_line_trains_judges_reports_and_predicts(
    bert_folder: Path, tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = write_rows(tmp_path, task), tmp_path / "run"
    flags = ["--train.epochs", "6", "--train.learning_rate", "0.01", "--train.batch_size", "8"]
    given = ["--model", str(bert_folder), "--data", str(data), "--task", task, "--output", str(run)]
    assert command(["train", *given, *flags]) == 0
    opened = Run.open(run)
    main = opened.evaluation["main_metric"]
    assert opened.evaluation["metrics"][main]["value"] > 0.8
    assert opened.evaluate()["metrics"][main]["value"] == opened.evaluation["metrics"][main]["value"]
    assert task in (run / "config.yaml").read_text(encoding="utf-8")
    assert opened.task.title in (run / "report.html").read_text(encoding="utf-8")
    assert (
        opened.task.title in (run / "README.md").read_text(encoding="utf-8")
        or "model" in (run / "README.md").read_text()
    )
    bare = tmp_path / "bare.jsonl"
    rows = [{name: value for name, value in ROWS[task](i).items() if name != "better"} for i in range(200, 216)]
    bare.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    capsys.readouterr()
    found = tmp_path / "found.jsonl"
    assert command(["predict", str(run), "--data", str(bare), "--output", str(found)]) == 0
    predictions = list(map(json.loads, found.read_text(encoding="utf-8").splitlines()))
    right = [ROWS[task](200 + i)["better"] for i in range(16)]
    assert sum(one["label"] == truth for one, truth in zip(predictions, right, strict=True)) >= 12
    assert command(["evaluate", str(run), "--data", str(data)]) == 0
